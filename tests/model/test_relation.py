from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from model.backbones import ARCHITECTURES
from model.checkpoint import load_checkpoint, save_checkpoint
from model.network import ActionNetwork
from model.relation import ActorContext

CHANNELS = 6


@pytest.fixture
def relation() -> ActorContext:
    torch.manual_seed(3)
    return ActorContext(CHANNELS)


def published_form(relation: ActorContext, vectors, maps, clip_index) -> torch.Tensor:
    """Tile the actor over the map, concatenate the context, convolve 1x1 and 3x3, take the maximum."""
    height, width = maps.shape[2:]
    tiled = vectors[:, :, None, None].expand(-1, -1, height, width)
    both = torch.cat([tiled, maps[clip_index]], dim=1)
    kernel = torch.cat([relation.actor.weight, relation.context.weight.flatten(1)], dim=1)[:, :, None, None]
    norm1, relu, conv, norm2, _ = relation.mix
    mixed = norm1(functional.conv2d(both, kernel)[:, :, None])
    mixed = functional.conv2d(relu(mixed)[:, :, 0], conv.weight[:, :, 0], padding=1)
    return relu(norm2(mixed[:, :, None])).amax(dim=(2, 3, 4))


@pytest.mark.parametrize("training", [False, True])
def test_it_is_tile_concatenate_convolve(relation: ActorContext, training: bool) -> None:
    vectors, maps = torch.randn(3, CHANNELS), torch.randn(2, CHANNELS, 4, 5)
    index = torch.tensor([0, 1, 1])
    relation.train(training)
    torch.testing.assert_close(
        relation(vectors, maps, index), published_form(relation, vectors, maps, index), atol=1e-5, rtol=1e-5
    )


def test_a_far_corner_of_its_own_scene_matters_and_another_scene_does_not(relation: ActorContext) -> None:
    relation.eval()
    vectors, maps, index = torch.randn(2, CHANNELS), torch.randn(2, CHANNELS, 7, 9), torch.tensor([0, 1])
    before = relation(vectors, maps, index)
    maps[0, :, 6, 8] += 20
    after = relation(vectors, maps, index)
    assert not torch.allclose(before[0], after[0])
    torch.testing.assert_close(before[1], after[1])


def test_a_batch_without_boxes_trains(relation: ActorContext) -> None:
    relation.train()
    vectors = relation(
        torch.zeros(0, CHANNELS), torch.randn(1, CHANNELS, 2, 2), torch.zeros(0, dtype=torch.int64)
    )
    assert vectors.shape == (0, CHANNELS)
    torch.autograd.backward(vectors.sum())
    assert all(float(parameter.grad.abs().sum()) == 0 for parameter in relation.parameters())


def test_the_network_relates_and_its_checkpoint_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    tiny = dataclasses.replace(ARCHITECTURES["slowfast_small"], name="acrn_tiny", actor_context=True)
    monkeypatch.setitem(ARCHITECTURES, "acrn_tiny", tiny)
    network = ActionNetwork("acrn_tiny", ("feeding", "walk")).to(memory_format=torch.channels_last_3d).eval()
    clip = torch.randn(1, 3, 4, 32, 48), torch.randn(1, 3, 16, 32, 48)
    boxes, index = torch.tensor([[0.1, 0.1, 0.5, 0.9]]), torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        related = network(*clip, boxes, index).behaviour
        save_checkpoint(network, tmp_path / "a.safetensors", trained_on="nothing", ethogram="e")
        loaded, info = load_checkpoint(tmp_path / "a.safetensors")
        torch.testing.assert_close(loaded(*clip, boxes, index).behaviour, related, atol=0.02, rtol=0.02)
        network.relation = None
        assert not torch.allclose(network(*clip, boxes, index).behaviour, related, atol=0.02)
    assert info.architecture == "acrn_tiny"


def test_shared_parameters_are_all_but_the_heads() -> None:
    tiny = dataclasses.replace(ARCHITECTURES["slowfast_small"], actor_context=True)
    with torch.device("meta"):
        network = ActionNetwork(tiny, ("feeding", "walk"))
    shared = {id(parameter) for parameter in network.shared_parameters()}
    named = {name for name, parameter in network.named_parameters() if id(parameter) not in shared}
    assert named == {name for name, _ in network.named_parameters() if name.startswith("heads.")}
