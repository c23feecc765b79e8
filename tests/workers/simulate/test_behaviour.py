"""Postures and labels of bouts."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from workers.simulate.behaviour import (
    FEEDING,
    FORMS,
    MAINTENANCE,
    VIGILANCE,
    WALK,
    HeadRaise,
    make_bout,
    target,
)


def feeding_with(*raises: HeadRaise):
    return replace(make_bout(np.random.default_rng(0), FEEDING, 10.0, "stand"), raises=raises)


def test_a_head_raised_for_less_than_a_second_is_feeding():
    bout = feeding_with(HeadRaise(2.0, 2.9, True))
    assert {bout.label_at(t) for t in np.arange(0, 10, 0.1)} == {FEEDING}


def test_a_head_raised_for_longer_is_vigilance_just_as_long():
    bout = feeding_with(HeadRaise(2.0, 3.5, True))
    labels = [bout.label_at(t / 100) for t in range(1000)]
    assert labels.count(VIGILANCE) == 150
    assert labels[199:201] == [FEEDING, VIGILANCE]


def test_a_head_held_half_up_is_feeding_however_long():
    assert feeding_with(HeadRaise(2.0, 3.5, False)).label_at(3.0) == FEEDING


def test_a_raised_head_looks_like_vigilance():
    bout = feeding_with(HeadRaise(2.0, 2.9, True))
    watching = make_bout(np.random.default_rng(1), VIGILANCE, 5.0, "scan")
    assert abs(target(bout, 2.5, 0.0).neck1 - target(watching, 2.5, 0.0).neck1) < 25
    assert target(bout, 1.0, 0.0).neck1 < 0


def test_random_head_raises_are_mostly_short_and_never_meet():
    raises = [r for k in range(60) for r in make_bout(np.random.default_rng(k), FEEDING, 35.0).raises]
    long = [r for r in raises if r.alert and r.end_s - r.start_s > 1.0]
    assert 0.05 < len(long) / len(raises) < 0.3
    for k in range(20):
        series = make_bout(np.random.default_rng(k), FEEDING, 35.0).raises
        assert all(a.end_s + 1.0 <= b.start_s for a, b in itertools.pairwise(series))


def test_feeding_while_stepping_moves_the_legs_less_than_walking():
    stepping = make_bout(np.random.default_rng(4), FEEDING, 20.0, "step")
    walking = make_bout(np.random.default_rng(4), WALK, 20.0)
    times = np.arange(0, 20, 0.1)
    assert max(target(stepping, t, 0.0).speed for t in times) < target(walking, 1.0, 0.0).speed
    assert max(target(stepping, t, 0.0).leg_amp for t in times) < 1.0


def test_a_sleeper_hardly_moves():
    bout = make_bout(np.random.default_rng(2), MAINTENANCE, 60.0, "rest")
    necks = [target(bout, t, 0.0).neck2 for t in np.arange(0, 60, 0.1)]
    assert max(necks) - min(necks) <= 3.01


@pytest.mark.parametrize("label", FORMS)
def test_shares_of_the_forms_add_up_and_each_has_a_posture(label: int):
    assert math.isclose(sum(share for _, share in FORMS[label]), 1.0)
    for form, _ in FORMS[label]:
        bout = make_bout(np.random.default_rng(1), label, 4.0, form)
        assert all(math.isfinite(v) for t in (0.0, 1.7, 3.9) for v in target(bout, t, 0.5))
