"""Geometry and costs by which boxes of one moment are given to the tracks of the moments before.

At 3.75 keyframes a second a flying crane moves two or three body lengths from one keyframe to the next, so
its boxes do not overlap and no measure of overlap can link them. Distance from the predicted centre, in body
lengths, is a measure that holds for a resting and for a flying bird alike. All positions are in picture
heights, so that a distance means the same along both axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.float64]
MOST_UNLIKE = 0.25
"""One minus the cosine of two appearances, beyond which they are no more different."""
FLYING_LENGTHS = 1.0
"""Body lengths a second from which a bird flies or runs."""


def intersection_area(a: Floats, b: Floats) -> Floats:
    """Area shared by the boxes ``a`` and ``b``, shape ``(..., 4)`` each, which broadcast."""
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    area: Floats = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    return area


def _area(xyxy: Floats) -> Floats:
    area: Floats = np.maximum(xyxy[..., 2] - xyxy[..., 0], 0.0) * np.maximum(xyxy[..., 3] - xyxy[..., 1], 0.0)
    return area


def find_duplicates(
    xyxy: NDArray[np.float32],
    box_score: NDArray[np.float32],
    keyframe: NDArray[np.int64],
    max_iou: float,
    max_contained: float,
) -> NDArray[np.bool_]:
    """Boxes that show, by their place, a bird that a surer box of the same keyframe shows already.

    ``keyframe`` ``(M,)`` is sorted. A box is a duplicate when it overlaps a surer one by more than
    ``max_iou``, or when more than ``max_contained`` of it lies inside a surer one. Returns shape ``(M,)``.
    """
    duplicate = np.zeros(len(keyframe), np.bool_)
    boxes = xyxy.astype(np.float64)
    area = _area(boxes)
    largest = int(np.bincount(np.unique(keyframe, return_inverse=True)[1]).max(initial=0))
    for offset in range(1, largest):
        i = np.flatnonzero(keyframe[offset:] == keyframe[:-offset])
        j = i + offset
        overlap = intersection_area(boxes[i], boxes[j])
        smaller_is = np.where(box_score[i] < box_score[j], i, j)  # of equally sure ones the later
        iou = overlap / np.maximum(area[i] + area[j] - overlap, 1e-12)
        contained = overlap / np.maximum(area[smaller_is], 1e-12)
        duplicate[smaller_is[(iou > max_iou) | (contained > max_contained)]] = True
    return duplicate


def assign(cost: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The cheapest one-to-one assignment in which leaving a pair apart costs 1.

    ``cost`` ``(M, N)``: pairs at 1 or above are never made. Clipping at 1 makes a cheap certain pair worth
    more than two bad ones, which a plain maximum of matches would prefer.
    """
    row, column = linear_sum_assignment(np.minimum(cost, 1.0))
    kept = cost[row, column] < 1.0
    return row[kept], column[kept]


def change_of_behaviour(doing: NDArray[np.float32], other: NDArray[np.float32]) -> Floats:
    """How much of the probability of behaviours would have to change, 0 to 1, shape ``(M, N)``.

    ``doing`` ``(M, C)`` and ``other`` ``(N, C)`` are probabilities; rows of zeros are not known and cost nothing.
    Within a quarter of a second a bird seldom does something else: one that rests is not the one that flies by.
    """
    known: NDArray[np.bool_] = np.outer(doing.any(axis=1), other.any(axis=1))
    changed = 0.5 * np.abs(doing[:, None] - other[None]).sum(axis=2, dtype=np.float64)
    return np.where(known, np.minimum(changed, 1.0), 0.0)


def unlikeness(
    shape: Floats,
    look: NDArray[np.float32],
    other_shape: Floats,
    other_look: NDArray[np.float32],
    shape_weight: float,
    appearance_weight: float,
) -> Floats:
    """How badly two sets of boxes agree in shape and appearance, 0 (alike) upwards, shape ``(M, N)``.

    ``shape`` ``(M, 2)`` is the logarithm to base 2 of width and height: each doubling costs ``shape_weight``.
    ``look`` ``(M, 64)`` are unit vectors, or zero where nothing is known. Another look costs
    ``appearance_weight`` times one minus their cosine, up to ``MOST_UNLIKE``: beyond that it is a changed
    posture or background as often as another bird.
    """
    doublings = np.abs(shape[:, None] - other_shape[None]).sum(axis=2)
    agreement = (look @ other_look.T).astype(np.float64)
    cost: Floats = shape_weight * doublings + appearance_weight * np.minimum(1.0 - agreement, MOST_UNLIKE)
    return cost
