"""Who is who after two birds stood in front of each other: tracks that were mixed up are put right.

While two birds are at one place their boxes say little about which is which, and a tracker that decides from
keyframe to keyframe tosses a coin each time. Plumage and the depth at which a bird stands are known well from
the calm seconds before and after, so the two are compared across the whole encounter.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.association import FLYING_LENGTHS, Floats
from workers.doubts import Doubts, EncounterSettings, RowNumbers, find_doubts
from workers.tracklets import NO_TRACK, Rows, unit_rows

FORESIGHT_S = 3.0
"""A bird that walks is expected to go on for this long."""
USUAL_ALIKE, USUAL_APART = (0.014, 0.0115), (0.0215, 0.015)
"""How much two portraits of one bird usually differ in looks (one minus the cosine) and in depth (body lengths): where
it does the same in both, and where it may not. Means over ten seconds and another ten of the half minute after, on
simulated reserves of the seeds 777 and 90210 (a script that is not in the tree)."""
MOST_UNUSUAL = 10.0
"""Differences of so many times the usual one say no more than that."""
BOXES_FOR_HALF = 20
"""With so many boxes in the smaller one of two impressions half of what they say is believed: the boxes of a moment
resemble each other."""
OFF_WEIGHT, MOST_OFF = 14.0, 3.0
"""Weight of a body length between where a bird should be and where it is, for an encounter of no length, and the most
of them that count."""
CHANGED_PACE = 8.0
"""Cost of a bird that was fast and is not any more, or the other way round, in place of the difference in looks and
depth: on the wing it looks otherwise, and the height of its feet says nothing of where it lands."""


@dataclass(frozen=True, slots=True)
class _Encounter:
    end_s: float
    start_s: float
    tracks: tuple[int, int]
    """The two labels, as they were linked."""

    def seen_s(self, calm_s: float) -> tuple[float, float]:
        """From when and until when it is looked at whose the tracks are."""
        return self.start_s - 3.0 * calm_s, self.end_s + calm_s


@dataclass(frozen=True, slots=True, eq=False)
class _Impression:
    """How a bird looked and where it stood in some boxes."""

    look: NDArray[np.float32]
    depth: float
    """Median height of the feet in the picture, in picture heights."""
    boxes: int


@dataclass(frozen=True, slots=True, eq=False)
class _Portrait:
    """What is known of a bird from some calm boxes."""

    doing: dict[int, _Impression]
    """While it did the same, by the number of the behaviour."""
    whole: _Impression
    size: float
    time_s: float
    """Of the box nearest to the encounter."""
    x: float
    """Where it was then, in picture heights."""
    speed: float
    """In picture heights a second, along the width."""

    def is_fast(self) -> bool:
        """Whether it flies or runs, and does not stand or walk."""
        return abs(self.speed) > FLYING_LENGTHS * self.size


def settle_encounters(
    rows: Rows, labels: NDArray[np.int64], doubtful: RowNumbers, settings: EncounterSettings
) -> NDArray[np.int64]:
    """Exchange the identities of two tracks from an encounter on, where they fit better that way.

    ``doubtful`` ``(P, 2)`` are the pairs of rows whose links could as well have been exchanged: encounters
    are where two tracks have such rows, where one was hidden beside the other, or began or ended there. They are
    settled in the order in which they end, each with what the earlier ones decided, and then looked at again, with
    what all others decided. Returns the new labels ``(N,)``; labels of fixed rows do not change.
    """
    doubts = find_doubts(rows, labels, doubtful, settings)
    if not len(doubts.pairs):
        return labels
    identities = _Identities(rows, labels, doubts.pairs, settings)
    encounters = _encounters(labels, doubts, settings.pause_s)
    for encounter in encounters:
        identities.settle(encounter)
    identities.review(encounters)
    return identities.owner


class _Identities:
    """Which rows each individual has, as far as the encounters are settled."""

    def __init__(
        self, rows: Rows, labels: NDArray[np.int64], doubts: RowNumbers, settings: EncounterSettings
    ) -> None:
        self.rows = rows
        self.settings = settings
        self.wider = dataclasses.replace(settings, calm_s=settings.review_s, most_boxes=settings.review_boxes)
        self.owner = labels.copy()
        self.calm = np.ones(len(labels), np.bool_)
        self.calm[doubts.ravel()] = False
        order = np.argsort(labels, kind="stable").astype(np.int64)
        name, first = np.unique(labels[order], return_index=True)
        self.linked = dict(zip(name.tolist(), np.split(order, first[1:]), strict=True))
        self.settled = dict(self.linked)
        self.identity = {label: label for label in self.linked}
        self.free_s = float(rows.time_s[rows.fixed == NO_TRACK].min(initial=np.inf))

    def settle(self, encounter: _Encounter) -> None:
        """Decide whose the two tracks are that leave an encounter, when all that ended before it are settled."""
        a, b = (self.identity[track] for track in encounter.tracks)
        before = [self._before(self.settled[label], encounter, self.settings) for label in (a, b)]
        after = [self._after(self.linked[track], encounter, self.settings) for track in encounter.tracks]
        if _gain_of_exchange(before, after, self.settings) > 0.0:
            self._exchange(a, b, encounter)
            self.identity[encounter.tracks[0]], self.identity[encounter.tracks[1]] = b, a

    def review(self, encounters: list[_Encounter]) -> None:
        """Exchange again where the most is gained by it, from what is known before and after by now, until nothing is.

        In the order of time an encounter would be decided from what a later one mixed up. An exchange says nothing new
        of encounters of other birds, or of those that are seen from so far away that both sides are before it, or
        after it.
        """
        left = np.full(len(encounters), self.settings.most_reviews)
        gain = np.full(len(encounters), -np.inf)
        from_s, until_s = np.array([encounter.seen_s(self.wider.calm_s) for encounter in encounters]).T
        stale = list(range(len(encounters)))
        while True:
            for k in stale:
                gain[k] = self._gain_of_review(encounters[k]) if left[k] else -np.inf
            best = int(gain.argmax())
            if not gain[best] > 0.0:
                return
            left[best], gain[best] = left[best] - 1, -np.inf
            birds = self._owners_after(encounters[best])
            exchanged_s = self._exchange(*birds, encounters[best])
            near = np.flatnonzero((from_s < exchanged_s) & (exchanged_s <= until_s)).tolist()
            stale = [k for k in near if set(birds) & set(self._owners_after(encounters[k]))]

    def _gain_of_review(self, encounter: _Encounter) -> float:
        a, b = self._owners_after(encounter)
        if a == b or NO_TRACK in (a, b):
            return -np.inf
        before = [self._before(self.settled[label], encounter, self.wider) for label in (a, b)]
        after = [self._after(self.settled[label], encounter, self.wider) for label in (a, b)]
        if None in before or None in after:
            return -np.inf
        return _gain_of_exchange(before, after, self.wider)

    def _owners_after(self, encounter: _Encounter) -> tuple[int, int]:
        """Whose the two tracks are that leave it."""
        first, second = encounter.tracks
        return self._owner_after(first, encounter.end_s), self._owner_after(second, encounter.end_s)

    def _owner_after(self, track: int, time_s: float) -> int:
        members = self.linked[track]
        place = int(np.searchsorted(self.rows.time_s[members], time_s, side="right"))
        return int(self.owner[members[place]]) if place < len(members) else NO_TRACK

    def _exchange(self, a: int, b: int, encounter: _Encounter) -> float:
        """Exchange what two individuals have from the middle of an encounter on; returns from when."""
        from_s = max(0.5 * (encounter.start_s + encounter.end_s), self.free_s)
        exchanged = _exchanged(self.rows.time_s, self.settled[a], self.settled[b], from_s)
        for label, members in zip((a, b), exchanged, strict=True):
            self.settled[label] = members
            self.owner[members] = label
        return from_s

    def _before(
        self, members: RowNumbers, encounter: _Encounter, settings: EncounterSettings
    ) -> _Portrait | None:
        from_s, _ = encounter.seen_s(settings.calm_s)
        low, high = np.searchsorted(self.rows.time_s[members], [from_s, encounter.start_s])
        chosen = members[low:high]
        return _portrait(self.rows, chosen[self.calm[chosen]][::-1], settings)

    def _after(
        self, members: RowNumbers, encounter: _Encounter, settings: EncounterSettings
    ) -> _Portrait | None:
        _, until_s = encounter.seen_s(settings.calm_s)
        low, high = np.searchsorted(self.rows.time_s[members], [encounter.end_s, until_s], side="right")
        chosen = members[low:high]
        return _portrait(self.rows, chosen[self.calm[chosen]], settings)


def _encounters(labels: NDArray[np.int64], doubts: Doubts, pause_s: float) -> list[_Encounter]:
    """Join the doubts about the same two tracks that follow closely; by their end."""
    tracks, start_s, end_s = np.sort(labels[doubts.pairs], axis=1), doubts.start_s, doubts.end_s
    joined: list[_Encounter] = []
    for k in np.lexsort((start_s, tracks[:, 1], tracks[:, 0])).tolist():
        pair, start, end = (int(tracks[k, 0]), int(tracks[k, 1])), float(start_s[k]), float(end_s[k])
        if joined and joined[-1].tracks == pair and start <= joined[-1].end_s + pause_s:
            joined[-1] = _Encounter(max(end, joined[-1].end_s), joined[-1].start_s, pair)
        else:
            joined.append(_Encounter(end, start, pair))
    return sorted(joined, key=lambda encounter: (encounter.end_s, encounter.start_s, encounter.tracks))


def _portrait(rows: Rows, chosen: RowNumbers, settings: EncounterSettings) -> _Portrait | None:
    """From boxes in the order of their distance in time from the encounter; None where they are too few."""
    if len(chosen) < settings.least_boxes:
        return None
    chosen = chosen[: settings.most_boxes]
    probability = rows.doing[chosen]
    behaviour = np.where(probability.any(axis=1), probability.argmax(axis=1), -1)
    numbers, counts = np.unique(behaviour, return_counts=True)
    doing = {
        int(number): _impression(rows, chosen[behaviour == number])
        for number in numbers[(counts >= settings.least_boxes) & (numbers >= 0)]
    }
    time_s, x = rows.time_s[chosen[:8]], rows.xy[chosen[:8], 0]
    speed = float(((time_s - time_s.mean()) * x).sum() / ((time_s - time_s.mean()) ** 2).sum())
    size = float(np.median(rows.size[chosen]))
    return _Portrait(doing, _impression(rows, chosen), size, float(time_s[0]), float(x[0]), speed)


def _impression(rows: Rows, chosen: RowNumbers) -> _Impression:
    look = unit_rows(rows.unit_look(chosen).mean(axis=0, keepdims=True))[0]
    return _Impression(look, float(np.median(rows.xy[chosen, 1])), len(chosen))


def _gain_of_exchange(
    before: list[_Portrait | None], after: list[_Portrait | None], settings: EncounterSettings
) -> float:
    """By how much the tracks fit better exchanged, or, where one came and the other went, as those of a single bird,
    beyond the margin.

    Where it is a single bird that decides, its error is not evened out by the other's: it has to fit better by twice
    the margin.
    """
    unknown = [portrait is None for portrait in (*before, *after)]
    one_came_and_one_went = unknown in ([False, True, True, False], [True, False, False, True])
    if sum(unknown) > 1 and not one_came_and_one_went:
        return -np.inf
    kept = _cost(before[0], after[0], settings) + _cost(before[1], after[1], settings)
    exchanged = _cost(before[0], after[1], settings) + _cost(before[1], after[0], settings)
    return kept - exchanged - (settings.margin if sum(unknown) != 1 else 2.0 * settings.margin)


def _cost(before: _Portrait | None, after: _Portrait | None, settings: EncounterSettings) -> float:
    """What it costs that these are one bird; where one is not known, that the other is not seen beyond."""
    if before is None or after is None:
        return 0.0 if before is after else settings.stranger
    return _unlike(before, after)


def _unlike(before: _Portrait, after: _Portrait) -> float:
    """How badly two portraits agree, 0 upwards, in units of how much those of one bird usually differ.

    What it does changes how a bird looks and where its box stands, so that portraits are compared while both do the
    same, where they do. The longer the encounter lasted, the less is known of where it should be.
    """
    lasted_s = after.time_s - before.time_s
    size = max(before.size, after.size)
    off = _off_its_way(before, after, min(lasted_s, FORESIGHT_S))
    place = OFF_WEIGHT * min(off / size, MOST_OFF) / (1.0 + lasted_s)
    shared = sorted(before.doing.keys() & after.doing.keys())
    if shared:
        return place + sum(_difference(before.doing[b], after.doing[b], size, USUAL_ALIKE) for b in shared)
    if before.is_fast() != after.is_fast():
        return place + CHANGED_PACE
    return place + _difference(before.whole, after.whole, size, USUAL_APART)


def _off_its_way(before: _Portrait, after: _Portrait, moved_s: float) -> float:
    """How far it is from where it could be expected after it moved for at most that long, in picture heights.

    A bird at an even pace stayed or went on. One that took off or landed meanwhile flew a part of the time.
    """
    gap, onward, back = after.x - before.x, before.speed * moved_s, after.speed * moved_s
    if before.is_fast() == after.is_fast():
        return min(abs(gap), abs(gap - onward), abs(gap - back))
    flown = onward if before.is_fast() else back
    return max(min(0.0, flown) - gap, gap - max(0.0, flown), 0.0)


def _difference(before: _Impression, after: _Impression, size: float, usual: tuple[float, float]) -> float:
    look = (1.0 - float(before.look @ after.look)) / usual[0]
    depth = abs(after.depth - before.depth) / size / usual[1]
    boxes = min(before.boxes, after.boxes)
    return boxes / (boxes + BOXES_FOR_HALF) * (min(look, MOST_UNUSUAL) + min(depth, MOST_UNUSUAL))


def _exchanged(
    time_s: Floats, first: RowNumbers, second: RowNumbers, from_s: float
) -> tuple[RowNumbers, RowNumbers]:
    """The rows of two tracks after they exchanged what they have from a time on."""
    i, j = np.searchsorted(time_s[first], from_s), np.searchsorted(time_s[second], from_s)
    return np.concatenate([first[:i], second[j:]]), np.concatenate([second[:j], first[i:]])
