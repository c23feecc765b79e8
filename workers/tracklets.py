"""The first pass of tracking: boxes of one camera in time order become tracklets, runs without long holes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.association import Floats, assign, distance, unlikeness

NO_TRACK = -1


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How far a bird may be from where it is expected; lengths are in its own body lengths."""

    confident_score: float = 0.5
    """Boxes at least this sure may begin a track; weaker ones only continue one."""
    weak_score: float = 0.1
    """Boxes less sure than this are not looked at."""
    gate_lengths: float = 1.1
    """Largest distance from the predicted centre, after one keyframe step."""
    gate_speed: float = 0.15
    """What each body length of speed per keyframe step adds to that distance."""
    jump_lengths: float = 4.0
    """Largest step of a bird whose velocity is not known yet or changes: one that flies."""
    appearance_weight: float = 0.3
    """Cost of opposite appearances; 1 is the cost of no link."""
    max_lost_s: float = 1.2
    """A tracklet ends when its bird was not seen for this long; rejoining comes later."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The boxes of consecutive recordings of one camera, in time order; N rows."""

    time_s: Floats
    """Seconds on the clock of the camera, shape ``(N,)``."""
    xy: Floats
    """Centres in picture heights, shape ``(N, 2)``."""
    size: Floats
    """Square root of the box's area, in picture heights, shape ``(N,)``: a body length."""
    look: NDArray[np.int8]
    """Appearance, shape ``(N, 64)``."""
    box_score: NDArray[np.float32]
    duplicate: NDArray[np.bool_]
    """Boxes on a bird that has a surer one, shape ``(N,)``: they may not begin a track."""
    fixed: NDArray[np.int64]
    """Tracklet that a row is known to belong to, numbered from 0, or ``NO_TRACK``, shape ``(N,)``."""
    step_s: float
    """Time from one keyframe to the next."""

    def keyframe_starts(self) -> NDArray[np.int64]:
        """First row of each keyframe, and the number of rows at the end."""
        change = np.flatnonzero(np.diff(self.time_s) > 0) + 1
        return np.concatenate([[0], change, [len(self.time_s)]]).astype(np.int64)

    def unit_look(self, rows: slice | NDArray[np.intp] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Appearance of some rows as unit vectors; zero where a row has none."""
        return unit_rows(self.look[rows].astype(np.float32))


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every row ``(M, D)`` scaled to length 1; rows of zeros stay zero."""
    length = np.sqrt(np.einsum("md,md->m", vectors, vectors))
    unit: NDArray[np.float32] = vectors / np.maximum(length, np.float32(1e-9))[:, None]
    return unit


class _Live:
    """The tracks that are being followed, by column; T tracks."""

    def __init__(self) -> None:
        self.label = np.zeros(0, np.int64)
        self.xy = np.zeros((0, 2))
        self.velocity = np.zeros((0, 2))
        """Picture heights a second."""
        self.size = np.zeros(0)
        self.look = np.zeros((0, 64), np.float32)
        self.time_s = np.zeros(0)
        self.hits = np.zeros(0, np.int64)

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Forget the tracks outside ``mask``."""
        for name in vars(self):
            setattr(self, name, getattr(self, name)[mask])

    def add(
        self, label: NDArray[np.int64], xy: Floats, size: Floats, look: NDArray[np.float32], now_s: float
    ) -> None:
        """Begin tracks at these boxes, standing still as far as is known."""
        count = len(label)
        self.label = np.concatenate([self.label, label])
        self.xy = np.concatenate([self.xy, xy])
        self.velocity = np.concatenate([self.velocity, np.zeros((count, 2))])
        self.size = np.concatenate([self.size, size])
        self.look = np.concatenate([self.look, look])
        self.time_s = np.concatenate([self.time_s, np.full(count, now_s)])
        self.hits = np.concatenate([self.hits, np.ones(count, np.int64)])

    def move(
        self, track: NDArray[np.intp], xy: Floats, size: Floats, look: NDArray[np.float32], now_s: float
    ) -> None:
        """Let tracks continue at these boxes."""
        measured = (xy - self.xy[track]) / (now_s - self.time_s[track])[:, None]
        # The second box tells the velocity at once; later ones correct it by half, since boxes jitter.
        trust = np.where(self.hits[track] == 1, 1.0, 0.5)[:, None]
        self.velocity[track] += trust * (measured - self.velocity[track])
        self.xy[track] = xy
        self.size[track] += 0.3 * (size - self.size[track])
        self.look[track] = unit_rows(self.look[track] + np.float32(0.15) * (look - self.look[track]))
        self.time_s[track] = now_s
        self.hits[track] += 1


class _Linker:
    """One pass over the keyframes, oldest first."""

    def __init__(self, rows: Rows, settings: LinkSettings) -> None:
        self.rows = rows
        self.settings = settings
        self.labels = rows.fixed.copy()
        self.next_label = int(rows.fixed.max(initial=NO_TRACK)) + 1
        self.live = _Live()
        self.usable = rows.box_score >= settings.weak_score
        self.confident = self.usable & ~rows.duplicate & (rows.box_score >= settings.confident_score)
        self.max_lost_s = max(settings.max_lost_s, 2.5 * rows.step_s)

    def run(self) -> NDArray[np.int64]:
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
        return self.labels

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
            for choice, columns in (("near", confident), ("weak", ~confident), ("jump", confident)):
                track, column = np.flatnonzero(free_track), np.flatnonzero(columns & free_row)
                if not track.size or not column.size:
                    continue
                cost = {"near": first_choice, "weak": 2.0 * near}.get(choice)
                part = step.jump(track)[:, column] if cost is None else cost[np.ix_(track, column)]
                i, j = assign(part)
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

    def _continue(self, track: NDArray[np.intp], row: NDArray[np.intp], now_s: float) -> None:
        self.live.move(track, self.rows.xy[row], self.rows.size[row], self.rows.unit_look(row), now_s)

    def _begin(self, label: NDArray[np.int64], row: NDArray[np.intp], now_s: float) -> None:
        self.live.add(label, self.rows.xy[row], self.rows.size[row], self.rows.unit_look(row), now_s)


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
        self.xy = rows.xy[row]
        self.ahead_xy = ahead_xy
        self.settings = settings
        self.step_s = rows.step_s
        self.elapsed_s = now_s - live.time_s
        self.steps = np.maximum(self.elapsed_s / rows.step_s, 1.0)
        self.unlike = unlikeness(
            live.size, live.look, rows.size[row], rows.unit_look(row), settings.appearance_weight
        )

    def near(self) -> Floats:
        """Cost by the distance from where the track is expected; at least 1 outside the gate."""
        expected = self.live.xy + self.live.velocity * self.elapsed_s[:, None]
        speed = np.hypot(self.live.velocity[:, 0], self.live.velocity[:, 1]) * self.step_s / self.live.size
        gate = self.settings.gate_lengths * np.sqrt(self.steps) + self.settings.gate_speed * speed
        lengths = distance(expected, self.xy) / self.live.size[:, None]
        return lengths / gate[:, None] + self.unlike

    def jump(self, track: NDArray[np.intp]) -> Floats:
        """Cost of a sudden step of some tracks, believed when the next keyframe shows one more such step.

        In a flock whose spacing is smaller than its step, the nearest box is another bird's: the wrong
        links are those that the next keyframe does not confirm.
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
        possible = (lengths <= self.settings.jump_lengths * steps) & (steps < 2.5)
        return np.where(possible, cost, np.inf)


def link_tracklets(rows: Rows, settings: LinkSettings) -> NDArray[np.int64]:
    """Give every row ``(N,)`` the number of its tracklet, or ``NO_TRACK``; fixed rows keep theirs."""
    return _Linker(rows, settings).run() if len(rows.time_s) else rows.fixed.copy()
