"""Weighting rules against closed forms, against TorchJD, and for the laws that they must obey."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchjd.aggregation import PCGradWeighting, SumWeighting
from torchjd.scalarization import UW

from model.weighting.base import Gram, State, TaskLosses, Weighting, Weights
from model.weighting.capped_lgh import CappedLGH
from model.weighting.equal_sum import EqualSum
from model.weighting.fixed import FixedLambda
from model.weighting.gradnorm import GradNorm
from model.weighting.lgh import LGH
from model.weighting.pcgrad import PCGrad
from model.weighting.registry import WEIGHTINGS, weighting_named
from model.weighting.ri_pcgrad import RIPCGrad
from model.weighting.single_task import SingleTask
from model.weighting.uncertainty import Uncertainty

LOSSES = TaskLosses(0.7, 0.4)
OPPOSED = Gram(4.0, -6.0, 9.0)
"""Of the gradients (2, 0) and (-3, 0)."""
CONFLICT = Gram(4.0, -3.0, 9.0)
"""Their cosine is -1/2."""
AGREEMENT = Gram(4.0, 3.0, 9.0)
NO_ACT, NO_MOV, NOTHING = Gram(0.0, 0.0, 9.0), Gram(4.0, 0.0, 0.0), Gram(0.0, 0.0, 0.0)


def gram_of(act: NDArray[np.float64], mov: NDArray[np.float64]) -> Gram:
    return Gram(float(act @ act), float(act @ mov), float(mov @ mov))


def random_pairs(count: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Pairs of gradients in 3 dimensions whose norms differ by up to a factor of 100 either way."""
    random = np.random.default_rng(3)
    scale = 10 ** random.uniform(-1, 1, (count, 2, 1))
    return [(act, mov) for act, mov in random.standard_normal((count, 2, 3)) * scale]


def answer(rule: Weighting, gram: Gram, state: State | None = None) -> Weights:
    """One call, as a step makes it."""
    state = rule.initial_state() if state is None else state
    return rule(gram if rule.known_ahead(state) is None else None, LOSSES, state)


@pytest.mark.parametrize(
    ("rule", "gram", "expected"),
    [
        (SingleTask(), CONFLICT, (1, 0)),
        (EqualSum(), CONFLICT, (1, 1)),
        (FixedLambda(0.3), CONFLICT, (1, 0.3)),
        (Uncertainty(), CONFLICT, (0.5, 0.5)),
        (GradNorm(), CONFLICT, (1, 1)),
        (PCGrad(), AGREEMENT, (1, 1)),
        (PCGrad(), CONFLICT, (1 + 3 / 4, 1 + 3 / 9)),
        (RIPCGrad(0.1), AGREEMENT, (1, 0.1)),
        (RIPCGrad(0.1), CONFLICT, (1 + 0.1 * 3 / 4, 0.1)),
        (LGH(0.1, 0.2), AGREEMENT, (1, 0.1)),
        (LGH(0.1, 0.2), CONFLICT, (1, 0.1 * (1 - 0.2 * 0.5))),
        (CappedLGH(0.1, 0.2, cap=0.5), CONFLICT, (1, 0.09)),
        (CappedLGH(1.0, 0.2, cap=0.3), CONFLICT, (1, 0.3 * 2 / 3)),
    ],
)
def test_weights_are_those_of_the_closed_form(
    rule: Weighting, gram: Gram, expected: tuple[float, float]
) -> None:
    assert answer(rule, gram) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(PCGrad(), PCGradWeighting()), (EqualSum(), SumWeighting())], ids=["pcgrad", "sum"]
)
def test_weights_equal_torchjd(ours: Weighting, theirs: torch.nn.Module) -> None:
    for act, mov in random_pairs(200):
        jacobian = torch.from_numpy(np.stack([act, mov]))
        expected = theirs(jacobian @ jacobian.T if isinstance(ours, PCGrad) else jacobian)
        assert answer(ours, gram_of(act, mov)) == pytest.approx(tuple(expected.tolist()))


