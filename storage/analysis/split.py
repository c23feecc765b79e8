"""Dividing annotated videos into training, validation and test parts that hold the same mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage.errors import SplitError

PARTS: Final = ("train", "validation", "test")
MIN_VIDEOS = 10
"""8:1:1 needs a whole video in each of the small parts."""
TARGET_GAP = 0.02
"""Shares of a class may differ by this much between two parts."""
_RESTARTS, _SWAPS = 60, 1500

Ints = NDArray[np.int64]
Counts = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Boxes of each class, by video, group and class."""


@dataclass(frozen=True, slots=True)
class VideoSplit:
    """Which video is in which part, and how alike the parts came out."""

    part_of: dict[str, str]
    """``train``, ``validation`` or ``test`` by video."""
    shares: dict[str, dict[str, dict[str, float]]]
    """Share of the boxes by group (``behaviour``, ``motion``), class and part."""
    largest_gap: float
    """Greatest difference of a share between two parts."""
    widest: str
    """The class that differs so."""

    @property
    def is_balanced(self) -> bool:
        """Whether no share differs by more than ``TARGET_GAP``."""
        return self.largest_gap <= TARGET_GAP


def split_videos(counts: Counts, seed: int) -> VideoSplit:
    """Split videos 8:1:1 so that the shares of all classes are as alike as a seeded search can make them.

    It starts from random splits and exchanges videos between parts as long as the greatest difference gets
    smaller; of all starts the best is taken, or the first that is ten times better than it need be.

    Args:
        counts: boxes of each class, by video, group and class; shares are taken within a group.
        seed: of the search; the same seed gives the same split.

    Raises:
        SplitError: there are fewer than ``MIN_VIDEOS`` videos with boxes.
    """
    videos = sorted(
        video for video, groups in counts.items() if any(map(sum, (g.values() for g in groups.values())))
    )
    if len(videos) < MIN_VIDEOS:
        raise SplitError(
            f"an 8:1:1 split by videos needs at least {MIN_VIDEOS} annotated videos, there are {len(videos)}; "
            "annotate more, or cut long recordings"
        )
    _, table, same_group = _tabulate(counts, videos)
    part = _search(table, same_group, np.random.default_rng(seed))
    return given_split(counts, {video: PARTS[p] for video, p in zip(videos, part.tolist(), strict=True)})


def given_split(counts: Counts, part_of: Mapping[str, str]) -> VideoSplit:
    """How alike the parts of a split are that is given; ``counts`` as for :func:`split_videos`."""
    videos = sorted(part_of)
    classes, table, same_group = _tabulate(counts, videos)
    part = np.array([PARTS.index(part_of[video]) for video in videos], dtype=np.int64)
    shares = _shares(part, table, same_group, empty=0.0)
    gaps = np.ptp(shares, axis=0)
    named: dict[str, dict[str, dict[str, float]]] = {}
    for k, (group, name) in enumerate(classes):
        named.setdefault(group, {})[name] = dict(zip(PARTS, shares[:, k].tolist(), strict=True))
    return VideoSplit(dict(part_of), named, float(gaps.max()), classes[int(gaps.argmax())][1])


def _tabulate(counts: Counts, videos: Sequence[str]) -> tuple[list[tuple[str, str]], Ints, Ints]:
    """Group and name of each of C classes, boxes by video ``(V, C)``, and which classes share a group ``(C, C)``."""
    classes = sorted(
        {(group, name) for groups in counts.values() for group, one in groups.items() for name in one}
    )
    table = np.array(
        [[counts.get(video, {}).get(group, {}).get(name, 0) for group, name in classes] for video in videos],
        dtype=np.int64,
    )
    groups = np.array([group for group, _ in classes])
    return classes, table, (groups[:, None] == groups[None, :]).astype(np.int64)


def _search(table: Ints, same_group: Ints, random: np.random.Generator) -> Ints:
    """Part of each video, shape ``(V,)``, of the best split found."""
    small = max(1, round(len(table) / 10))
    sizes = (len(table) - 2 * small, small, small)
    start = np.repeat(np.arange(len(PARTS)), sizes)
    best, best_gap = start, float("inf")
    for _ in range(_RESTARTS):
        part = random.permutation(start)
        gap = _gap(part, table, same_group)
        for one, other in random.integers(0, len(table), (_SWAPS, 2)).tolist():
            if part[one] == part[other]:
                continue
            part[[one, other]] = part[[other, one]]
            changed = _gap(part, table, same_group)
            if changed < gap:
                gap = changed
            else:
                part[[one, other]] = part[[other, one]]
        if gap < best_gap:
            best, best_gap = part, gap
        if best_gap <= TARGET_GAP / 10:
            break
    return best


def _gap(part: Ints, table: Ints, same_group: Ints) -> float:
    return float(np.ptp(_shares(part, table, same_group), axis=0).max())


def _shares(part: Ints, table: Ints, same_group: Ints, empty: float = 2.0) -> NDArray[np.float64]:
    """Share of each class among the boxes of its group, by part, shape ``(3, C)``; ``empty`` where a part has none."""
    members: Ints = np.equal(part, np.arange(len(PARTS))[:, None]).astype(np.int64)
    boxes = members @ table
    totals = boxes @ same_group
    # 2 is farther than any share can be, so that the search never leaves a part without boxes.
    shares: NDArray[np.float64] = np.divide(boxes, totals, out=np.full(boxes.shape, empty), where=totals > 0)
    return shares


def part_sizes(split: VideoSplit) -> dict[str, int]:
    """Number of videos in each part."""
    chosen: Sequence[str] = list(split.part_of.values())
    return {part: chosen.count(part) for part in PARTS}
