from __future__ import annotations

import math

import pytest
import torch

from model.losses import Targets, action_losses
from model.network import ActionOutput


def targets(behaviour, dynamic, learnable, other) -> Targets:
    return Targets(
        torch.tensor(behaviour, dtype=torch.float32),
        torch.tensor(dynamic),
        torch.tensor(learnable),
        torch.tensor(other),
    )


def output(behaviour, motion, other) -> ActionOutput:
    made = [
        torch.tensor(values, dtype=torch.float32, requires_grad=True) for values in (behaviour, motion, other)
    ]
    return ActionOutput(*made)


def test_losses_by_hand() -> None:
    said = output([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]], [[0.0, math.log(3)], [7.0, 0.0]], [0.0, math.log(4)])
    truth = targets([[1, 0, 0], [0, 0, 0]], [1, 0], [True, False], [False, True])
    losses = action_losses(said, truth)
    assert losses.behaviour.item() == pytest.approx(math.log(2))  # three undecided logits
    assert losses.motion.item() == pytest.approx(-math.log(3 / 4))
    # An undecided bird, and something else recognised with probability 4/5.
    assert losses.other.item() == pytest.approx((math.log(2) - math.log(4 / 5)) / 2)


def test_rows_without_learnable_label_contribute_nothing() -> None:
    said = output(
        [[0.3, -1.0], [2.0, 5.0], [1.0, 1.0]], [[0.1, 0.4], [3.0, 1.0], [0.0, 2.0]], [0.2, -4.0, 1.0]
    )
    truth = targets([[1, 0], [0, 1], [0, 1]], [0, 1, 1], [True, False, False], [False, False, True])
    losses = action_losses(said, truth)
    (losses.behaviour + losses.motion + losses.other).backward()
    hidden, deer = 1, 2
    assert said.behaviour.grad[[hidden, deer]].abs().max() == 0
    assert said.motion.grad[[hidden, deer]].abs().max() == 0
    assert said.other.grad[hidden] == 0
    assert said.other.grad[deer] < 0  # pushed up: it is something else
    assert said.other.grad[0] > 0
    assert said.behaviour.grad[0].abs().min() > 0


def test_a_batch_without_any_usable_row_has_zero_losses() -> None:
    said = output([[0.3, -1.0]], [[0.1, 0.4]], [0.2])
    losses = action_losses(said, targets([[1, 0]], [0], [False], [False]))
    assert [losses.behaviour.item(), losses.motion.item(), losses.other.item()] == [0, 0, 0]


def test_something_else_has_no_behaviour() -> None:
    with pytest.raises(ValueError, match="something else has no behaviour"):
        targets([[1, 0]], [0], [True], [True])


def test_wrong_row_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dynamic must have shape \(2,\), got \(3,\)"):
        targets([[1, 0], [0, 1]], [0, 1, 1], [True, False], [False, False])
