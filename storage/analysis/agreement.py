"""How well annotators agree: overlap of the boxes that they drew of the same individual, and Cohen's kappa of what
they said about it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from storage.analysis.identity import IdentityBoxes, match_boxes, paired_iou
from storage.formats.annotations import Annotation

MIN_IOU = 0.5
"""Boxes that overlap by less do not show the same individual."""


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two annotators at the moments at which both drew boxes."""

    first: str
    second: str
    moments: int
    first_boxes: int
    second_boxes: int
    matched: int
    """Boxes of the one that overlap one of the other by at least ``MIN_IOU``."""
    mean_iou: float
    """Of the matched boxes; NaN where there are none."""
    behaviour_kappa: float
    """Cohen's kappa of the behaviours of matched boxes; NaN where it is undefined."""
    behaviour_agreement: float
    """Share of matched boxes with the same behaviour."""
    motion_kappa: float
    """Cohen's kappa of the motion states of matched boxes in which both gave one."""


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Agreement of two annotators beyond chance, (p_o - p_e) / (1 - p_e) (Cohen 1960).

    NaN where there is nothing to compare, or where both gave one and the same label throughout, since then any
    agreement could be chance.

    Raises:
        ValueError: the two have different lengths.
    """
    if len(first) != len(second):
        raise ValueError(f"need as many labels of both annotators, got {len(first)} and {len(second)}")
    if not first:
        return float("nan")
    classes = {label: k for k, label in enumerate(dict.fromkeys((*first, *second)))}
    table = np.zeros((len(classes), len(classes)))
    for one, other in zip(first, second, strict=True):
        table[classes[one], classes[other]] += 1
    table /= len(first)
    observed, expected = float(np.trace(table)), float(table.sum(axis=1) @ table.sum(axis=0))
    return (observed - expected) / (1 - expected) if expected < 1 - 1e-12 else float("nan")


def annotator_agreement(annotations: Iterable[Annotation], moment_hz: float) -> list[PairAgreement]:
    """Agreement of every two annotators who drew boxes at a common moment.

    Args:
        annotations: of all annotators.
        moment_hz: moments are this fine: annotators never stop a video at the same thousandth.
    """
    by_annotator: dict[str, list[Annotation]] = defaultdict(list)
    for one in annotations:
        by_annotator[one.annotator].append(one)
    pairs = itertools.combinations(by_annotator, 2)
    found = (_pair(by_annotator[first], by_annotator[second], moment_hz) for first, second in pairs)
    return [pair for pair in found if pair is not None]


def _pair(first: list[Annotation], second: list[Annotation], moment_hz: float) -> PairAgreement | None:
    moments = [{moment_of(one, moment_hz) for one in boxes} for boxes in (first, second)]
    common = {moment: k for k, moment in enumerate(sorted(moments[0] & moments[1]))}
    if not common:
        return None
    kept = [[one for one in boxes if moment_of(one, moment_hz) in common] for boxes in (first, second)]
    arrays = [as_boxes(boxes, [common[moment_of(one, moment_hz)] for one in boxes]) for boxes in kept]
    i, j = match_boxes(arrays[0], arrays[1], MIN_IOU)
    matched = [(kept[0][a], kept[1][b]) for a, b in zip(i.tolist(), j.tolist(), strict=True)]
    iou = paired_iou(arrays[0].xyxy[i], arrays[1].xyxy[j])
    said = [(frozenset(one.behaviours), frozenset(other.behaviours)) for one, other in matched]
    moved = [
        (one.dynamic, other.dynamic) for one, other in matched if None not in (one.dynamic, other.dynamic)
    ]
    return PairAgreement(
        first[0].annotator,
        second[0].annotator,
        len(common),
        len(kept[0]),
        len(kept[1]),
        len(matched),
        float(iou.mean()) if len(iou) else float("nan"),
        cohen_kappa([one for one, _ in said], [other for _, other in said]),
        sum(one == other for one, other in said) / len(said) if said else float("nan"),
        cohen_kappa([one for one, _ in moved], [other for _, other in moved]),
    )


def moment_of(annotation: Annotation, moment_hz: float) -> tuple[str, int]:
    """Video and number of the moment nearest to an annotation."""
    return annotation.video, round(annotation.time_s * moment_hz)


def as_boxes(annotations: Sequence[Annotation], images: Sequence[int]) -> IdentityBoxes:
    """Arrays of annotations, each with the number of its image; identities are left open."""
    count = len(annotations)
    return IdentityBoxes(
        np.array(images, dtype=np.int64),
        np.full(count, -1, dtype=np.int64),
        np.array([one.xyxy for one in annotations], dtype=np.float64).reshape(-1, 4),
    )