def test_uncertainty_learns_as_torchjd_s_does() -> None:
    theirs = UW(2)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05)
    rule = Uncertainty(learning_rate=0.05)
    state = rule.initial_state()
    for step in range(30):
        losses = torch.tensor([0.7 - 0.01 * step, 2.0], requires_grad=True)
        weights = rule(None, TaskLosses(*losses.tolist()), state)
        optimizer.zero_grad()
        theirs(losses).backward()
        assert losses.grad is not None
        assert weights == pytest.approx(tuple(losses.grad.tolist()), rel=1e-5)
        optimizer.step()
    assert list(state.values()) == pytest.approx(theirs.log_var.tolist(), rel=1e-4)


def test_uncertainty_comes_to_rest_at_half_the_inverse_loss() -> None:
    rule = Uncertainty(learning_rate=0.1)
    state = rule.initial_state()
    for _ in range(500):
        weights = rule(None, LOSSES, state)
    assert weights == pytest.approx((1 / 1.4, 1 / 0.8), rel=1e-4)


def test_gradnorm_makes_the_weighted_norms_equal_while_the_tasks_learn_at_one_rate() -> None:
    rule = GradNorm(learning_rate=0.01)
    state = rule.initial_state()
    for _ in range(500):
        weights = answer(rule, Gram(4.0, 0.0, 0.25), state)
    assert 2 * weights.act == pytest.approx(0.5 * weights.mov, rel=0.05)
    assert weights.act + weights.mov == pytest.approx(2)


def test_gradnorm_favours_the_task_that_learns_more_slowly() -> None:
    rule = GradNorm()
    state = rule.initial_state()
    equal_norms = Gram(1.0, 0.0, 1.0)
    rule(equal_norms, TaskLosses(1.0, 1.0), state)
    rule(equal_norms, TaskLosses(0.5, 1.0), state)
    # Both lie 1 + 1 apart from their targets, on opposite sides: one step of the rate up, one down.
    assert (state["act"], state["mov"]) == pytest.approx((1 - 0.025, 1 + 0.025))


def test_alpha_zero_is_fixed_lambda() -> None:
    for act, mov in random_pairs(50):
        gram = gram_of(act, mov)
        assert answer(LGH(0.1, alpha=0.0), gram) == answer(FixedLambda(0.1), gram)


def test_opposed_gradients_give_lambda_base_times_one_minus_alpha() -> None:
    assert OPPOSED.cosine == -1.0
    assert answer(LGH(0.1, 0.2), OPPOSED) == pytest.approx((1, 0.1 * (1 - 0.2)))


def test_gradnorm_measures_progress_from_the_first_step_that_has_something_to_learn() -> None:
    with_nothing, begun_later = GradNorm(), GradNorm()
    state, later = with_nothing.initial_state(), begun_later.initial_state()
    assert with_nothing(NOTHING, TaskLosses(0.3, 0.0), state) == (1, 1)
    for losses in (LOSSES, TaskLosses(LOSSES.act / 2, LOSSES.mov / 4), LOSSES):
        assert with_nothing(CONFLICT, losses, state) == begun_later(CONFLICT, losses, later)
    assert state == later


def test_lambda_never_leaves_its_range() -> None:
    for act, mov in random_pairs(200):
        weights = answer(LGH(0.1, 0.2), gram_of(act, mov))
        assert weights.act == 1
        assert 0.08 <= weights.mov <= 0.1


def test_scaling_a_loss_does_not_change_rho() -> None:
    for act, mov in random_pairs(50):
        rho = gram_of(act, mov).cosine
        assert gram_of(1e3 * act, mov).cosine == pytest.approx(rho)
        assert gram_of(act, 1e-6 * mov).cosine == pytest.approx(rho)
        assert rho == pytest.approx(float(act @ mov / np.linalg.norm(act) / np.linalg.norm(mov)))


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("gram", [NO_ACT, NO_MOV, NOTHING, Gram(1e-300, -1e-300, 1e-300)])
def test_a_zero_gradient_stays_finite(name: str, gram: Gram) -> None:
    rule = weighting_named(name)
    state = rule.initial_state()
    for losses in (LOSSES, TaskLosses(0.0, 0.0)):
        weights = rule(gram if rule.known_ahead(state) is None else None, losses, state)
        assert all(map(math.isfinite, weights))
        assert all(map(math.isfinite, state.values()))


