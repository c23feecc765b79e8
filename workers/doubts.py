"""Where two tracks may have been mixed up: what an encounter is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.association import Floats
from workers.tracklets import NO_TRACK, Rows

RowNumbers = NDArray[np.int64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class EncounterSettings:
    """What an encounter is and when its outcome is put right."""

    near_lengths: float = 0.8
    """A bird whose boxes fail this close to another, in body lengths, is hidden by it, or hides it."""
    hidden_keyframes: int = 1
    """So many keyframes must lack its box."""
    cut_keyframes: int = 3
    """So many keyframes before a track begins, or after it ends, another one beside it is asked whose boxes it has."""
    pause_s: float = 2.0
    """Encounters of the same two within this time are one."""
    calm_s: float = 10.0
    """Time after, and up to three times as long before, from which a bird is known."""
    least_boxes: int = 4
    """With fewer calm boxes in that time a bird is not known there."""
    most_boxes: int = 40
    """As many calm boxes are looked at, the nearest in time."""
    margin: float = 2.0
    """By how much the exchanged identities must fit better, in usual differences between portraits of one bird."""
    stranger: float = 2.0
    """Cost, in the same unit, of a bird that is known on one side of an encounter only: it came, or went, during it."""
    review_s: float = 45.0
    """In place of ``calm_s`` when all encounters have been settled and each is looked at again."""
    review_boxes: int = 160
    """In place of ``most_boxes`` then."""
    most_reviews: int = 3
    """So often one may be decided otherwise then."""


@dataclass(frozen=True, slots=True, eq=False)
class Doubts:
    """Pairs of boxes of two tracks of which each may be the other's."""

    pairs: RowNumbers
    """Rows, shape ``(P, 2)``."""
    start_s: Floats
    """From when on nothing is certain, shape ``(P,)``."""
    end_s: Floats
    """Until when, shape ``(P,)``."""


def find_doubts(
    rows: Rows, labels: NDArray[np.int64], doubtful: RowNumbers, settings: EncounterSettings
) -> Doubts:
    """All doubts about tracks ``labels`` ``(N,)``: those of the tracker, ``(P, 2)``, and those by where tracks begin,
    pause and end."""
    doubtful = doubtful[(labels[doubtful] != NO_TRACK).all(axis=1)]
    doubtful = doubtful[labels[doubtful[:, 0]] != labels[doubtful[:, 1]]]
    linked_s = rows.time_s[doubtful[:, 0]]
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] != NO_TRACK]
    edge = np.flatnonzero(np.diff(labels[order], prepend=NO_TRACK, append=NO_TRACK))
    first, last = order[edge[:-1]], order[edge[1:] - 1]
    first = first[rows.fixed[first] == NO_TRACK]
    parts = (
        Doubts(doubtful, linked_s, linked_s),
        _hidden(rows, labels, order, settings),
        _cut(rows, labels, first, last, settings),
    )
    return Doubts(
        np.concatenate([part.pairs for part in parts]),
        np.concatenate([part.start_s for part in parts]),
        np.concatenate([part.end_s for part in parts]),
    )


def _hidden(rows: Rows, labels: NDArray[np.int64], order: Places, settings: EncounterSettings) -> Doubts:
    """Boxes beside which a track was lost or came back, with the start and the end of its absence.

    Where two birds give a single box, the tracker lets one of them keep it and loses the other: which one
    is as doubtful as any link. ``order`` are the rows of all tracks, track by track.
    """
    last, next_ = order[:-1], order[1:]
    longer_s = (settings.hidden_keyframes + 0.5) * rows.step_s
    absent = (labels[last] == labels[next_]) & (rows.time_s[next_] - rows.time_s[last] > longer_s)
    last, next_ = last[absent], next_[absent]
    edge, start_s = np.concatenate([last, next_]), np.tile(rows.time_s[last], 2)
    end_s = np.tile(rows.time_s[next_], 2)
    which, other = _beside(rows, labels, edge, rows.time_s[edge], rows.time_s[edge], settings)
    return Doubts(_pairs(edge[which], other), start_s[which], end_s[which])


def _cut(
    rows: Rows, labels: NDArray[np.int64], first: Places, last: Places, settings: EncounterSettings
) -> Doubts:
    """Boxes with which a track begins where another one just was, or ends where another one soon is.

    A bird that flies by a resting one takes its track with it, and the resting one begins another.
    """
    edge, time_s = np.concatenate([first, last]), rows.time_s
    reach_s = settings.cut_keyframes * rows.step_s + 1e-6
    from_s = np.concatenate([time_s[first] - reach_s, time_s[last]])
    until_s = np.concatenate([time_s[first], time_s[last] + reach_s])
    which, other = _beside(rows, labels, edge, from_s, until_s, settings)
    pairs = _pairs(edge[which], other)
    return Doubts(pairs, time_s[pairs].min(axis=1), time_s[pairs].max(axis=1))


def _beside(
    rows: Rows,
    labels: NDArray[np.int64],
    edge: Places,
    from_s: Floats,
    until_s: Floats,
    settings: EncounterSettings,
) -> tuple[Places, Places]:
    """Boxes of other tracks near given ones, each within a time: numbers in ``edge`` and rows."""
    low = np.searchsorted(rows.time_s, from_s, side="left")
    count = np.searchsorted(rows.time_s, until_s, side="right") - low
    which = np.repeat(np.arange(len(edge)), count)
    other = np.repeat(low, count) + np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    of_others = (labels[other] != labels[edge[which]]) & (labels[other] != NO_TRACK)
    near = of_others & _are_near(rows, edge[which], other, settings)
    return which[near], other[near]


def _are_near(rows: Rows, i: Places, j: Places, settings: EncounterSettings) -> NDArray[np.bool_]:
    gap = rows.xy[j] - rows.xy[i]
    near: NDArray[np.bool_] = np.hypot(gap[:, 0], gap[:, 1]) < settings.near_lengths * np.maximum(
        rows.size[i], rows.size[j]
    )
    return near


def _pairs(i: Places, j: Places) -> RowNumbers:
    return np.stack([i, j], axis=1).astype(np.int64)
