"""From one individual's score series to stretches of one state each: pure arithmetic on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.ethogram import BoutRule

UNSCORED = -1
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive samples of one state, ``[first, stop)``."""

    state: int
    """Index of the behaviour, or ``UNSCORED``."""
    first: int
    stop: int


def smooth(scores: Floats, time_s: Floats, run: NDArray[np.intp], widths_s: Sequence[float]) -> Floats:
    """Centred moving mean of each column of ``scores`` ``(N, C)`` over a window of its own width.

    Samples at ``time_s`` ``(N,)`` may be irregular; a window holds those within half its width. It never
    reaches across a hole, that is into another ``run`` ``(N,)``, and leaves out samples that are NaN, which
    stay NaN themselves.
    """
    first_of_run = np.searchsorted(run, run, side="left")
    stop_of_run = np.searchsorted(run, run, side="right")
    known = ~np.isnan(scores)
    total = np.cumsum(np.vstack([np.zeros(scores.shape[1]), np.where(known, scores, 0.0)]), axis=0)
    count = np.cumsum(np.vstack([np.zeros(scores.shape[1]), known]), axis=0)
    result = np.full(scores.shape, np.nan)
    for width_s in set(widths_s):
        columns = np.flatnonzero(np.asarray(widths_s) == width_s)
        reach_s = 0.5 * width_s + 1e-6  # keyframe times carry rounding of the container's clock
        low = np.maximum(np.searchsorted(time_s, time_s - reach_s, side="left"), first_of_run)
        high = np.minimum(np.searchsorted(time_s, time_s + reach_s, side="right"), stop_of_run)
        of = np.ix_(high, columns), np.ix_(low, columns)
        mean = (total[of[0]] - total[of[1]]) / np.maximum(count[of[0]] - count[of[1]], 1.0)
        result[:, columns] = np.where(known[:, columns], mean, np.nan)
    return result


def decide(smoothed: Floats, run: NDArray[np.intp], rules: Sequence[BoutRule]) -> NDArray[np.int64]:
    """The state of every sample ``(N,)``: a behaviour's index, or ``UNSCORED``.

    The behaviour with the highest score among those that reach their enter score holds; after it, while none
    reaches its own, it holds on until it falls below its leave score.
    """
    enter = np.array([rule.enter_score for rule in rules])
    leave = np.array([rule.leave_score for rule in rules])
    entered = np.where(smoothed >= enter, smoothed, -np.inf)  # NaN compares false
    state = np.where(np.isfinite(entered).any(axis=1), entered.argmax(axis=1), UNSCORED).astype(np.int64)
    sample = np.arange(len(state))
    last = np.maximum.accumulate(np.where(state >= 0, sample, -1))
    lingering = np.where((last >= 0) & (run[last] == run), last, -1)
    behaviour = np.where(lingering >= 0, state[lingering], 0)
    holds = (lingering >= 0) & (smoothed[sample, behaviour] >= leave[behaviour])
    lapses = np.cumsum(~holds)
    unbroken = holds & (lapses == lapses[lingering])
    return np.where(unbroken, behaviour, UNSCORED)


def stretches(state: NDArray[np.int64]) -> list[Stretch]:
    """Runs of equal state of a series ``(N,)``, N at least 1."""
    change = np.flatnonzero(np.diff(state)) + 1
    first = [0, *change.tolist()]
    return [Stretch(int(state[a]), a, b) for a, b in zip(first, [*first[1:], len(state)], strict=True)]


def apply_rules(found: list[Stretch], edges_s: Floats, rules: Sequence[BoutRule]) -> list[Stretch]:
    """Fill short gaps and drop short bouts within one stretch of visibility.

    ``edges_s`` ``(N + 1,)`` are the times at which samples begin, and the end of the last. The result covers
    the same samples, in order, no two neighbours in the same state.
    """
    filled = _fill_gaps(found, edges_s, rules)
    kept = _drop_short(filled, edges_s, rules)
    return _fill_gaps(kept, edges_s, rules)


def _fill_gaps(found: list[Stretch], edges_s: Floats, rules: Sequence[BoutRule]) -> list[Stretch]:
    """Let each bout swallow what lies between it and the next bout of its behaviour, if that is short."""
    done: list[Stretch] = []
    for stretch in found:
        joined = stretch
        for back in range(len(done) - 1, -1, -1):
            gap_s = edges_s[stretch.first] - edges_s[done[back].stop]
            longest_s = rules[stretch.state].max_gap_s if stretch.state >= 0 else 0.0
            if gap_s > longest_s + 1e-6:
                break
            if done[back].state == stretch.state:
                joined = Stretch(stretch.state, done[back].first, stretch.stop)
                del done[back:]
                break
        done.append(joined)
    return done


def _drop_short(found: list[Stretch], edges_s: Floats, rules: Sequence[BoutRule]) -> list[Stretch]:
    """Take the state from bouts that are too short: they belong to what surrounds them, or to nothing."""

    def is_short(stretch: Stretch) -> bool:
        lasts_s = edges_s[stretch.stop] - edges_s[stretch.first]
        return stretch.state >= 0 and bool(lasts_s < rules[stretch.state].min_bout_s - 1e-6)

    short = [is_short(stretch) for stretch in found]
    done: list[Stretch] = []
    for index, stretch in enumerate(found):
        state = stretch.state
        if short[index]:
            state = UNSCORED
            if 0 < index < len(found) - 1 and not short[index - 1] and not short[index + 1]:
                state = (
                    found[index - 1].state if found[index - 1].state == found[index + 1].state else UNSCORED
                )
        if done and done[-1].state == state:
            done[-1] = Stretch(state, done[-1].first, stretch.stop)
        else:
            done.append(Stretch(state, stretch.first, stretch.stop))
    return done
