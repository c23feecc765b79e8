from __future__ import annotations

import pytest
import torch

from model.network import ActionOutput
from model.parity import parity


def outputs(behaviour: list[list[float]], motion: float = 0.0, other: float = -2.0) -> ActionOutput:
    count = len(behaviour)
    return ActionOutput(
        torch.tensor(behaviour).reshape(count, -1),
        torch.tensor([[0.0, motion]] * count).reshape(count, 2),
        torch.full((count,), other),
    )


def test_the_same_outputs_pass() -> None:
    result = parity(outputs([[0.0, 1.0, -1.0]] * 3), outputs([[0.0, 1.0, -1.0]] * 3))
    assert (result.instances, result.largest_difference, result.agreement) == (3, 0.0, 1.0)
    assert result.accepted


def test_the_largest_difference_of_any_probability_counts() -> None:
    """At 0 a logit's sigmoid rises by a quarter of what the logit does: 0.05 is 0.0125."""
    expected = outputs([[2.0, 0.0]])
    assert parity(expected, outputs([[2.0, 0.05]])).largest_difference == pytest.approx(0.0125, abs=1e-5)
    assert not parity(expected, outputs([[2.0, 0.05]])).accepted
    assert parity(expected, outputs([[2.0, 0.03]])).accepted
    assert not parity(expected, outputs([[2.0, 0.0]], motion=0.05)).accepted
    assert not parity(expected, outputs([[2.0, 0.0]], other=-1.8)).accepted


def test_one_other_label_in_two_hundred_passes_and_two_do_not() -> None:
    expected = outputs([[0.001, 0.0]] * 200)
    for others, accepted in ((1, True), (2, False)):
        rows = [[0.0, 0.001]] * others + [[0.001, 0.0]] * (200 - others)
        result = parity(expected, outputs(rows))
        assert result.agreement == pytest.approx(1 - others / 200)
        assert result.accepted is accepted


def test_nothing_compared_and_nan_do_not_pass() -> None:
    empty = ActionOutput(torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0))
    assert not parity(empty, empty).accepted
    assert not parity(outputs([[0.0, 1.0]]), outputs([[float("nan"), 1.0]])).accepted
