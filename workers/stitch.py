"""The second pass of tracking: tracklets that one bird left before and after it was hidden become one.

All of a camera's tracklets are known by now, so their ends and beginnings are matched at once and not in the
order in which they came.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from workers.association import FLYING_LENGTHS, Floats, assign
from workers.messages import GRID_HZ, KEYFRAME_STEP
from workers.tracklets import NO_TRACK, Rows, unit_rows

EDGE_ROWS = 8
"""Boxes at either end of a tracklet from which its motion and appearance there are taken: 2 s."""

KEYFRAME_S = KEYFRAME_STEP / GRID_HZ


@dataclass(frozen=True, slots=True)
class StitchSettings:
    """When two tracklets are one individual; lengths are in its own body lengths."""

    max_occlusion_s: float = 12.0
    """Longest time that a bird may be hidden and keep its identity."""
    reach_lengths: float = 1.0
    """How far from where it vanished, or was bound for, a bird may reappear at once."""
    reach_speed: float = 0.35
    """What each second of hiding adds to that, in body lengths."""
    foresight_s: float = 1.2
    """Slow motion is extrapolated for this long: nobody walks straight behind a reed for ten seconds."""
    fast_lengths: float = 1.5
    """Body lengths a second from which a bird is fast: it has not stayed where it vanished."""
    max_fast_s: float = 1.6
    """Longest time that a fast bird may be hidden and keep its identity."""
    appearance_weight: float = 0.25
    """Cost of one minus the cosine of two appearances; 1 is the cost of no link."""
    motion_weight: float = 1.0
    """Cost of a change of velocity by half a body length per keyframe or more: one that flies past a resting bird
    and is lost there is not the resting bird."""
    takeoff_cost: float = 0.5
    """In place of that, cost of having taken off, or landed, while hidden."""
    max_takeoff_s: float = 0.9
    """Longest time that a bird may be hidden in which it takes off or lands."""


@dataclass(frozen=True, slots=True, eq=False)
class _Edges:
    """First or last moments of K tracklets."""

    time_s: Floats
    xy: Floats
    """Picture heights, shape ``(K, 2)``."""
    velocity: Floats
    """Picture heights a second, shape ``(K, 2)``, forward in time."""
    size: Floats
    look: NDArray[np.float32]
    leaving: NDArray[np.bool_]
    """Whether the motion carries it out of (or, at a beginning, brought it into) the picture."""

    def speed(self) -> Floats:
        """Body lengths a second, shape ``(K,)``."""
        speed: Floats = np.hypot(self.velocity[:, 0], self.velocity[:, 1]) / self.size
        return speed

    def of(self, which: NDArray[np.intp]) -> _Edges:
        """Those of some tracklets, in that order."""
        return _Edges(*(getattr(self, field.name)[which] for field in dataclasses.fields(self)))


def stitch(
    rows: Rows, labels: NDArray[np.int64], unwatched_s: Floats, settings: StitchSettings
) -> NDArray[np.int64]:
    """Join tracklets over occlusions; returns the new labels ``(N,)``, the smallest of each joined group.

    ``unwatched_s`` ``(S, 2)`` are stretches in which the
    detector did not look because nothing was there: nobody hides in an empty scene, so over such a stretch
    only a bird at the same place is the same one.
    """
    order = np.argsort(labels, kind="stable")
    order = order[np.searchsorted(labels[order], 0) :]
    if not order.size:
        return labels
    name, first, count = np.unique(labels[order], return_index=True, return_counts=True)
    ends = _edges(rows, order, first, count, at_end=True)
    begins = _edges(rows, order, first, count, at_end=False)
    fixed = rows.fixed[order[first]] != NO_TRACK
    i, j = _candidates(ends.time_s, begins.time_s, settings.max_occlusion_s)
    # A single box is more often a false one than a bird; joining those would string up ghosts.
    worthy = (count > 1) | fixed
    allowed = worthy[i] & worthy[j] & ~fixed[j]
    i, j = i[allowed], j[allowed]
    cost = _link_cost(ends.of(i), begins.of(j), unwatched_s, settings)
    possible = cost < 1.0
    before, after = _cheapest_links(i[possible], j[possible], cost[possible])
    links = coo_array((np.ones(len(before)), (before, after)), shape=(len(name), len(name)))
    _, group = connected_components(links, directed=False)
    smallest = np.full(group.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, group, name)
    joined = labels.copy()
    joined[order] = np.repeat(smallest[group], count)
    return joined


def _edges(
    rows: Rows,
    order: NDArray[np.intp],
    first: NDArray[np.intp],
    count: NDArray[np.intp],
    *,
    at_end: bool,
) -> _Edges:
    used = np.minimum(count, EDGE_ROWS)
    # Positions in ``order`` of the boxes next to the edge, nearest first; short tracklets repeat their last.
    steps = np.minimum(np.arange(EDGE_ROWS)[None], used[:, None] - 1)
    position = (first + count - 1)[:, None] - steps if at_end else first[:, None] + steps
    row = order[position]
    xy, time_s = rows.xy[row], rows.time_s[row]
    velocity = _slope(time_s, xy, np.arange(EDGE_ROWS)[None] < used[:, None])
    size = np.median(rows.size[row], axis=1)
    look = unit_rows(rows.unit_look(row.ravel()).reshape(*row.shape, -1).mean(axis=1))
    onward = xy[:, 0] + velocity * (1.5 * rows.step_s if at_end else -1.5 * rows.step_s)
    room = np.minimum(onward, np.array([rows.aspect, 1.0]) - onward).min(axis=1)
    moving = np.hypot(velocity[:, 0], velocity[:, 1]) > 0.6 * size
    return _Edges(time_s[:, 0], xy[:, 0], velocity, size, look, moving & (room < 0.2 * size))


def _slope(time_s: Floats, xy: Floats, used: NDArray[np.bool_]) -> Floats:
    """Least-squares velocity of K tracklets over the used ones of E moments; 0 where there is only one."""
    weight = used / used.sum(axis=1, keepdims=True)
    at_s = time_s - (weight * time_s).sum(axis=1, keepdims=True)
    spread = (weight * at_s**2).sum(axis=1)[:, None]
    moved = ((weight * at_s)[..., None] * xy).sum(axis=1)
    velocity: Floats = np.divide(moved, spread, out=np.zeros_like(moved), where=spread > 0)
    return velocity


def _candidates(
    end_s: Floats, begin_s: Floats, max_occlusion_s: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs (i, j) in which tracklet j begins after i ended, and not too late."""
    by_begin = np.argsort(begin_s, kind="stable")
    low = np.searchsorted(begin_s[by_begin], end_s, side="right")
    high = np.searchsorted(begin_s[by_begin], end_s + max_occlusion_s, side="right")
    width = np.maximum(high - low, 0)
    i = np.repeat(np.arange(len(end_s)), width)
    within = np.arange(len(i)) - np.repeat(np.cumsum(width) - width, width)
    return i, by_begin[np.repeat(low, width) + within]