def test_the_cone_claim_fails_without_a_cap_and_holds_with_it() -> None:
    """Whether the update is within 30 degrees of the behaviour gradient, and does not raise the behaviour loss."""
    cap, beyond, against = 0.5, 0, 0
    for act, mov in random_pairs(2000):
        gram = gram_of(act, mov)
        free, capped = answer(LGH(), gram), answer(CappedLGH(cap=cap), gram)
        update = free.act * act + free.mov * mov
        beyond += degrees(update, act) > 30
        against += update @ act < 0
        update = capped.act * act + capped.mov * mov
        assert degrees(update, act) <= 30 + 1e-6
        assert update @ act >= (1 - cap) * (act @ act) - 1e-9
    assert beyond > 100
    assert against > 10


def test_the_cap_changes_nothing_where_the_auxiliary_gradient_is_short() -> None:
    for act, mov in random_pairs(100):
        gram = gram_of(act, 0.1 * mov * np.linalg.norm(act) / np.linalg.norm(mov))
        assert answer(CappedLGH(), gram) == answer(LGH(), gram)


def degrees(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return math.degrees(math.acos(float(cosine.clip(-1, 1))))


def test_pcgrad_never_raises_either_loss_and_ri_pcgrad_never_the_behaviour_loss() -> None:
    for act, mov in random_pairs(100):
        gram = gram_of(act, mov)
        weights = answer(PCGrad(), gram)
        update = weights.act * act + weights.mov * mov
        assert min(update @ act, update @ mov) >= -1e-9
        weights = answer(RIPCGrad(), gram)
        assert (weights.act * act + weights.mov * mov) @ act >= act @ act - 1e-9


def test_rho_refreshed_every_third_step_keeps_lambda_in_between() -> None:
    rule = LGH(0.1, 0.2, refresh_steps=3)
    state = rule.initial_state()
    asked, lambdas = [], []
    for gram in (CONFLICT, OPPOSED, OPPOSED, OPPOSED, CONFLICT):
        asked.append(rule.known_ahead(state) is None)
        lambdas.append(answer(rule, gram, state).mov)
    assert asked == [True, False, False, True, False]
    assert lambdas == pytest.approx([0.09, 0.09, 0.09, 0.08, 0.08])


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_rule_goes_on_from_its_state_after_a_restart(name: str) -> None:
    rule, again = weighting_named(name), weighting_named(name)
    state = rule.initial_state()
    grams = [gram_of(act, mov) for act, mov in random_pairs(6)]
    for gram in grams[:3]:
        answer(rule, gram, state)
    stored = json.loads(json.dumps(state))
    rest = [answer(rule, gram, state) for gram in grams[3:]]
    assert [answer(again, gram, stored) for gram in grams[3:]] == rest


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_what_is_known_ahead_is_what_the_rule_then_says(name: str) -> None:
    rule = weighting_named(name, **({"refresh_steps": 2} if name == "lgh" else {}))
    state = rule.initial_state()
    for act, mov in random_pairs(5):
        ahead = rule.known_ahead(state)
        assert answer(rule, gram_of(act, mov), state) == (ahead or pytest.approx((1, 1), abs=math.inf))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="unknown weighting 'lhg'"):
        weighting_named("lhg")
    with pytest.raises(ValueError, match=r"other parameters than \['lambda'\]"):
        weighting_named("lgh", **{"lambda": 0.1})
    with pytest.raises(ValueError, match=r"alpha <= 1, got 0\.1 and 2"):
        LGH(alpha=2.0)
    for steps in (0, 2.5):
        with pytest.raises(ValueError, match=f"whole number of at least 1, got {steps}"):
            weighting_named("lgh", refresh_steps=steps)
    with pytest.raises(ValueError, match=r"cap must be between 0 and 1, got 1\.5"):
        CappedLGH(cap=1.5)
    with pytest.raises(ValueError, match="needs the inner products"):
        PCGrad()(None, LOSSES, {})
