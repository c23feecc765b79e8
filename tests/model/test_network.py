from __future__ import annotations

import pytest
import torch

from model.losses import Targets
from model.network import ActionNetwork
from model.step import Batch, StepSettings, decay_groups, training_step
from model.weighting.fixed import FixedLambda

NAMES = ("feeding", "walk", "flight")


@pytest.fixture(scope="module")
def network() -> ActionNetwork:
    torch.manual_seed(5)
    return ActionNetwork("slowfast_small", NAMES).eval()


def test_shapes(network: ActionNetwork) -> None:
    slow, fast = torch.randn(2, 3, 4, 32, 48), torch.randn(2, 3, 16, 32, 48)
    boxes = torch.tensor([[0.1, 0.2, 0.6, 0.9], [0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.9, 0.8], [0, 0, 0.3, 0.3]])
    with torch.inference_mode():
        output = network(slow, fast, boxes, torch.tensor([0, 0, 1, 1]))
    assert output.behaviour.shape == (4, 3)
    assert output.motion.shape == (4, 2)
    assert output.other.shape == (4,)


def test_the_caller_s_tensors_are_left_alone(network: ActionNetwork) -> None:
    slow, fast = torch.randn(1, 3, 4, 32, 32), torch.randn(1, 3, 16, 32, 32)
    before = slow.clone(), fast.clone()
    with torch.inference_mode():
        first, second = network.backbone(slow, fast), network.backbone(slow, fast)
    assert torch.equal(first, second)
    assert torch.equal(slow, before[0])
    assert torch.equal(fast, before[1])


def test_a_network_without_behaviours_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one behaviour"):
        ActionNetwork("slowfast_small", ())


def test_norms_and_biases_do_not_decay(network: ActionNetwork) -> None:
    decaying, kept = decay_groups(network, weight_decay=0.02)
    assert (decaying["weight_decay"], kept["weight_decay"]) == (0.02, 0.0)
    assert min(parameter.ndim for parameter in decaying["params"]) == 2
    assert max(parameter.ndim for parameter in kept["params"]) == 1
    assert len(decaying["params"]) + len(kept["params"]) == len(list(network.parameters()))


def test_training_steps_learn_to_tell_two_clips_apart() -> None:
    torch.manual_seed(0)
    network = ActionNetwork("slowfast_small", ("bright", "dark"), dropout=0.0)
    optimizer = torch.optim.AdamW(decay_groups(network, 0.02), lr=2e-3)
    clips = torch.zeros(2, 16, 32, 48, 3, dtype=torch.uint8)
    clips[0] = 220
    boxes = torch.tensor([[0.1, 0.1, 0.8, 0.9], [0.2, 0.1, 0.9, 0.8]])
    truth = Targets(
        torch.eye(2), torch.tensor([0, 1]), torch.tensor([True, True]), torch.tensor([False, False])
    )
    batch = Batch(clips, boxes, torch.tensor([0, 1]), truth, dropout_seeds=torch.tensor([1, 2]))
    losses = [
        training_step(network, optimizer, [batch], FixedLambda(), {}, StepSettings()).losses
        for _ in range(15)
    ]
    assert float(losses[-1].behaviour) < 0.3 * float(losses[0].behaviour)
    assert float(losses[-1].motion) < float(losses[0].motion)
    assert float(losses[-1].other) < float(losses[0].other)