def _link_cost(end: _Edges, begin: _Edges, unwatched_s: Floats, settings: StitchSettings) -> Floats:
    """Cost of each end and beginning being those of one bird, shape ``(K,)``; infinite where that cannot be."""
    hidden_s = begin.time_s - end.time_s
    size = np.maximum(end.size, begin.size)
    gap = begin.xy - end.xy
    stayed = np.hypot(gap[:, 0], gap[:, 1]) / size
    fast = np.maximum(end.speed(), begin.speed()) > settings.fast_lengths
    reckoned = np.where(fast, hidden_s, np.minimum(hidden_s, settings.foresight_s))[:, None]
    ahead = gap - end.velocity * reckoned
    back = gap - begin.velocity * reckoned
    passed = 0.5 * (np.hypot(ahead[:, 0], ahead[:, 1]) + np.hypot(back[:, 0], back[:, 1])) / size
    reach = settings.reach_lengths + settings.reach_speed * hidden_s
    turn = (begin.velocity - end.velocity) * KEYFRAME_S
    unlike = 1.0 - np.einsum("pd,pd->p", end.look, begin.look).astype(np.float64)
    turned = settings.motion_weight * np.minimum(2.0 * np.hypot(turn[:, 0], turn[:, 1]) / size, 1.0)
    moved = np.where(fast, passed, np.minimum(stayed, passed)) / reach + turned
    cost = (
        np.minimum(moved, _takeoff_cost(end, begin, reach * size, settings))
        + settings.appearance_weight * unlike
        + 0.2 * np.abs(np.log2(end.size / begin.size))
        + 0.2 * hidden_s / settings.max_occlusion_s
    )
    impossible = (end.leaving & begin.leaving) | (fast & (hidden_s > settings.max_fast_s))
    unwatched = _overlaps(end.time_s, begin.time_s, unwatched_s)
    return np.where(impossible | (unwatched & (stayed > 0.5)), np.inf, cost)


