"""One set of boxes from several annotators who looked at the same videos: each individual once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from storage.analysis.agreement import MIN_IOU, as_boxes, moment_of
from storage.analysis.identity import match_boxes
from storage.formats.annotations import Annotation


@dataclass(frozen=True, slots=True)
class Consensus:
    """What all annotators together say."""

    annotations: tuple[Annotation, ...]
    """Sorted by video and time; the annotator of a merged box is the names of all, joined by ``+``."""
    seen_by: dict[int, int]
    """Number of boxes by how many annotators drew them."""
    outvoted: int
    """Boxes of which annotators named different behaviours: the majority's is used, of a tie the first one's."""


def merge_annotators(annotations: Iterable[Annotation], moment_hz: float) -> Consensus:
    """Merge what annotators drew of the same individual at the same moment.

    Boxes that overlap by ``MIN_IOU`` are one: its corners are their mean, its behaviours and motion are those of
    the majority (of a tie the annotator's who comes first), its individual and visibility the first annotator's.
    A box that only one of them drew is kept. Of several boxes that one annotator drew of one individual within one
    moment, the one nearest to it counts.

    Args:
        annotations: of all annotators; the order in which they first appear is that of a tie.
        moment_hz: moments are this fine.
    """
    groups: dict[tuple[str, int], dict[str, list[Annotation]]] = defaultdict(lambda: defaultdict(list))
    order: dict[str, None] = {}
    for one in annotations:
        order[one.annotator] = None
        groups[moment_of(one, moment_hz)][one.annotator].append(one)
    merged: list[Annotation] = []
    seen_by: Counter[int] = Counter()
    outvoted = 0
    for (_, moment), by_annotator in sorted(groups.items()):
        looks = [_nearest(by_annotator[name], moment / moment_hz) for name in order if name in by_annotator]
        for cluster in _clusters(looks):
            merged.append(_merge(cluster))
            seen_by[len(cluster)] += 1
            outvoted += len({one.behaviours for one in cluster}) > 1
    return Consensus(tuple(merged), dict(sorted(seen_by.items())), outvoted)


def _nearest(boxes: list[Annotation], time_s: float) -> list[Annotation]:
    """Each individual once, at the time nearest to a moment; boxes without an individual all stay."""
    chosen: dict[Hashable, Annotation] = {}
    for k, one in enumerate(sorted(boxes, key=lambda box: abs(box.time_s - time_s))):
        chosen.setdefault(one.individual or k, one)
    return list(chosen.values())


def _clusters(looks: Sequence[list[Annotation]]) -> list[list[Annotation]]:
    """Boxes of the same individual, at most one of each annotator, in the order of the annotators."""
    clusters: list[list[Annotation]] = []
    for boxes in looks:
        if not clusters:
            clusters = [[one] for one in boxes]
            continue
        firsts = [cluster[0] for cluster in clusters]
        i, j = match_boxes(as_boxes(firsts, [0] * len(firsts)), as_boxes(boxes, [0] * len(boxes)), MIN_IOU)
        for known, new in zip(i.tolist(), j.tolist(), strict=True):
            clusters[known].append(boxes[new])
        taken = set(j.tolist())
        clusters += [[one] for k, one in enumerate(boxes) if k not in taken]
    return clusters


def _merge(cluster: list[Annotation]) -> Annotation:
    first = cluster[0]
    x1, y1, x2, y2 = np.mean([one.xyxy for one in cluster], axis=0).tolist()
    motions = [one.dynamic for one in cluster if one.dynamic is not None]
    return replace(
        first,
        annotator="+".join(one.annotator for one in cluster),
        xyxy=(x1, y1, x2, y2),
        # Counter keeps the order of first appearance among equals.
        behaviours=Counter(one.behaviours for one in cluster).most_common(1)[0][0],
        dynamic=Counter(motions).most_common(1)[0][0] if motions else None,
        individual=next((one.individual for one in cluster if one.individual), ""),
    )
