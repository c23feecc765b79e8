"""Tracks that were mixed up while two birds stood in front of each other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.encounters import EncounterSettings, settle_encounters
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


def doubtful(rows: Rows) -> NDArray[np.int64]:
    """The pairs of boxes of one keyframe that are near each other; rows come in pairs."""
    first = np.arange(0, len(rows.time_s), 2)
    gap = rows.xy[first + 1] - rows.xy[first]
    near = first[np.hypot(gap[:, 0], gap[:, 1]) < NEAR]
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