def _takeoff_cost(end: _Edges, begin: _Edges, reach: Floats, settings: StitchSettings) -> Floats:
    """Cost of having flown a part of the time, at the speed of the side that flies; infinite where not one side does.

    ``reach`` is in picture heights.
    """
    hidden_s = begin.time_s - end.time_s
    flew, flies = end.speed() > FLYING_LENGTHS, begin.speed() > FLYING_LENGTHS
    flown = np.where(flew[:, None], end.velocity, begin.velocity) * hidden_s[:, None]
    gap = begin.xy - end.xy
    share = (gap * flown).sum(axis=1) / np.maximum((flown**2).sum(axis=1), 1e-12)
    off = gap - np.clip(share, 0.0, 1.0)[:, None] * flown
    cost: Floats = settings.takeoff_cost + np.hypot(off[:, 0], off[:, 1]) / reach
    return np.where((flew != flies) & (hidden_s <= settings.max_takeoff_s), cost, np.inf)


def _overlaps(start_s: Floats, stop_s: Floats, spans_s: Floats) -> NDArray[np.bool_]:
    """Whether each interval shares more than an instant with any of the sorted, disjoint spans."""
    if not len(spans_s):
        return np.zeros(len(start_s), np.bool_)
    following = np.searchsorted(spans_s[:, 1], start_s, side="right")
    inside = following < len(spans_s)
    shared: NDArray[np.bool_] = inside & (spans_s[np.minimum(following, len(spans_s) - 1), 0] < stop_s)
    return shared


def _cheapest_links(
    i: NDArray[np.intp], j: NDArray[np.intp], cost: Floats
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """One-to-one links of least total cost, solved apart in each group of tracklets that can touch."""
    if not len(i):
        return i, j
    ends, i_at = np.unique(i, return_inverse=True)
    begins, j_at = np.unique(j, return_inverse=True)
    graph = coo_array((np.ones(len(i)), (i_at, len(ends) + j_at)), shape=(len(ends) + len(begins),) * 2)
    _, group = connected_components(graph, directed=False)
    of_pair = group[i_at]
    order = np.argsort(of_pair, kind="stable")
    before, after = [], []
    for pairs in np.split(order, np.flatnonzero(np.diff(of_pair[order])) + 1):
        row_name, row = np.unique(i[pairs], return_inverse=True)
        column_name, column = np.unique(j[pairs], return_inverse=True)
        dense = np.full((len(row_name), len(column_name)), 1.0)
        dense[row, column] = cost[pairs]
        chosen_row, chosen_column = assign(dense)
        before.append(row_name[chosen_row])
        after.append(column_name[chosen_column])
    return np.concatenate(before), np.concatenate(after)
