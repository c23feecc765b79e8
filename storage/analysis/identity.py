"""How well found boxes and identities agree with true ones: box recall and precision, and IDF1.

IDF1 (Ristani et al. 2016, "Performance measures and a data set for multi-target, multi-camera tracking") asks
for how long each true individual kept one found identity: true and found identities are paired one to one so
that as many boxes as possible agree, over the whole recording.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class IdentityBoxes:
    """Boxes with identities in many images; N rows."""

    image: Ints
    """Which image (a keyframe of a video) each box is in, shape ``(N,)``."""
    identity: Ints
    """Whom it shows, numbered from 0, shape ``(N,)``; -1 for a box that belongs to nobody."""
    xyxy: Floats
    """Corners, shape ``(N, 4)``."""

    def __post_init__(self) -> None:
        rows = self.image.shape[0]
        if self.xyxy.shape != (rows, 4) or self.identity.shape != (rows,):
            raise ValueError(
                f"need image ({rows},), identity ({rows},), xyxy ({rows}, 4), got identity "
                f"{self.identity.shape}, xyxy {self.xyxy.shape}"
            )


@dataclass(frozen=True, slots=True)
class BoxAgreement:
    """True and found boxes of all images."""

    true: int
    found: int
    matched: int

    @property
    def recall(self) -> float:
        """Share of the true boxes that were found; NaN where there is none."""
        return self.matched / self.true if self.true else float("nan")

    @property
    def precision(self) -> float:
        """Share of the found boxes that are right; NaN where there is none."""
        return self.matched / self.found if self.found else float("nan")


@dataclass(frozen=True, slots=True)
class IdentityAgreement:
    """The result of pairing true with found identities."""

    partner: dict[int, int]
    """The found identity of each true one that has a partner."""
    agreeing: int
    """Boxes of true individuals that carry the identity of their partner (IDTP)."""
    true: int
    found: int

    @property
    def idf1(self) -> float:
        """Harmonic mean of the shares of true and found boxes that agree; NaN where there is no box."""
        total = self.true + self.found
        return 2 * self.agreeing / total if total else float("nan")


def pairs_in_same_image(first_image: Ints, second_image: Ints) -> tuple[Ints, Ints]:
    """All pairs of rows (i, j) with ``first_image[i] == second_image[j]``."""
    by_image = np.argsort(second_image, kind="stable")
    low = np.searchsorted(second_image[by_image], first_image, side="left")
    width = np.searchsorted(second_image[by_image], first_image, side="right") - low
    i = np.repeat(np.arange(len(first_image)), width)
    within = np.arange(len(i)) - np.repeat(np.cumsum(width) - width, width)
    return i, by_image[np.repeat(low, width) + within]


def paired_iou(first_xyxy: Floats, second_xyxy: Floats) -> Floats:
    """Intersection over union row by row, shapes ``(N, 4)``; 0 where both boxes are empty."""
    low = np.maximum(first_xyxy[:, :2], second_xyxy[:, :2])
    high = np.minimum(first_xyxy[:, 2:], second_xyxy[:, 2:])
    shared = np.maximum(high - low, 0.0).prod(axis=1)
    areas = [np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0.0).prod(axis=1) for xyxy in (first_xyxy, second_xyxy)]
    union = areas[0] + areas[1] - shared
    iou: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def match_boxes(true: IdentityBoxes, found: IdentityBoxes, min_iou: float = 0.5) -> tuple[Ints, Ints]:
    """One-to-one matches of true and found boxes of the same image with an IoU of at least ``min_iou``.

    In each image as many boxes as possible are matched, and of the ways to do so the one with the greatest
    total overlap is taken. Returns the matched rows of ``true`` and of ``found``.
    """
    i, j = pairs_in_same_image(true.image, found.image)
    iou = paired_iou(true.xyxy[i], found.xyxy[j])
    close = iou >= min_iou
    return best_pairs(i[close], j[close], 1000.0 + iou[close])


def best_pairs(i: Ints, j: Ints, worth: Floats) -> tuple[Ints, Ints]:
    """One-to-one pairs of greatest total ``worth`` (> 0), solved apart in each group that can touch."""
    if not len(i):
        return i, j
    left, row = np.unique(i, return_inverse=True)
    right, column = np.unique(j, return_inverse=True)
    graph = coo_array((np.ones(len(i)), (row, len(left) + column)), shape=(len(left) + len(right),) * 2)
    _, group = connected_components(graph, directed=False)
    order = np.argsort(group[row], kind="stable")
    chosen: list[Ints] = []
    for pairs in np.split(order, np.flatnonzero(np.diff(group[row][order])) + 1):
        if len(pairs) == 1:
            chosen.append(pairs)
            continue
        rows, at_row = np.unique(row[pairs], return_inverse=True)
        columns, at_column = np.unique(column[pairs], return_inverse=True)
        value = np.zeros((len(rows), len(columns)))
        pair_of = np.full(value.shape, -1, np.int64)
        value[at_row, at_column] = worth[pairs]
        pair_of[at_row, at_column] = pairs
        taken = pair_of[linear_sum_assignment(value, maximize=True)]
        chosen.append(taken[taken >= 0])
    kept = np.sort(np.concatenate(chosen))
    return i[kept], j[kept]


def box_agreement(true: IdentityBoxes, found: IdentityBoxes, min_iou: float = 0.5) -> BoxAgreement:
    """Box recall and precision at an overlap of ``min_iou``."""
    matched, _ = match_boxes(true, found, min_iou)
    return BoxAgreement(len(true.image), len(found.image), len(matched))


def identity_agreement(true: IdentityBoxes, found: IdentityBoxes, min_iou: float = 0.5) -> IdentityAgreement:
    """Pair true with found identities so that the most boxes agree; found boxes of nobody count as false.

    Every pair of boxes of one image that overlap by ``min_iou`` speaks for the pair of their identities, as
    in Ristani et al. (2016), section 5.
    """
    i, j = pairs_in_same_image(true.image, found.image)
    close = (paired_iou(true.xyxy[i], found.xyxy[j]) >= min_iou) & (true.identity[i] >= 0)
    close &= found.identity[j] >= 0
    whom, as_whom = true.identity[i[close]], found.identity[j[close]]
    pairs, together = np.unique(np.stack([whom, as_whom], axis=1), axis=0, return_counts=True)
    # Leaving identities without a partner costs nothing extra: every box that does not agree is one miss
    # of the true identity and one false box of the found one, so the most agreeing boxes is the optimum.
    a, b = best_pairs(pairs[:, 0], pairs[:, 1], together.astype(np.float64))
    agreeing = {(int(t), int(f)): int(n) for (t, f), n in zip(pairs, together, strict=True)}
    partner = dict(zip(a.tolist(), b.tolist(), strict=True))
    total = sum(agreeing[pair] for pair in partner.items())
    return IdentityAgreement(partner, total, len(true.image), len(found.image))
