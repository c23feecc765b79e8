"""The step: what reaches the parameters, and that it does not depend on how its clips were cut up."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from model.batch_norm import freeze_batch_norm
from model.dropout import SeededDropout
from model.errors import DivergedError
from model.losses import Targets, action_losses
from model.network import ActionNetwork
from model.pathways import to_pathways
from model.step import Batch, StepReport, StepSettings, training_step
from model.weighting.base import Weighting
from model.weighting.fixed import FixedLambda
from model.weighting.lgh import LGH
from model.weighting.pcgrad import PCGrad
from model.weighting.registry import WEIGHTINGS, weighting_named
from model.weighting.single_task import SingleTask

NAMES = ("feeding", "walk", "flight")
SETTINGS = StepSettings(other_weight=0.5, max_grad_norm=1e9)


def make_network(dropout: float = 0.0) -> ActionNetwork:
    """With scales of batch norm that let every path through: some start at zero."""
    torch.manual_seed(5)
    network = ActionNetwork("slowfast_small", NAMES, dropout)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    network.heads.dropout = SeededDropout(dropout)
    return network


def make_batch(boxes_per_clip: tuple[int, ...], seed: int = 0) -> Batch:
    """Random clips of 32x48 pixels; the first box of every clip is unlearnable, the last one is no bird."""
    draw = torch.Generator().manual_seed(seed)
    index = torch.repeat_interleave(torch.arange(len(boxes_per_clip)), torch.tensor(boxes_per_clip))
    corner = 0.5 * torch.rand(len(index), 2, generator=draw)
    last = torch.cat([index[1:] != index[:-1], torch.tensor([True])])
    first = torch.cat([torch.tensor([True]), index[1:] != index[:-1]])
    labels = torch.randint(0, 3, (len(index),), generator=draw)
    return Batch(
        torch.randint(0, 256, (len(boxes_per_clip), 16, 32, 48, 3), generator=draw, dtype=torch.uint8),
        torch.cat([corner, corner + 0.4], dim=1),
        index,
        Targets(
            torch.nn.functional.one_hot(labels, 3).float(),
            torch.randint(0, 2, (len(index),), generator=draw),
            ~first & ~last,
            last,
        ),
        torch.arange(len(boxes_per_clip)) + 10 * seed,
    )


def parts_of(batch: Batch, cut: int) -> list[Batch]:
    """The first ``cut`` clips, and the rest."""
    parts = []
    for clips in (slice(0, cut), slice(cut, None)):
        numbers = torch.arange(len(batch.clips))[clips]
        rows = torch.isin(batch.clip_index, numbers)
        targets = batch.targets
        parts.append(
            Batch(
                batch.clips[clips],
                batch.boxes[rows],
                batch.clip_index[rows] - numbers[0],
                Targets(
                    targets.behaviour[rows],
                    targets.dynamic[rows],
                    targets.learnable[rows],
                    targets.other[rows],
                ),
                batch.dropout_seeds[clips],
            )
        )
    return parts


def step(
    network: ActionNetwork, batches: list[Batch], rule: Weighting, settings: StepSettings = SETTINGS
) -> StepReport:
    """One step of a learning rate of zero: the parameters stay, their gradients can be looked at."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    return training_step(network, optimizer, batches, rule, rule.initial_state(), settings)


def gradients(network: ActionNetwork) -> dict[str, Tensor]:
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def plain_gradients(network: ActionNetwork, batch: Batch, motion_weight: float) -> dict[str, Tensor]:
    """One backward pass of the weighted sum of all losses."""
    network = copy.deepcopy(network).train()
    assert isinstance(network.heads.dropout, SeededDropout)
    network.heads.dropout.begin(batch.dropout_seeds, batch.clip_index)
    output = network(*to_pathways(batch.clips), batch.boxes, batch.clip_index)
    losses = action_losses(output, batch.targets)
    torch.autograd.backward(losses.behaviour + 0.5 * losses.other + motion_weight * losses.motion)
    return gradients(network)


