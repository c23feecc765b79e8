"""A learned detector and motion against the plate together: the default of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.detect import Change, Detector, MotionDetector
from workers.messages import Boxes, Keyframes, Plate
from workers.pictures import Picture

EXPLAINED_SHARE = 0.5
"""A motion box that shares at least this much with a learned box is explained by it."""
RESTING_SCORE = 0.77
"""Nearly all simulated birds that are part of the plate score more, and static things of real scenes less."""
INSIDE_SHARE, SMALLER_SHARE, CLEAR_MOTION = 0.7, 0.6, 0.9
"""A body that moves is inside a learned box with at least this share of its area, is much smaller with at most
this share of the box's area, and is clear from this score on."""
FITTING_SCORE = 0.7
"""A learned box with a lower score gives way to the one clear, much smaller body in it."""
MOVED_SHARE = 0.05
"""In the box of something that is not part of the plate at least this share of the pixels differs from it."""


@dataclass(frozen=True, slots=True)
class CombinedDetector:
    """A learned detector's boxes, and those of motion for what it does not know: deer, boats, people.

    A detector may come from another place than the camera. Where nothing differs from the plate its box is an
    animal that has not moved all day, or a piece of background that looks like one; where motion shows one
    much smaller body in it, it may not fit. Only sure boxes count there.
    """

    learned: Detector
    motion: MotionDetector
    resting_score: float = RESTING_SCORE
    """A learned box in which nothing differs from the plate counts from this score on."""

    def detect(self, keyframes: Keyframes, plates: tuple[Plate, ...]) -> list[Boxes]:
        """The credible learned boxes of each keyframe, then the motion boxes that none of them explains."""
        changes = self.motion.changes(keyframes, plates)
        return [
            self._combine(known, change)
            for known, change in zip(self.learned.detect(keyframes, plates), changes, strict=True)
        ]

    def detect_resting(self, keyframes: Keyframes) -> list[Boxes]:
        """Learned boxes that count even where nothing moves."""
        return [
            boxes.where(boxes.score >= self.resting_score) for boxes in self.learned.detect(keyframes, ())
        ]

    def _combine(self, known: Boxes, change: Change) -> Boxes:
        moving = self.motion.boxes_in(change)
        moved = np.array([_mean_in(change.weak, xyxy) >= MOVED_SHARE for xyxy in known.xyxy], np.bool_)
        fits = (known.score >= FITTING_SCORE) | (_bodies_inside(known, moving) != 1)
        sure = known.score >= self.resting_score
        return _with_unexplained(known.where(sure | (moved & fits)), moving)


def _mean_in(mask: Picture, xyxy: NDArray[np.float32]) -> float:
    """Mean of a mask within a box, corners 0 to 1."""
    height, width = mask.shape
    left, top = np.floor(xyxy[:2] * (width, height)).astype(int)
    right, bottom = np.ceil(xyxy[2:] * (width, height)).astype(int)
    window = mask[top:bottom, left:right]
    return float(window.mean()) if window.size else 0.0


def _bodies_inside(known: Boxes, moving: Boxes) -> NDArray[np.intp]:
    """How many clearly moving bodies lie in each known box and are much smaller than it, shape ``(M,)``."""
    shared, known_areas, areas = _shared_areas(known.xyxy, moving.xyxy)
    inside = (shared >= INSIDE_SHARE * areas) & (areas <= SMALLER_SHARE * known_areas)
    counts: NDArray[np.intp] = np.count_nonzero(inside & (moving.score >= CLEAR_MOTION), axis=1)
    return counts


def _shared_areas(
    one: NDArray[np.float32], other: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Areas that boxes share, shape ``(M, N)``, and those of the boxes themselves, ``(M, 1)`` and ``(1, N)``."""
    a, b = one[:, None], other[None]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    return shared, (a[..., 2:] - a[..., :2]).prod(axis=2), (b[..., 2:] - b[..., :2]).prod(axis=2)


def _with_unexplained(known: Boxes, other: Boxes) -> Boxes:
    """``known``, followed by the boxes of ``other`` that share less than half with each of them.

    The share is of the smaller box: two birds within one moving region explain it.
    """
    shared, areas, known_areas = _shared_areas(other.xyxy, known.xyxy)
    new = ~(shared >= EXPLAINED_SHARE * np.minimum(areas, known_areas)).any(axis=1)
    return Boxes(
        xyxy=np.concatenate([known.xyxy, other.xyxy[new]]),
        score=np.concatenate([known.score, other.score[new]]),
    )
