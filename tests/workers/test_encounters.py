"""Tracks that were mixed up while two birds stood in front of each other."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.doubts import EncounterSettings, find_doubts
from workers.encounters import (
    _encounters,
    _Identities,
    _Impression,
    _off_its_way,
    _Portrait,
    settle_encounters,
)
from workers.tracklets import NO_TRACK, Rows

STEP_S = 4 / 15
SIZE = 0.2
SETTINGS = EncounterSettings()
NEAR = 0.08
"""Birds closer than this are in doubt, in picture heights."""


def two_birds(
    *, plumages: tuple[int, int], depths: tuple[float, float], fixed_until_s: float = 0.0
) -> tuple[Rows, NDArray[np.int64]]:
    """Bird 0 rests; bird 1 walks past in front of it at 20 s. Returns the boxes, and whom each one shows."""
    count = 150
    time_s = np.repeat(np.arange(count) * STEP_S, 2)
    who = np.tile([0, 1], count)
    x = np.where(who == 0, 1.0, 1.0 + 0.05 * (time_s - 20.0))
    looks = np.eye(4, 64, dtype=np.int8) * 100 + 20
    rows = Rows(
        time_s=time_s,
        xy=np.stack([x, np.array(depths)[who]], axis=1),
        size=np.full(2 * count, SIZE),
        shape=np.zeros((2 * count, 2)),
        look=looks[np.array(plumages)[who]],
        doing=np.zeros((2 * count, 3), np.float32),
        box_score=np.ones(2 * count, np.float32),
        duplicate=np.zeros(2 * count, np.bool_),
        fixed=np.where(time_s < fixed_until_s, who, NO_TRACK),
        step_s=STEP_S,
        aspect=16 / 9,
    )
    return rows, who.astype(np.int64)


def some_of(rows: Rows, which: NDArray[np.bool_]) -> Rows:
    names = (field.name for field in dataclasses.fields(rows) if field.name not in ("step_s", "aspect"))
    return Rows(*(getattr(rows, name)[which] for name in names), rows.step_s, rows.aspect)


def doubtful(rows: Rows, nearer_than: float = NEAR) -> NDArray[np.int64]:
    """The pairs of boxes of one keyframe that are near each other; rows come in pairs."""
    first = np.arange(0, len(rows.time_s), 2)
    gap = rows.xy[first + 1] - rows.xy[first]
    near = first[np.hypot(gap[:, 0], gap[:, 1]) < nearer_than]
    return np.stack([near, near + 1], axis=1)


def settle(rows: Rows, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return settle_encounters(rows, labels, doubtful(rows), SETTINGS)


def mixed_up(who: NDArray[np.int64], rows: Rows, from_s: float = 20.0) -> NDArray[np.int64]:
    """What a tracker says that confused the two."""
    return np.where(rows.time_s >= from_s, 1 - who, who)


@pytest.mark.parametrize(
    ("plumages", "depths"), [((1, 2), (0.6, 0.6)), ((1, 1), (0.60, 0.63))], ids=["plumage", "depth"]
)
def test_birds_that_were_mixed_up_are_told_apart_again(
    plumages: tuple[int, int], depths: tuple[float, float]
) -> None:
    rows, who = two_birds(plumages=plumages, depths=depths)
    settled = settle(rows, mixed_up(who, rows))
    apart = np.abs(rows.time_s - 20.0) > 1.0
    assert settled[apart].tolist() == who[apart].tolist()


def test_tracks_that_are_right_are_left_alone() -> None:
    rows, who = two_birds(plumages=(1, 2), depths=(0.6, 0.63))
    assert settle(rows, who).tolist() == who.tolist()


def test_birds_that_look_alike_are_left_as_they_were_linked() -> None:
    rows, who = two_birds(plumages=(1, 1), depths=(0.6, 0.6))
    assert settle(rows, who).tolist() == who.tolist()


def test_birds_that_never_meet_are_left_alone() -> None:
    rows, who = two_birds(plumages=(1, 2), depths=(0.3, 0.9))
    wrong = mixed_up(who, rows)
    assert settle(rows, wrong).tolist() == wrong.tolist()


def test_what_was_known_before_is_never_changed() -> None:
    # The first 20.2 s belong to the day before; the encounter lasts from 18.4 to 21.6 s.
    rows, who = two_birds(plumages=(1, 2), depths=(0.6, 0.6), fixed_until_s=20.2)
    wrong = mixed_up(who, rows, from_s=20.2)
    settled = settle(rows, wrong)
    assert settled[rows.time_s < 20.2].tolist() == who[rows.time_s < 20.2].tolist()
    assert settled[rows.time_s > 21.6].tolist() == who[rows.time_s > 21.6].tolist()


def test_with_too_few_calm_boxes_nothing_is_decided() -> None:
    rows, who = two_birds(plumages=(1, 2), depths=(0.6, 0.6))
    few = rows.time_s < 22.4  # three keyframes after the encounter
    short = some_of(rows, few)
    wrong = mixed_up(who, rows)[few]
    assert settle(short, wrong).tolist() == wrong.tolist()


def test_one_bird_alone_meets_nobody() -> None:
    rows, who = two_birds(plumages=(1, 2), depths=(0.6, 0.6))
    alone = np.where(who == 0, 0, NO_TRACK)
    assert settle(rows, alone).tolist() == alone.tolist()


def test_one_that_was_hidden_is_known_again_when_the_other_took_its_track() -> None:
    # For 1.6 s the two give one box; the tracker lets the wrong one of them keep it.
    rows, who = two_birds(plumages=(1, 2), depths=(0.6, 0.6))
    seen = (np.abs(rows.time_s - 20.0) > 0.8) | (who == 0)
    merged = some_of(rows, seen)
    right, wrong = who[seen], mixed_up(who, rows)[seen]
    nothing = np.zeros((0, 2), np.int64)
    settled = settle_encounters(merged, wrong, nothing, SETTINGS)
    apart = np.abs(merged.time_s - 20.0) > 1.0
    assert settled[apart].tolist() == right[apart].tolist()
    assert settle_encounters(merged, right, nothing, SETTINGS)[apart].tolist() == right[apart].tolist()


def passed_by(*, plumage_after: int) -> tuple[Rows, NDArray[np.int64], NDArray[np.int64]]:
    """Bird 0 rests; bird 1 comes from the left and passes it, faster than most, between 19.5 and 20.5 s.

    Returns the boxes, whom each one shows, and what a tracker says that lets bird 0's track go on with bird 1, and
    begins a third one where bird 0 is seen again. ``plumage_after`` is what rests there then.
    """
    rows, who = two_birds(plumages=(1, 2), depths=(0.6, 0.6))
    x = np.where(who == 0, 1.0, 1.0 + 0.8 * (rows.time_s - 20.0))
    moved = dataclasses.replace(rows, xy=np.stack([x, rows.xy[:, 1]], axis=1))
    look = moved.look.copy()
    look[(who == 0) & (rows.time_s > 20.0)] = np.eye(4, 64, dtype=np.int8)[plumage_after] * 100 + 20
    moved = dataclasses.replace(moved, look=look)
    in_view = (who == 0) | (np.abs(rows.time_s - 20.0) < 1.2)
    missed = (who == 0) & (np.abs(rows.time_s - 20.0) < 0.2)
    seen = in_view & ~missed
    labels = np.where(rows.time_s < 20.0, who, np.where(who == 0, 2, 0))
    return some_of(moved, seen), who[seen], labels[seen]


def test_a_bird_whose_track_another_one_took_along_gets_it_back() -> None:
    rows, who, labels = passed_by(plumage_after=1)
    settled = settle_encounters(rows, labels, np.zeros((0, 2), np.int64), SETTINGS)
    assert set(settled[who == 0].tolist()) == {0}


def test_another_bird_at_the_place_of_one_that_left_does_not_get_its_track() -> None:
    rows, who, labels = passed_by(plumage_after=3)
    settled = settle_encounters(rows, labels, np.zeros((0, 2), np.int64), SETTINGS)
    assert set(settled[(who == 0) & (rows.time_s < 20.0)].tolist()) == {0}
    assert set(settled[(who == 0) & (rows.time_s > 20.0)].tolist()) == {2}


def test_where_one_is_known_only_from_after_the_encounter_the_other_one_decides() -> None:
    rows, who = two_birds(plumages=(1, 2), depths=(0.6, 0.6))
    came = (who == 0) | (rows.time_s > 19.9)  # bird 1 comes out from behind bird 0
    rows, right, wrong = some_of(rows, came), who[came], mixed_up(who, rows)[came]
    together = np.flatnonzero(np.diff(rows.time_s) == 0)
    near = together[np.abs(rows.time_s[together] - 20.0) < 1.0]
    for labels in (wrong, right):
        settled = settle_encounters(rows, labels, np.stack([near, near + 1], axis=1), SETTINGS)
        assert settled[rows.time_s > 21.0].tolist() == right[rows.time_s > 21.0].tolist()
        assert settled[rows.time_s < 19.0].tolist() == right[rows.time_s < 19.0].tolist()


def test_what_is_seen_long_after_an_encounter_decides_where_the_next_seconds_do_not() -> None:
    rows, who = two_birds(plumages=(1, 2), depths=(0.6, 0.6))
    look = rows.look.copy()
    look[(rows.time_s > 20.0) & (rows.time_s < 36.0)] = np.eye(4, 64, dtype=np.int8)[3] * 100 + 20
    shaded = dataclasses.replace(rows, look=look)  # for 16 s both are in the shade and look the same
    wrong, later = mixed_up(who, rows), rows.time_s > 26.0
    doubts = doubtful(rows, 0.25)  # which lasts for 10 s, so that where they are afterwards says little
    hasty = dataclasses.replace(SETTINGS, most_reviews=0)
    assert settle_encounters(shaded, wrong, doubts, hasty)[later].tolist() == wrong[later].tolist()
    assert settle_encounters(shaded, wrong, doubts, SETTINGS)[later].tolist() == who[later].tolist()
    assert settle_encounters(shaded, who, doubts, SETTINGS).tolist() == who.tolist()


def test_birds_are_compared_while_they_do_the_same() -> None:
    # Each looks like the other one when that one feeds; both feed for most of the time before and seldom after.
    rows, who = two_birds(plumages=(1, 2), depths=(0.6, 0.6))
    early = rows.time_s < 20.0
    feeds = np.where(early, rows.time_s % 8 < 6, rows.time_s % 8 >= 6)
    looks = np.eye(8, 64, dtype=np.int8) * 100 + 20
    doing = np.stack([feeds, ~feeds, np.zeros(len(feeds))], axis=1).astype(np.float32)
    rows = dataclasses.replace(rows, look=looks[np.where(feeds, 1 + who, 2 - who)], doing=doing)
    apart, doubts = np.abs(rows.time_s - 20.0) > 6.0, doubtful(rows, 0.25)
    for labels in (who, mixed_up(who, rows)):
        settled = settle_encounters(rows, labels, doubts, SETTINGS)
        assert settled[apart].tolist() == who[apart].tolist()
    unknown = dataclasses.replace(rows, doing=np.zeros_like(doing))
    settled = settle_encounters(unknown, who, doubts, SETTINGS)
    assert settled[apart].tolist() != who[apart].tolist()


def test_a_single_bird_that_decides_has_to_fit_better_by_twice_the_margin() -> None:
    # The plumages differ by 0.25: enough for two birds, of which each fits better, and not for one of them.
    rows, who = two_birds(plumages=(1, 2), depths=(0.6, 0.6))
    came = (who == 0) | (rows.time_s > 19.9)
    unsure = dataclasses.replace(SETTINGS, margin=5.0)
    later = rows.time_s > 21.0
    wrong = mixed_up(who, rows)
    both = settle_encounters(rows, wrong, doubtful(rows), unsure)
    assert both[later].tolist() == who[later].tolist()
    rows, wrong, later = some_of(rows, came), wrong[came], later[came]
    together = np.flatnonzero(np.diff(rows.time_s) == 0)
    near = together[np.abs(rows.time_s[together] - 20.0) < 1.0]
    one = settle_encounters(rows, wrong, np.stack([near, near + 1], axis=1), unsure)
    assert one[later].tolist() == wrong[later].tolist()


def test_what_a_later_encounter_mixed_up_does_not_decide_an_earlier_one() -> None:
    # Two birds meet at 20 and at 31.5 s, and look the same between; only the second time they were mixed up.
    rows, who = two_birds(plumages=(1, 2), depths=(0.6, 0.6))
    shaded = (rows.time_s > 20.0) & (rows.time_s < 31.5)
    look = np.eye(4, 64, dtype=np.int8)[np.where(shaded, 3, 1 + who)] * 60 + 20
    xy = np.stack([np.ones(len(who)), rows.xy[:, 1]], axis=1)
    rows = dataclasses.replace(rows, look=look, xy=xy)
    meet = np.minimum(np.abs(rows.time_s - 20.0), np.abs(rows.time_s - 31.5)) < 0.4
    near = np.flatnonzero(meet & (who == 0))
    doubts = np.stack([near, near + 1], axis=1)
    brief = dataclasses.replace(
        SETTINGS, most_boxes=20
    )  # at first only the shade is seen beside the second encounter
    settled = settle_encounters(rows, mixed_up(who, rows, from_s=31.5), doubts, brief)
    assert settled[~meet].tolist() == who[~meet].tolist()


def test_one_that_lands_is_not_known_by_how_it_looked_and_where_it_was_on_the_wing() -> None:
    # Bird 0 flies to the left until 21 s. At 20 s bird 1 comes out from behind it, and stays where that was.
    rows, who = two_birds(plumages=(1, 2), depths=(0.60, 0.45))
    flies = (who == 0) & (rows.time_s < 21.0)
    x = np.where(who == 0, 1.0 - 0.4 * np.minimum(rows.time_s - 20.0, 1.0), 1.0)
    y = np.where(flies, 0.45, rows.xy[:, 1])
    look = np.where(flies[:, None], rows.look[1], rows.look)  # of the underside of its wings
    rows = dataclasses.replace(rows, xy=np.stack([x, y], axis=1), look=look)
    seen = (who == 0) & (rows.time_s > 18.0) | (rows.time_s > 20.0)
    rows, who = some_of(rows, seen), who[seen]
    together = np.flatnonzero(np.diff(rows.time_s) == 0)
    near = together[rows.time_s[together] < 21.5]
    assert settle_encounters(rows, who, np.stack([near, near + 1], axis=1), SETTINGS).tolist() == who.tolist()


def portrait(x: float, speed: float) -> _Portrait:
    return _Portrait({}, _Impression(np.zeros(64, np.float32), 0.6, 20), SIZE, 0.0, x, speed)


@pytest.mark.parametrize(("gap", "off"), [(-0.4, 0.0), (0.1, 0.1), (-1.2, 0.2)])
def test_one_that_lands_or_takes_off_may_be_anywhere_on_the_way_that_it_flies(gap: float, off: float) -> None:
    flying, standing = -0.5, 0.0  # picture heights a second, for two seconds
    for before, after in ((flying, standing), (standing, flying)):
        assert _off_its_way(portrait(1.0, before), portrait(1.0 + gap, after), 2.0) == pytest.approx(off)


def test_one_at_an_even_pace_stayed_or_went_on() -> None:
    for gap, off in ((0.0, 0.0), (-1.0, 0.0), (-0.4, 0.4)):
        assert _off_its_way(portrait(1.0, -0.5), portrait(1.0 + gap, -0.5), 2.0) == pytest.approx(off)


def crowd(seed: int) -> tuple[Rows, NDArray[np.int64], NDArray[np.int64]]:
    """Five birds that pass each other for four minutes; where they do, a tracker took some for each other.

    Returns the boxes, what the tracker says, and the pairs of boxes near each other.
    """
    random = np.random.default_rng(seed)
    birds, time_s = 5, np.arange(900) * STEP_S
    period_s, phase = random.uniform(20.0, 60.0, (2, birds, 1))
    x = 1.0 + 0.4 * np.sin(2.0 * np.pi * (time_s / period_s + phase / 20.0))
    plumage = (
        random.normal(0.0, 5.0, (birds, 1, 64)) + random.normal(0.0, 5.0, (birds, len(time_s), 64)) + 40.0
    )
    said, labels, pairs = np.arange(birds), np.zeros((len(time_s), birds), np.int64), []
    for k in range(len(time_s)):
        for i, j in itertools.combinations(range(birds), 2):
            if abs(x[i, k] - x[j, k]) < NEAR:
                pairs.append((birds * k + i, birds * k + j))
                if random.random() < 0.1:
                    said[[i, j]] = said[[j, i]]
        labels[k] = said
    count = birds * len(time_s)
    rows = Rows(
        time_s=np.repeat(time_s, birds),
        xy=np.stack([x.T.ravel(), np.full(count, 0.6)], axis=1),
        size=np.full(count, SIZE),
        shape=np.zeros((count, 2)),
        look=plumage.transpose(1, 0, 2).reshape(count, 64).astype(np.int8),
        doing=np.zeros((count, 3), np.float32),
        box_score=np.ones(count, np.float32),
        duplicate=np.zeros(count, np.bool_),
        fixed=np.full(count, NO_TRACK),
        step_s=STEP_S,
        aspect=16 / 9,
    )
    return rows, labels.ravel(), np.array(pairs, np.int64)


@pytest.mark.parametrize("seed", range(3))
def test_when_the_review_ends_nothing_is_gained_by_any_other_exchange(seed: int) -> None:
    rows, labels, doubts = crowd(seed)
    patient = dataclasses.replace(SETTINGS, review_s=20.0, most_reviews=1000)
    identities = _Identities(rows, labels, doubts, patient)
    encounters = _encounters(labels, find_doubts(rows, labels, doubts, patient), patient.pause_s)
    assert max(identities._gain_of_review(encounter) for encounter in encounters) > 0.0
    identities.review(encounters)
    assert max(identities._gain_of_review(encounter) for encounter in encounters) <= 0.0
