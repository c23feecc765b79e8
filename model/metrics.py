"""Average precision in the two ways that are reported side by side.

Over instances with true boxes (the paper's), every true individual is one row with one score per class. Over
frames (AVA's frame-mAP), detections must also overlap a true box of the class; a cap on the rows of an image is
an option, off by default, since 14 birds times 6 classes are more than the 50 rows that AVA's evaluator keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class MeanAveragePrecision:
    """Average precision per class and their mean."""

    per_class: dict[str, float]
    """NaN for a class without a single true instance."""
    instances: dict[str, int]
    """True instances per class."""

    @property
    def mean(self) -> float:
        """Mean over the classes that have true instances; NaN where none has."""
        known = [value for value in self.per_class.values() if not np.isnan(value)]
        return float(np.mean(known)) if known else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class FrameBoxes:
    """Boxes of one class in many images; N rows."""

    image: NDArray[np.int64]
    """Which image each box is in, shape ``(N,)``."""
    xyxy: NDArray[np.float64]
    """Corners, shape ``(N, 4)``."""

    def __post_init__(self) -> None:
        if self.xyxy.shape != (self.image.shape[0], 4):
            raise ValueError(f"xyxy must have shape {(self.image.shape[0], 4)}, got {self.xyxy.shape}")


def average_precision(
    scores: NDArray[np.floating], is_true: NDArray[np.bool_], num_true: int | None = None
) -> float:
    """Area under the precision-recall curve, precision being made non-increasing first (PASCAL VOC, AVA).

    Rows of equal score enter the curve together, so that the result does not depend on their order.

    Args:
        scores: one score per row, shape ``(N,)``.
        is_true: whether the row is a true positive, shape ``(N,)``.
        num_true: how many true instances there are, found or not; the true rows where omitted.

    Returns:
        0 to 1; NaN where there is no true instance.
    """
    total = int(is_true.sum()) if num_true is None else num_true
    if total == 0:
        return float("nan")
    if scores.size == 0:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    found = np.cumsum(is_true[order])[last_of_tie]
    rows = (np.flatnonzero(last_of_tie) + 1).astype(np.float64)
    precision = np.maximum.accumulate((found / rows)[::-1])[::-1]
    recall_steps = np.diff(found / total, prepend=0.0)
    return float(np.sum(precision * recall_steps))


def instance_map(
    probabilities: NDArray[np.floating], labels: NDArray[np.bool_], names: Sequence[str]
) -> MeanAveragePrecision:
    """The paper's mAP: average precision over instances with true boxes.

    Args:
        probabilities: shape ``(N, C)``.
        labels: whether the instance shows the behaviour, shape ``(N, C)``.
        names: of the C behaviours.

    Raises:
        ValueError: the shapes do not agree.
    """
    if probabilities.shape != labels.shape or probabilities.shape[1:] != (len(names),):
        raise ValueError(
            f"need shape (N, {len(names)}) twice, got probabilities {probabilities.shape} "
            f"and labels {labels.shape}"
        )
    return MeanAveragePrecision(
        {name: average_precision(probabilities[:, c], labels[:, c]) for c, name in enumerate(names)},
        {name: int(labels[:, c].sum()) for c, name in enumerate(names)},
    )


def frame_map(
    truth: dict[str, FrameBoxes],
    found: dict[str, tuple[FrameBoxes, NDArray[np.floating]]],
    min_iou: float = 0.5,
    max_rows_per_image: int | None = None,
) -> MeanAveragePrecision:
    """AVA's frame-mAP: by class name, true boxes, and found boxes with their scores.

    A found box counts for the true box that it overlaps most, if by at least ``min_iou``; of several that
    count for the same one the highest score is right and the others are false, as in AVA's evaluator.

    Args:
        truth: true boxes of each class.
        found: found boxes of each class and their scores, one per box.
        min_iou: least overlap.
        max_rows_per_image: AVA's evaluator keeps 50; see :func:`keep_best_rows`. None keeps all.
    """
    if max_rows_per_image is not None:
        found = keep_best_rows(found, max_rows_per_image)
    nothing = (FrameBoxes(np.zeros(0, np.int64), np.zeros((0, 4))), np.zeros(0))
    per_class, instances = {}, {}
    for name, true_boxes in truth.items():
        boxes, scores = found.get(name, nothing)
        is_true = match_boxes(boxes, scores, true_boxes, min_iou)
        instances[name] = int(true_boxes.image.size)
        per_class[name] = average_precision(scores, is_true, instances[name])
    return MeanAveragePrecision(per_class, instances)


def keep_best_rows(
    found: dict[str, tuple[FrameBoxes, NDArray[np.floating]]], max_rows_per_image: int
) -> dict[str, tuple[FrameBoxes, NDArray[np.floating]]]:
    """The rows of highest score of each image, all classes together; of equal scores the earlier rows."""
    if max_rows_per_image < 1:
        raise ValueError(f"max_rows_per_image must be at least 1, got {max_rows_per_image}")
    if not found:
        return {}
    image = np.concatenate([boxes.image for boxes, _ in found.values()])
    scores = np.concatenate([scores for _, scores in found.values()])
    order = np.lexsort((-scores, image))
    in_order = image[order]
    rank = np.arange(len(order)) - np.searchsorted(in_order, in_order, side="left")
    kept = np.zeros(len(order), dtype=bool)
    kept[order[rank < max_rows_per_image]] = True
    parts = np.split(kept, np.cumsum([len(scores) for _, scores in found.values()])[:-1])
    return {
        name: (FrameBoxes(boxes.image[part], boxes.xyxy[part]), of_class[part])
        for (name, (boxes, of_class)), part in zip(found.items(), parts, strict=True)
    }


def match_boxes(
    found: FrameBoxes, scores: NDArray[np.floating], truth: FrameBoxes, min_iou: float
) -> NDArray[np.bool_]:
    """Which found boxes are right, shape ``(N,)``; the rule of :func:`frame_map`."""
    is_true = np.zeros(found.image.shape[0], dtype=bool)
    row, true_row = _pairs_in_same_image(found.image, truth.image)
    if row.size == 0:
        return is_true
    overlap = iou(found.xyxy[row], truth.xyxy[true_row])
    # Best true box of each found box: sort by row, then overlap descending, then keep the first of each row.
    best = np.lexsort((true_row, -overlap, row))
    best = best[np.unique(row[best], return_index=True)[1]]
    best = best[overlap[best] >= min_iou]
    # Best found box of each true box, by score.
    order = best[np.lexsort((row[best], -scores[row[best]], true_row[best]))]
    winners = order[np.unique(true_row[order], return_index=True)[1]]
    is_true[row[winners]] = True
    return is_true


def best_overlaps(found: FrameBoxes, truth: FrameBoxes) -> NDArray[np.float64]:
    """Largest overlap of each found box with a true one of its image, shape ``(N,)``; 0 without one."""
    best = np.zeros(found.image.shape[0])
    row, true_row = _pairs_in_same_image(found.image, truth.image)
    np.maximum.at(best, row, iou(found.xyxy[row], truth.xyxy[true_row]))
    return best


def iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of boxes paired by row, shapes ``(N, 4)``; 0 where both are empty."""
    size = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    common = np.prod(np.clip(size, 0, None), axis=1)
    union = _area(first) + _area(second) - common
    overlap: NDArray[np.float64] = np.divide(common, union, out=np.zeros(common.shape), where=union > 0)
    return overlap


def _area(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    area: NDArray[np.floating] = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    return area


def _pairs_in_same_image(
    image: NDArray[np.int64], true_image: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs (row, true row) that share an image, without a loop over images."""
    by_image = np.argsort(true_image, kind="stable")
    first = np.searchsorted(true_image[by_image], image, side="left")
    count = np.searchsorted(true_image[by_image], image, side="right") - first
    row = np.repeat(np.arange(image.size), count)
    position = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
    return row, by_image[np.repeat(first, count) + position]
