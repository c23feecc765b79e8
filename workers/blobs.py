"""Connected regions of a mask as things: pieces of one body joined, bodies that touch told apart."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]

CORE_DEPTH = 0.6
"""Cores are what lies deeper than this share of a region's greatest depth."""
CORE_LEVELS = (0.0, 0.5, 1.0)
"""Differences, as shares of a region's median, above which cores are sought in turn."""
MIN_PART = 0.33
"""Least share of a region's area that each part has when it is split."""
PIECE_SHARE = 0.8
"""A region is a piece of a neighbour if its area is at most this share of the neighbour's."""
STACKED_SHARE = 0.5
"""Two regions stand over each other if they share this much of the narrower one's columns."""
WEAK_PART = 0.4
"""A part with less than this share of strong pixels beside one that has more is a shadow or a reflection."""
_PAD = 1
_ROOM = 2


@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """One thing in a mask."""

    x: int
    y: int
    """Column and row of the window's corner."""
    mask: Mask
    """Its pixels within its bounding rectangle, 0 or 1, shape ``(h, w)``."""
    area: int
    """Number of its pixels."""
    strong: int
    """How many of them differ strongly."""

    @property
    def extent(self) -> int:
        """Longer side of the bounding rectangle in pixels."""
        return int(max(self.mask.shape))

    @property
    def depth(self) -> float:
        """How many pixels its innermost pixel is away from the outside."""
        padded = cv2.copyMakeBorder(self.mask, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_CONSTANT, value=0)
        return float(cv2.distanceTransform(padded, cv2.DIST_L2, 3).max())

    def solid_in(self, height: int, width: int) -> tuple[Mask, tuple[slice, slice]]:
        """The mask without holes and with room for its outline, and that window of a picture of this size."""
        h, w = self.mask.shape
        top, left = min(self.y, _ROOM), min(self.x, _ROOM)
        bottom, right = min(height - self.y - h, _ROOM), min(width - self.x - w, _ROOM)
        solid = cv2.copyMakeBorder(filled(self.mask), top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)
        window = np.s_[self.y - top : self.y + h + bottom, self.x - left : self.x + w + right]
        return solid, window

    def gap_to(self, other: Blob) -> int:
        """Pixels between the two bounding rectangles, along the axis in which they are further apart."""
        across = _shared(self.x, self.mask.shape[1], other.x, other.mask.shape[1])
        down = _shared(self.y, self.mask.shape[0], other.y, other.mask.shape[0])
        return max(-across, -down, 0)

    def stands_over(self, other: Blob) -> bool:
        """Whether the two share most of their columns, as the upper and the lower part of one body do."""
        width, other_width = int(self.mask.shape[1]), int(other.mask.shape[1])
        return _shared(self.x, width, other.x, other_width) >= STACKED_SHARE * min(width, other_width)


def find_blobs(weak: Mask, strong: Mask, min_pixels: int) -> list[Blob]:
    """Regions of ``weak`` of at least ``min_pixels`` of which one is ``strong``, the largest first."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(weak, connectivity=8)
    blobs = []
    for label in range(1, count):
        x, y, w, h, area = (int(value) for value in stats[label])
        if area < min_pixels:
            continue
        window = np.s_[y : y + h, x : x + w]
        mask = (labels[window] == label).astype(np.uint8)
        hits = int(cv2.countNonZero(mask & strong[window]))
        if hits:
            blobs.append(Blob(x, y, mask, area, hits))
    return sorted(blobs, key=lambda blob: (-blob.area, blob.y, blob.x))


def join_pieces(blobs: list[Blob], max_gap: int, min_body: int) -> list[Blob]:
    """Bodies of at least ``min_body`` pixels, with the pieces that belong to them.

    A blob joins the first body that is much larger, or above or below it, and at most ``max_gap`` away. Small
    blobs that belong to no body are dropped: glitter is many of these.
    """
    joined: list[Blob] = []
    for blob in blobs:
        for i, body in enumerate(joined):
            related = blob.area <= PIECE_SHARE * body.area or blob.stands_over(body)
            if related and blob.gap_to(body) <= max_gap:
                joined[i] = _union(body, blob)
                break
        else:
            if blob.area >= min_body:
                joined.append(blob)
    return joined


def split_neighbours(blob: Blob, strong: Mask, apart: Mask, min_pixels: int) -> list[Blob]:
    """Split a blob with several cores, as two bodies that touch have, into the pixels nearest to each.

    Cores are what is deep inside the blob, or what is left of it where a higher level of difference is asked
    for. Every part must have a fair share of the area, else the blob stays whole: necks, legs and wings are
    thin. Parts one above the other stay together. A faint part beside a clear one, a reflection, is dropped.

    Args:
        blob: what to split.
        strong: mask of the strong differences, shape ``(H, W)``.
        apart: the differences in grey levels, shape ``(H, W)``.
        min_pixels: least area of a part.
    """
    h, w = blob.mask.shape
    levels = apart[blob.y : blob.y + h, blob.x : blob.x + w] * blob.mask
    typical = float(np.median(levels[blob.mask > 0]))
    for share in CORE_LEVELS:
        solid = filled(blob.mask) if share == 0.0 else (levels >= share * typical).astype(np.uint8)
        owners = _nearest_core(blob.mask, solid)
        sizes = np.bincount(owners.ravel())[1:]
        large = np.flatnonzero(sizes >= max(min_pixels, MIN_PART * blob.area)) + 1
        if large.size < 2 or sizes[large - 1].sum() < 0.9 * blob.area:
            continue
        parts = [_part(blob, (owners == owner).astype(np.uint8), strong) for owner in large]
        if any(one.stands_over(other) for i, one in enumerate(parts) for other in parts[:i]):
            continue
        clear = [part for part in parts if part.strong >= WEAK_PART * part.area]
        return clear or parts
    return [blob]


def _nearest_core(mask: Mask, solid: Mask) -> NDArray[np.int32]:
    """Number, from 1, of the deep core of ``solid`` that each pixel of a mask is nearest to; 0 outside."""
    padded = cv2.copyMakeBorder(solid, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    cores = (depth > CORE_DEPTH * float(depth.max())).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(1 - cores, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
    owners: NDArray[np.int32] = nearest[_PAD:-_PAD, _PAD:-_PAD] * mask
    return owners


def filled(mask: Mask) -> Mask:
    """The mask without its holes."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    solid = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(solid, contours, -1, 1, cv2.FILLED)
    return solid


def _shared(start: int, length: int, other_start: int, other_length: int) -> int:
    """How much two intervals overlap; negative: how far they are apart."""
    return min(start + length, other_start + other_length) - max(start, other_start)


def _union(one: Blob, other: Blob) -> Blob:
    x, y = min(one.x, other.x), min(one.y, other.y)
    right = max(blob.x + blob.mask.shape[1] for blob in (one, other))
    bottom = max(blob.y + blob.mask.shape[0] for blob in (one, other))
    mask = np.zeros((bottom - y, right - x), np.uint8)
    for blob in (one, other):
        h, w = blob.mask.shape
        mask[blob.y - y : blob.y - y + h, blob.x - x : blob.x - x + w] |= blob.mask
    return Blob(x, y, mask, one.area + other.area, one.strong + other.strong)


def _part(blob: Blob, mask: Mask, strong: Mask) -> Blob:
    x, y, w, h = cv2.boundingRect(mask)
    tight = mask[y : y + h, x : x + w].copy()
    x, y = blob.x + x, blob.y + y
    hits = cv2.countNonZero(tight & strong[y : y + h, x : x + w])
    return Blob(x, y, tight, int(cv2.countNonZero(tight)), int(hits))
