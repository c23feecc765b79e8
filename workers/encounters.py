"""Who is who after two birds stood in front of each other: tracks that were mixed up are put right.

While two birds are at one place their boxes say little about which is which, and a tracker that decides from
keyframe to keyframe tosses a coin each time. Plumage and the depth at which a bird stands are known well from
the calm seconds before and after, so the two are compared across the whole encounter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.association import Floats
from workers.tracklets import NO_TRACK, Rows, unit_rows

RowNumbers = NDArray[np.int64]
FORESIGHT_S = 3.0
"""A bird that walks is expected to go on for this long."""


@dataclass(frozen=True, slots=True)
class EncounterSettings:
    """What an encounter is and when its outcome is put right."""

    near_lengths: float = 0.8
    """A bird whose boxes fail this close to another, in body lengths, is hidden by it, or hides it."""
    hidden_keyframes: int = 1
    """So many keyframes must lack its box."""
    pause_s: float = 2.0
    """Encounters of the same two within this time are one."""
    calm_s: float = 10.0
    """Time after, and up to three times as long before, from which a bird is known."""
    least_boxes: int = 4
    """With fewer calm boxes in that time nothing is decided."""
    most_boxes: int = 40
    """As many calm boxes are looked at, the nearest in time."""
    margin: float = 0.1
    """By how much the exchanged identities must fit better."""


@dataclass(frozen=True, slots=True)
class _Encounter:
    end_s: float
    start_s: float
    tracks: tuple[int, int]
    """The two labels, as they were linked."""


@dataclass(frozen=True, slots=True, eq=False)
class _Portrait:
    """What is known of a bird from some calm boxes."""

    look: NDArray[np.float32]
    depth: float
    """Median height of the feet in the picture, in picture heights."""
    size: float
    time_s: float
    """Of the box nearest to the encounter."""
    x: float
    """Where it was then, in picture heights."""
    speed: float
    """In picture heights a second, along the width."""


def settle_encounters(
    rows: Rows, labels: NDArray[np.int64], doubtful: RowNumbers, settings: EncounterSettings
) -> NDArray[np.int64]:
    """Exchange the identities of two tracks from an encounter on, where they fit better that way.

    ``doubtful`` ``(P, 2)`` are the pairs of rows whose links could as well have been exchanged: encounters
    are where two tracks have such rows. They are settled in the order in which they end, each with what the
    earlier ones decided. Returns the new labels ``(N,)``; labels of fixed rows do not change.
    """
    doubtful = doubtful[(labels[doubtful] != NO_TRACK).all(axis=1)]
    doubtful = doubtful[labels[doubtful[:, 0]] != labels[doubtful[:, 1]]]
    hidden, hidden_from_s, hidden_until_s = _hidden_pairs(rows, labels, settings)
    pairs = np.concatenate([doubtful, hidden])
    if not len(pairs):
        return labels
    calm = np.ones(len(labels), np.bool_)
    calm[pairs.ravel()] = False
    doubtful_s = rows.time_s[doubtful[:, 0]]
    encounters = _encounters(
        np.sort(labels[pairs], axis=1),
        np.concatenate([doubtful_s, hidden_from_s]),
        np.concatenate([doubtful_s, hidden_until_s]),
        settings.pause_s,
    )
    order = np.argsort(labels, kind="stable").astype(np.int64)
    name, first = np.unique(labels[order], return_index=True)
    linked = dict(zip(name.tolist(), np.split(order, first[1:]), strict=True))
    settled = dict(linked)
    identity = {label: label for label in linked}
    free_s = float(rows.time_s[rows.fixed == NO_TRACK].min(initial=np.inf))
    for encounter in encounters:
        a, b = (identity[track] for track in encounter.tracks)
        before = [_known_before(rows, settled[label], calm, encounter.start_s, settings) for label in (a, b)]
        after = [
            _known_after(rows, linked[track], calm, encounter.end_s, settings) for track in encounter.tracks
        ]
        if _fits_better_exchanged(before, after, settings.margin):
            middle_s = max(0.5 * (encounter.start_s + encounter.end_s), free_s)
            settled[a], settled[b] = _exchanged(rows.time_s, settled[a], settled[b], middle_s)
            identity[encounter.tracks[0]], identity[encounter.tracks[1]] = b, a
    result = labels.copy()
    for label, members in settled.items():
        result[members] = label
    return result


def _hidden_pairs(
    rows: Rows, labels: NDArray[np.int64], settings: EncounterSettings
) -> tuple[RowNumbers, Floats, Floats]:
    """Boxes beside which a track was lost or came back, with the start and the end of its absence.

    Where two birds give a single box, the tracker lets one of them keep it and loses the other: which one
    is as doubtful as any link. Returns pairs of rows of one keyframe ``(P, 2)`` and times ``(P,)``.
    """
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] != NO_TRACK]
    last, next_ = order[:-1], order[1:]
    longer_s = (settings.hidden_keyframes + 0.5) * rows.step_s
    absent = (labels[last] == labels[next_]) & (rows.time_s[next_] - rows.time_s[last] > longer_s)
    last, next_ = last[absent], next_[absent]
    edge, start_s = np.concatenate([last, next_]), np.tile(rows.time_s[last], 2)
    end_s = np.tile(rows.time_s[next_], 2)
    low = np.searchsorted(rows.time_s, rows.time_s[edge], side="left")
    count = np.searchsorted(rows.time_s, rows.time_s[edge], side="right") - low
    which = np.repeat(np.arange(len(edge)), count)
    other = np.repeat(low, count) + np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    gap = rows.xy[other] - rows.xy[edge[which]]
    reach = settings.near_lengths * np.maximum(rows.size[other], rows.size[edge[which]])
    near = (labels[other] != labels[edge[which]]) & (labels[other] != NO_TRACK) & (np.hypot(*gap.T) < reach)
    pairs = np.stack([edge[which[near]], other[near]], axis=1).astype(np.int64)
    return pairs, start_s[which[near]], end_s[which[near]]


def _encounters(
    tracks: NDArray[np.int64], start_s: Floats, end_s: Floats, pause_s: float
) -> list[_Encounter]:
    """Join the doubts about the same two tracks ``(P, 2)`` that follow closely; by their end."""
    joined: list[_Encounter] = []
    for k in np.lexsort((start_s, tracks[:, 1], tracks[:, 0])).tolist():
        pair, start, end = (int(tracks[k, 0]), int(tracks[k, 1])), float(start_s[k]), float(end_s[k])
        if joined and joined[-1].tracks == pair and start <= joined[-1].end_s + pause_s:
            joined[-1] = _Encounter(max(end, joined[-1].end_s), joined[-1].start_s, pair)
        else:
            joined.append(_Encounter(end, start, pair))
    return sorted(joined, key=lambda encounter: (encounter.end_s, encounter.start_s, encounter.tracks))


def _known_before(
    rows: Rows, members: RowNumbers, calm: NDArray[np.bool_], time_s: float, settings: EncounterSettings
) -> _Portrait | None:
    low, high = np.searchsorted(rows.time_s[members], [time_s - 3.0 * settings.calm_s, time_s])
    chosen = members[low:high]
    return _portrait(rows, chosen[calm[chosen]][::-1], settings)


def _known_after(
    rows: Rows, members: RowNumbers, calm: NDArray[np.bool_], time_s: float, settings: EncounterSettings
) -> _Portrait | None:
    low, high = np.searchsorted(rows.time_s[members], [time_s, time_s + settings.calm_s], side="right")
    chosen = members[low:high]
    return _portrait(rows, chosen[calm[chosen]], settings)


def _portrait(rows: Rows, chosen: RowNumbers, settings: EncounterSettings) -> _Portrait | None:
    """From boxes in the order of their distance in time from the encounter; None where they are too few."""
    if len(chosen) < settings.least_boxes:
        return None
    chosen = chosen[: settings.most_boxes]
    look = unit_rows(rows.unit_look(chosen).mean(axis=0, keepdims=True))[0]
    depth, size = float(np.median(rows.xy[chosen, 1])), float(np.median(rows.size[chosen]))
    time_s, x = rows.time_s[chosen[:8]], rows.xy[chosen[:8], 0]
    speed = float(((time_s - time_s.mean()) * x).sum() / ((time_s - time_s.mean()) ** 2).sum())
    return _Portrait(look, depth, size, float(time_s[0]), float(x[0]), speed)


def _fits_better_exchanged(
    before: list[_Portrait | None], after: list[_Portrait | None], margin: float
) -> bool:
    first, second = before
    then_first, then_second = after
    if first is None or second is None or then_first is None or then_second is None:
        return False
    kept = _unlike(first, then_first) + _unlike(second, then_second)
    exchanged = _unlike(first, then_second) + _unlike(second, then_first)
    return exchanged + margin < kept


def _unlike(before: _Portrait, after: _Portrait) -> float:
    """How badly two portraits agree, 0 upwards: in plumage, in depth, and in where it should be by now.

    It may have stayed or have walked on; the longer the encounter lasted, the less is known of that.
    """
    lasted_s = after.time_s - before.time_s
    walked_s = min(lasted_s, FORESIGHT_S)
    gap = after.x - before.x
    off = min(abs(gap), abs(gap - before.speed * walked_s), abs(gap - after.speed * walked_s))
    size = max(before.size, after.size)
    look = 1.0 - float(before.look @ after.look)
    depth = abs(after.depth - before.depth) / size
    return look + min(depth, 1.0) + 0.3 * min(off / size, 3.0) / (1.0 + lasted_s)


def _exchanged(
    time_s: Floats, first: RowNumbers, second: RowNumbers, from_s: float
) -> tuple[RowNumbers, RowNumbers]:
    """The rows of two tracks after they exchanged what they have from a time on."""
    i, j = np.searchsorted(time_s[first], from_s), np.searchsorted(time_s[second], from_s)
    return np.concatenate([first[:i], second[j:]]), np.concatenate([second[:j], first[i:]])
