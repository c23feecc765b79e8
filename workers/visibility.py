"""From when to when an individual is in the picture, told from its boxes at keyframes.

A bird that flies in is partly in the picture for a keyframe or two before enough of it is there to be found, and a
visit of three seconds would lose a sixth of its time. Its inner side, which is never cut off, tells when it crossed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHORT_HOLE_S = 1.0
"""A bird unseen for up to this long between two keyframes counts as visible throughout."""
CROSSING_S = 0.9
"""What is farther from the edge than it moves in this time did not just cross it, but came out of cover."""
CROSSING_BOXES = 4
"""Boxes from which the speed is taken."""


def visible_for_s(time_s: Floats, step_s: float) -> Floats:
    """How long a bird counts as visible from each of its boxes ``(N,)`` on, in seconds, shape ``(N,)``.

    Until its next box, where that follows within one keyframe step and ``SHORT_HOLE_S``; else, and after
    the last box, for one keyframe step.
    """
    until_next = np.append(np.diff(time_s), np.inf)
    return np.where(until_next > step_s + SHORT_HOLE_S, step_s, until_next)


def seen_span_s(
    time_s: Floats,
    xyxy: NDArray[np.float32],
    step_s: float,
    recording_at: Callable[[float], tuple[float, float]],
) -> tuple[float, float]:
    """When an individual came into the picture and when it left it.

    That is at its first box and one keyframe step after its last one; but where it crossed the picture's edge, at the
    moment in which it did, as far as that was recorded.

    Args:
        time_s: of its boxes, ascending, shape ``(N,)``.
        xyxy: fractions of width and height, shape ``(N, 4)``.
        step_s: from one keyframe to the next.
        recording_at: start and end of the recording that a moment lies in, on the clock of ``time_s``.
    """
    first_s, last_s = float(time_s[0]), float(time_s[-1])
    before_s = _since_edge_s(time_s[:CROSSING_BOXES] - first_s, xyxy[:CROSSING_BOXES])
    after_s = _since_edge_s((last_s - time_s[::-1])[:CROSSING_BOXES], xyxy[::-1][:CROSSING_BOXES])
    came_s = first_s if before_s is None else max(first_s - before_s, min(recording_at(first_s)[0], first_s))
    left_s = last_s + (step_s if after_s is None else after_s)
    return came_s, left_s if after_s is None else min(left_s, max(recording_at(last_s)[1], last_s))


def _since_edge_s(after_s: Floats, xyxy: NDArray[np.float32]) -> float | None:
    """Seconds in which the first of these boxes has come in from an edge at the speed of all; None if from none."""
    if len(after_s) < 2:
        return None
    # How far each inner side is from the edge behind it: the right side from the left edge, and so on.
    inside = np.stack([xyxy[:, 2], xyxy[:, 3], 1 - xyxy[:, 0], 1 - xyxy[:, 1]], axis=1).astype(np.float64)
    centred_s = after_s - after_s.mean()
    speed = centred_s @ (inside - inside.mean(axis=0)) / (centred_s**2).sum()
    crossed = (speed > 0) & (inside[0] <= CROSSING_S * speed)
    return float((inside[0][crossed] / speed[crossed]).min()) if crossed.any() else None