@pytest.mark.parametrize("rule", [FixedLambda(0.3), LGH(0.3, alpha=0.0)], ids=["ahead", "two products"])
def test_a_fixed_lambda_is_a_plain_step_on_every_parameter(rule: Weighting) -> None:
    network, batch = make_network(dropout=0.2), make_batch((4, 3))
    expected = plain_gradients(network, batch, 0.3)
    step(network, [batch], rule)
    assert gradients(network).keys() == expected.keys()
    for name, gradient in gradients(network).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_rho_and_the_update_are_those_of_two_separate_backward_passes() -> None:
    network, batch = make_network(), make_batch((4, 3))
    act = plain_gradients(network, batch, 0.0)
    both = plain_gradients(network, batch, 1.0)
    mov = {name: both[name] - act[name] for name in both}
    shared = [name for name in both if name.startswith("backbone")]
    flat_act = torch.cat([act[name].flatten() for name in shared])
    flat_mov = torch.cat([mov[name].flatten() for name in shared])
    report = step(network, [batch], PCGrad())
    assert report.gram is not None
    rho = torch.nn.functional.cosine_similarity(flat_act, flat_mov, dim=0)
    assert report.gram.cosine == pytest.approx(float(rho), abs=1e-4)
    assert report.gram.mov_mov == pytest.approx(float(flat_mov @ flat_mov), rel=1e-3)
    for name, gradient in gradients(network).items():
        expected = report.weights.act * act[name] + report.weights.mov * mov[name]
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5, msg=name)


def test_a_head_is_reached_by_its_own_loss_only() -> None:
    network, batch = make_network(), make_batch((4, 3))
    step(network, [batch], SingleTask())
    for name, gradient in gradients(network).items():
        assert bool(gradient.any()) != name.startswith("heads.motion"), name


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_accumulated_uneven_batches_take_the_step_of_the_whole(name: str) -> None:
    """With batch norm frozen, since its statistics are those of each accumulated batch."""
    batch = make_batch((5, 2, 3))
    reports, found = [], []
    for batches in ([batch], parts_of(batch, 1)):
        network = make_network(dropout=0.2)
        freeze_batch_norm(network)
        reports.append(step(network, batches, weighting_named(name)))
        found.append(gradients(network))
    whole, parts = reports
    assert parts.weights == pytest.approx(whole.weights, rel=1e-4)
    for loss in ("behaviour", "motion", "other"):
        assert float(getattr(parts.losses, loss)) == pytest.approx(
            float(getattr(whole.losses, loss)), rel=1e-5
        )
    for parameter, gradient in found[0].items():
        torch.testing.assert_close(found[1][parameter], gradient, rtol=1e-4, atol=1e-6, msg=parameter)


def test_a_long_gradient_is_shortened() -> None:
    network = make_network()
    report = step(network, [make_batch((4, 3))], LGH(), StepSettings(max_grad_norm=0.01))
    assert report.gradient_norm > 0.1
    total = torch.cat([gradient.flatten() for gradient in gradients(network).values()]).norm()
    assert float(total) == pytest.approx(0.01, rel=1e-3)


def test_clips_without_a_label_give_a_finite_step() -> None:
    batch = make_batch((2, 2))
    batch.targets.other[:] = False
    report = step(make_network(), [batch], LGH())
    assert report.gradient_norm == 0.0
    assert report.weights == (1.0, 0.1)


def test_a_gradient_that_is_not_finite_stops_the_training_and_leaves_the_network() -> None:
    network = make_network()
    with torch.no_grad():
        network.heads.motion[2].bias.fill_(torch.inf)
    before = copy.deepcopy(network.backbone.state_dict())
    optimizer = torch.optim.SGD(network.backbone.parameters(), lr=1.0)
    with pytest.raises(DivergedError, match="not finite"):
        training_step(network, optimizer, [make_batch((4, 3))], LGH(), LGH().initial_state(), SETTINGS)
    for name, parameter in network.backbone.named_parameters():
        assert torch.equal(parameter, before[name])


def test_frozen_batch_norm_keeps_its_statistics_and_learns_its_scale() -> None:
    network = make_network()
    freeze_batch_norm(network)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    step(network, [make_batch((4, 3))], LGH())
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert gradients(network)["backbone.blocks.0.multipathway_blocks.0.norm.weight"].any()


def test_dropout_of_a_clip_does_not_depend_on_the_clips_beside_it() -> None:
    dropout = SeededDropout(0.5).train()
    rows = torch.ones(5, 40)
    dropout.begin(torch.tensor([3, 8]), torch.tensor([0, 0, 1, 1, 1]))
    together = dropout(rows)
    dropout.begin(torch.tensor([8]), torch.tensor([0, 0, 0]))
    assert torch.equal(dropout(rows[2:]), together[2:])
    assert set(together.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(together[0], together[1])
    with pytest.raises(ValueError, match="expected 3 rows, got 5"):
        dropout(rows)
    assert torch.equal(dropout.eval()(rows), rows)
