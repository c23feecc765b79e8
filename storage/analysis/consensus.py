"""One set of boxes from several annotators who looked at the same videos: each individual once."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from storage.analysis.agreement import MIN_IOU, as_boxes, moment_of
from storage.analysis.identity import best_pairs, match_boxes, paired_iou
from storage.formats.annotations import Annotation


@dataclass(frozen=True, slots=True)
class Consensus:
    """What all annotators together say."""

    annotations: tuple[Annotation, ...]
    """Sorted by video and time; the annotator of a merged box is the names of all, joined by ``+``."""
    seen_by: dict[int, int]
    """Number of boxes of one behaviour by how many annotators drew them."""
    outvoted: int
    """Boxes of which annotators named different behaviours: the majority's is used, of a tie the first one's."""


def merge_annotators(annotations: Iterable[Annotation], moment_hz: float) -> Consensus:
    """Merge what annotators drew of the same individual at the same moment.

    Boxes that overlap by ``MIN_IOU`` are one: its corners are their mean, its behaviour that of the majority of those
    who named one alone, its motion that of the majority (of a tie the annotator's who comes first), its visibility the
    first annotator's. A box that only one of them drew is kept. Names of individuals are each annotator's own: those of
    one are paired with those of the ones before by the boxes that both drew.

    Args:
        annotations: of all annotators; the order in which they first appear is that of a tie.
        moment_hz: moments are this fine.
    """
    groups: dict[tuple[str, int], dict[str, list[Annotation]]] = defaultdict(lambda: defaultdict(list))
    order: dict[str, None] = {}
    for one in one_look(annotations, moment_hz):
        order[one.annotator] = None
        groups[moment_of(one, moment_hz)][one.annotator].append(one)
    of_video: dict[str, list[list[list[Annotation]]]] = defaultdict(list)
    for (video, _), by_annotator in sorted(groups.items()):
        of_video[video].append(_clusters([by_annotator[name] for name in order if name in by_annotator]))
    merged: list[Annotation] = []
    seen_by: Counter[int] = Counter()
    outvoted = 0
    for moments in of_video.values():
        names = _shared_names([cluster for clusters in moments for cluster in clusters], list(order))
        for clusters in moments:
            boxes = [_merge(cluster, names) for cluster in clusters]
            merged += _each_once(boxes)
            seen_by.update(
                len(cluster) for cluster, box in zip(clusters, boxes, strict=True) if len(box.behaviours) == 1
            )
            outvoted += sum(
                len({one.behaviours for one in cluster if one.behaviours}) > 1 for cluster in clusters
            )
    return Consensus(tuple(merged), dict(sorted(seen_by.items())), outvoted)


def one_look(annotations: Iterable[Annotation], moment_hz: float) -> list[Annotation]:
    """Each individual once for each annotator and moment, at the time nearest to it, where boxes lie more densely.

    Boxes without an individual stay, but for those that overlap by ``MIN_IOU`` one of another time of the moment.
    """
    groups: dict[tuple[str, str, int], list[Annotation]] = defaultdict(list)
    for one in annotations:
        groups[one.annotator, *moment_of(one, moment_hz)].append(one)
    return [one for (_, _, moment), boxes in groups.items() for one in _nearest(boxes, moment / moment_hz)]


def _nearest(boxes: list[Annotation], time_s: float) -> list[Annotation]:
    chosen: dict[Hashable, Annotation] = {}
    for k, one in enumerate(sorted(boxes, key=lambda box: abs(box.time_s - time_s))):
        if one.individual or not any(_shows_the_same(one, other) for other in chosen.values()):
            chosen.setdefault(one.individual or k, one)
    return list(chosen.values())


def _shows_the_same(one: Annotation, other: Annotation) -> bool:
    if one.time_s == other.time_s:
        return False
    return bool(paired_iou(np.array([one.xyxy]), np.array([other.xyxy]))[0] >= MIN_IOU)


def _shared_names(clusters: Sequence[list[Annotation]], order: Sequence[str]) -> dict[tuple[str, str], str]:
    """What individuals of one video are called in the merged boxes, by annotator and the name that they gave."""
    shared: dict[tuple[str, str], str] = {}
    taken: set[str] = set()
    for annotator in order:
        own: dict[str, None] = {}
        together: Counter[tuple[str, str]] = Counter()
        for cluster in clusters:
            mine = next((one.individual for one in cluster if one.annotator == annotator), "")
            if mine:
                own[mine] = None
                known = (shared.get((one.annotator, one.individual)) for one in cluster)
                together.update((mine, name) for name in itertools.islice(filter(None, known), 1))
        paired = _paired_names(together)
        for name in own:
            free = name if name not in taken else f"{annotator}:{name}"
            shared[annotator, name] = paired.get(name, free)
        taken.update(shared[annotator, name] for name in own)
    return shared


def _paired_names(together: Mapping[tuple[str, str], int]) -> dict[str, str]:
    """The one-to-one pairing of names under which most boxes agree."""
    pairs = sorted(together)
    mine, i = np.unique([own for own, _ in pairs], return_inverse=True)
    theirs, j = np.unique([other for _, other in pairs], return_inverse=True)
    rows, columns = best_pairs(i, j, np.array([together[pair] for pair in pairs], np.float64))
    return dict(zip(mine[rows].tolist(), theirs[columns].tolist(), strict=True))


def _each_once(boxes: Iterable[Annotation]) -> Iterator[Annotation]:
    """The boxes of one moment; one whose individual was there before stays without a name."""
    seen: set[str] = set()
    for one in boxes:
        yield replace(one, individual="") if one.individual in seen else one
        seen |= {one.individual} - {""}


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


def _merge(cluster: list[Annotation], names: Mapping[tuple[str, str], str]) -> Annotation:
    first = cluster[0]
    said = [one.behaviours for one in cluster]
    clear = [behaviours for behaviours in said if len(behaviours) == 1]
    x1, y1, x2, y2 = np.mean([one.xyxy for one in cluster], axis=0).tolist()
    motions = [one.dynamic for one in cluster if one.dynamic is not None]
    return replace(
        first,
        annotator="+".join(one.annotator for one in cluster),
        xyxy=(x1, y1, x2, y2),
        # Counter keeps the order of first appearance among equals.
        behaviours=Counter(clear or said).most_common(1)[0][0],
        dynamic=Counter(motions).most_common(1)[0][0] if motions else None,
        individual=next((names[one.annotator, one.individual] for one in cluster if one.individual), ""),
    )
