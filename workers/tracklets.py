"""The first pass of tracking: boxes of one camera in time order become tracklets, runs without long holes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.association import Floats, assign, change_of_behaviour, intersection_area, unlikeness

NO_TRACK = -1
STEADY, IGNORED, FOLLOWED = np.array([0.5, 0.1]), np.array([0.0, 0.15]), np.array([0.25, 0.6])
"""How a track follows a deviation from where it was expected, along width and height: by at least the share
``STEADY``, in full from ``FOLLOWED`` body lengths on. Along the height a pecking bill lowers the box by up to
``IGNORED`` body lengths, while the bird stays at its depth."""
MAX_MISSED_STEPS = 2.5
"""A bird that was not seen for more keyframe steps is not looked for beyond its gate."""
STRIDE = 0.5
"""A first step of fewer body lengths is taken for the detector's jitter and not for a velocity."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How far a bird may be from where it is expected; lengths are in its own body lengths."""

    confident_score: float = 0.5
    """Boxes at least this sure may begin a track; weaker ones only continue one."""
    weak_score: float = 0.1
    """Boxes less sure than this are not looked at."""
    gate_lengths: float = 0.8
    """Largest distance from the expected place along the picture's width, after one keyframe step."""
    gate_depth: float = 0.5
    """The same along its height: birds walk across the picture faster than into its depth."""
    top_cost: float = 0.25
    """Cost of going by the upper edge of the box: a shadow or a reflection below moves the lower one."""
    gate_speed: float = 0.15
    """What each body length of speed per keyframe step adds to that distance."""
    jump_lengths: float = 4.0
    """Largest step of a bird whose velocity is not known yet or changes: one that flies."""
    shape_weight: float = 0.12
    """Cost of a box twice as wide, or twice as high, as the last one."""
    appearance_weight: float = 0.8
    """Cost of one minus the cosine of two appearances; 1 is the cost of no link."""
    behaviour_weight: float = 0.1
    """Cost of doing something else altogether than at the last keyframe."""
    doubt: float = 0.2
    """Two links are in doubt when exchanging them would cost at most this more."""
    max_lost_s: float = 1.2
    """A tracklet ends when its bird was not seen for this long; rejoining comes later."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The boxes of consecutive recordings of one camera, in time order; N rows."""

    time_s: Floats
    """Seconds on the clock of the camera, shape ``(N,)``."""
    xy: Floats
    """Middle of the box's lower edge in picture heights, shape ``(N, 2)``: where the feet are, which stay
    when a bird raises its neck, and differ between birds at different depths."""
    size: Floats
    """The longer side of the box, in picture heights, shape ``(N,)``: a body length."""
    shape: Floats
    """Logarithms to base 2 of the box's width and height, shape ``(N, 2)``."""
    look: NDArray[np.int8]
    """Appearance, shape ``(N, 64)``."""
    doing: NDArray[np.float32]
    """Probability of each behaviour, zeros where it is not known, shape ``(N, C)``."""
    box_score: NDArray[np.float32]
    duplicate: NDArray[np.bool_]
    """Boxes on a bird that has a surer one, shape ``(N,)``: they may not begin a track."""
    fixed: NDArray[np.int64]
    """Tracklet that a row is known to belong to, numbered from 0, or ``NO_TRACK``, shape ``(N,)``."""
    step_s: float
    """Time from one keyframe to the next."""
    aspect: float
    """The picture's width in picture heights."""

    def keyframe_starts(self) -> NDArray[np.int64]:
        """First row of each keyframe, and the number of rows at the end."""
        change = np.flatnonzero(np.diff(self.time_s) > 0) + 1
        return np.concatenate([[0], change, [len(self.time_s)]]).astype(np.int64)

    def unit_look(self, rows: slice | NDArray[np.intp] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Appearance of some rows as unit vectors; zero where a row has none."""
        return unit_rows(self.look[rows].astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Which tracklet each box belongs to."""

    labels: NDArray[np.int64]
    """Number of the tracklet, or ``NO_TRACK``, shape ``(N,)``."""
    doubtful: NDArray[np.int64]
    """Pairs of rows of one keyframe that could as well have been each other, shape ``(P, 2)``."""


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every row ``(M, D)`` scaled to length 1; rows of zeros stay zero."""
    length = np.sqrt(np.einsum("md,md->m", vectors, vectors))
    unit: NDArray[np.float32] = vectors / np.maximum(length, np.float32(1e-9))[:, None]
    return unit


class _Live:
    """The tracks that are being followed, by column; T tracks."""

    def __init__(self, behaviours: int) -> None:
        self.label = np.zeros(0, np.int64)
        self.doing = np.zeros((0, behaviours), np.float32)
        self.xy = np.zeros((0, 2))
        self.velocity = np.zeros((0, 2))
        """Picture heights a second."""
        self.size = np.zeros(0)
        self.shape = np.zeros((0, 2))
        self.look = np.zeros((0, 64), np.float32)
        self.time_s = np.zeros(0)
        self.hits = np.zeros(0, np.int64)

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Forget the tracks outside ``mask``."""
        for name in vars(self):
            setattr(self, name, getattr(self, name)[mask])

    def add(self, label: NDArray[np.int64], rows: Rows, row: NDArray[np.intp], now_s: float) -> None:
        """Begin tracks at these boxes, standing still as far as is known."""
        count = len(label)
        self.label = np.concatenate([self.label, label])
        self.xy = np.concatenate([self.xy, rows.xy[row]])
        self.velocity = np.concatenate([self.velocity, np.zeros((count, 2))])
        self.size = np.concatenate([self.size, rows.size[row]])
        self.shape = np.concatenate([self.shape, rows.shape[row]])
        self.look = np.concatenate([self.look, rows.unit_look(row)])
        self.doing = np.concatenate([self.doing, rows.doing[row]])
        self.time_s = np.concatenate([self.time_s, np.full(count, now_s)])
        self.hits = np.concatenate([self.hits, np.ones(count, np.int64)])

    def move(self, track: NDArray[np.intp], rows: Rows, row: NDArray[np.intp], now_s: float) -> None:
        """Let tracks continue at these boxes."""
        elapsed_s = (now_s - self.time_s[track])[:, None]
        size = self.size[track]
        expected = self.xy[track] + self.velocity[track] * elapsed_s
        surprise = rows.xy[row] - expected
        lengths = np.abs(surprise) / size[:, None]
        trust = STEADY + (1.0 - STEADY) * np.clip((lengths - IGNORED) / (FOLLOWED - IGNORED), 0.0, 1.0)
        learn = trust**2 / (2.0 - trust)
        first = self.hits[track] == 1
        strides = first & (np.hypot(lengths[:, 0], lengths[:, 1]) > STRIDE)
        trust[strides], learn[first], learn[strides] = 1.0, 0.0, 1.0
        self.velocity[track] += learn * surprise / elapsed_s
        self.xy[track] = expected + trust * surprise
        self.size[track] = size + 0.3 * (rows.size[row] - size)
        self.shape[track] = rows.shape[row]
        self.look[track] = unit_rows(
            self.look[track] + np.float32(0.15) * (rows.unit_look(row) - self.look[track])
        )
        self.doing[track] = rows.doing[row]
        self.time_s[track] = now_s
        self.hits[track] += 1


class _Linker:
    """One pass over the keyframes, oldest first."""

    def __init__(self, rows: Rows, settings: LinkSettings) -> None:
        self.rows = rows
        self.settings = settings
        self.labels = rows.fixed.copy()
        self.next_label = int(rows.fixed.max(initial=NO_TRACK)) + 1
        self.live = _Live(rows.doing.shape[1])
        self.usable = rows.box_score >= settings.weak_score
        self.confident = self.usable & ~rows.duplicate & (rows.box_score >= settings.confident_score)
        self.max_lost_s = max(settings.max_lost_s, 2.5 * rows.step_s)
        self.doubtful: list[NDArray[np.int64]] = []

    def run(self) -> Links:
        """The tracklet of every row."""
        starts = self.rows.keyframe_starts().tolist()
        times_s = self.rows.time_s[starts[:-1]].tolist()
        fixed = (self.rows.fixed[starts[:-1]] != NO_TRACK).tolist()
        for index, now_s in enumerate(times_s):
            first, stop = starts[index], starts[index + 1]
            self._forget(now_s)
            if fixed[index]:
                self._follow_fixed(first, stop, now_s)
            else:
                follows = index + 1 < len(times_s) and times_s[index + 1] - now_s < 1.7 * self.rows.step_s
                self._link(first, stop, starts[index + 2] if follows else stop, now_s)
        doubtful = np.concatenate([np.zeros((0, 2), np.int64), *self.doubtful])
        return Links(self.labels, doubtful)

    def _forget(self, now_s: float) -> None:
        oldest_s = now_s - self.max_lost_s
        if self.live.time_s.size and self.live.time_s.min() < oldest_s:
            self.live.keep(self.live.time_s >= oldest_s)

    def _follow_fixed(self, first: int, stop: int, now_s: float) -> None:
        where = {label: track for track, label in enumerate(self.live.label.tolist())}
        pairs = [(where.get(label), row) for row, label in enumerate(self.rows.fixed[first:stop].tolist())]
        known = [(track, row) for track, row in pairs if track is not None]
        rows = first + np.array([row for _, row in known], np.intp)
        self._continue(np.array([track for track, _ in known], np.intp), rows, now_s)
        fresh = first + np.array([row for track, row in pairs if track is None], np.intp)
        self._begin(self.rows.fixed[fresh], fresh, now_s)

    def _link(self, first: int, stop: int, ahead_stop: int, now_s: float) -> None:
        row = first + np.flatnonzero(self.usable[first:stop])
        confident = self.confident[row]
        free_track = np.ones(len(self.live.label), np.bool_)
        free_row = np.ones(len(row), np.bool_)
        if free_track.size and row.size:
            step = _Step(self.live, self.rows, row, self.rows.xy[stop:ahead_stop], self.settings, now_s)
            near = step.near()
            young = np.flatnonzero(self.live.hits == 1)
            first_choice = near.copy()
            if young.size:
                first_choice[young] = np.minimum(near[young] + 0.15, step.jump(young))
            ways: tuple[tuple[Callable[[NDArray[np.intp]], Floats], NDArray[np.bool_]], ...] = (
                (first_choice.__getitem__, confident),
                ((2.0 * near).__getitem__, ~confident),
                (step.jump, confident),
                (step.grown, confident),
            )
            for cost, columns in ways:
                track, column = np.flatnonzero(free_track), np.flatnonzero(columns & free_row)
                if not track.size or not column.size:
                    continue
                part = cost(track)[:, column]
                i, j = assign(part)
                self._note_doubts(part[np.ix_(i, j)], row[column[j]])
                self._continue(track[i], row[column[j]], now_s)
                self.labels[row[column[j]]] = self.live.label[track[i]]
                free_track[track[i]] = False
                free_row[column[j]] = False
        begin = row[free_row & confident]
        if begin.size:
            labels = np.arange(self.next_label, self.next_label + begin.size)
            self.next_label += begin.size
            self.labels[begin] = labels
            self._begin(labels, begin, now_s)

    def _note_doubts(self, cost: Floats, row: NDArray[np.intp]) -> None:
        """Remember which of K links could as well have been exchanged; ``cost`` ``(K, K)``, links on its
        diagonal."""
        if len(row) < 2:
            return
        made = np.diagonal(cost)
        more = np.minimum(cost, 1.0) + np.minimum(cost.T, 1.0) - made[:, None] - made[None]
        first, second = np.nonzero(np.triu(more <= self.settings.doubt, 1))
        if first.size:
            self.doubtful.append(np.stack([row[first], row[second]], axis=1).astype(np.int64))

    def _continue(self, track: NDArray[np.intp], row: NDArray[np.intp], now_s: float) -> None:
        self.live.move(track, self.rows, row, now_s)

    def _begin(self, label: NDArray[np.int64], row: NDArray[np.intp], now_s: float) -> None:
        self.live.add(label, self.rows, row, now_s)


class _Step:
    """What it would cost to continue each of T live tracks at each of M boxes of one keyframe."""

    def __init__(
        self,
        live: _Live,
        rows: Rows,
        row: NDArray[np.intp],
        ahead_xy: Floats,
        settings: LinkSettings,
        now_s: float,
    ) -> None:
        self.live = live
        self.xy, self.shape = rows.xy[row], rows.shape[row]
        self.ahead_xy = ahead_xy
        self.settings = settings
        self.step_s = rows.step_s
        self.aspect = rows.aspect
        self.elapsed_s = now_s - live.time_s
        self.steps = np.maximum(self.elapsed_s / rows.step_s, 1.0)
        self.unlike = unlikeness(
            live.shape,
            live.look,
            rows.shape[row],
            rows.unit_look(row),
            settings.shape_weight,
            settings.appearance_weight,
        ) + settings.behaviour_weight * change_of_behaviour(live.doing, rows.doing[row])

    def near(self) -> Floats:
        """Cost by the distance from where the track is expected; at least 1 outside the gate."""
        expected = self.live.xy + self.live.velocity * self.elapsed_s[:, None]
        speed = np.hypot(self.live.velocity[:, 0], self.live.velocity[:, 1]) * self.step_s / self.live.size
        wider = np.sqrt(self.steps)
        moving = self.settings.gate_speed * speed
        gate = np.stack(
            [self.settings.gate_lengths * wider + moving, self.settings.gate_depth * wider + moving], axis=1
        )
        unit = (self.live.size[:, None] * gate)[:, None]
        off = self.xy[None] - expected[:, None]
        lengths = np.hypot(*np.moveaxis(off / unit, 2, 0))
        off[..., 1] -= np.exp2(self.shape[:, 1]) - np.exp2(self.live.shape[:, 1])[:, None]
        by_top = self.settings.top_cost + np.hypot(*np.moveaxis(off / unit, 2, 0))
        cost: Floats = np.minimum(lengths, by_top) + self.unlike
        return cost

    def jump(self, track: NDArray[np.intp]) -> Floats:
        """Cost of a sudden step of some tracks, believed when the next keyframe shows one more such step.

        In a flock whose spacing is smaller than its step, the nearest box is another bird's: the wrong
        links are those that the next keyframe does not confirm. A bird whose flight has carried it out of the
        picture takes no such step: what flies in there a moment later is another one.
        """
        steps, size = self.steps[track, None], self.live.size[track, None]
        moved = self.xy[None] - self.live.xy[track, None]
        lengths = np.hypot(moved[..., 0], moved[..., 1]) / size
        if not self.ahead_xy.size:
            return np.full_like(lengths, np.inf)
        onward = self.xy[None] + moved / steps[..., None]
        gap = onward[:, :, None] - self.ahead_xy[None, None]
        surprise = np.sqrt((gap**2).sum(axis=3).min(axis=2)) / size
        cost = 0.3 + 0.1 * lengths / steps + 0.6 * surprise + self.unlike[track]
        possible = (lengths <= self.settings.jump_lengths * steps) & (steps < MAX_MISSED_STEPS)
        return np.where(possible & ~self._has_left(track)[:, None], cost, np.inf)

    def _has_left(self, track: NDArray[np.intp]) -> NDArray[np.bool_]:
        x = self.live.xy[track, 0] + self.live.velocity[track, 0] * self.elapsed_s[track]
        left: NDArray[np.bool_] = (x < 0.0) | (x > self.aspect)
        return left

    def grown(self, track: NDArray[np.intp]) -> Floats:
        """Cost by the part of the smaller box outside the larger: a shadow or a reflection that joins a box, or
        leaves it, moves its lower edge by a body length."""
        last, now = _corners(self.live.xy[track], self.live.shape[track]), _corners(self.xy, self.shape)
        shared = intersection_area(last[:, None], now[None])
        smaller = np.exp2(np.minimum.outer(self.live.shape[track].sum(axis=1), self.shape.sum(axis=1)))
        possible = self.steps[track, None] < MAX_MISSED_STEPS
        return np.where(possible, 1.0 - shared / smaller + self.unlike[track], np.inf)


def _corners(xy: Floats, shape: Floats) -> Floats:
    """Boxes ``(M, 4)`` that stand on ``xy`` ``(M, 2)``; ``shape`` ``(M, 2)`` as in `Rows`."""
    width, height = np.exp2(shape).T
    return np.stack([xy[:, 0] - width / 2, xy[:, 1] - height, xy[:, 0] + width / 2, xy[:, 1]], axis=1)


def link_tracklets(rows: Rows, settings: LinkSettings) -> Links:
    """Give every row its tracklet; rows that are fixed keep theirs."""
    if not len(rows.time_s):
        return Links(rows.fixed.copy(), np.zeros((0, 2), np.int64))
    return _Linker(rows, settings).run()
