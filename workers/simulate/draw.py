"""Painting outlines to an image with sub-pixel positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.simulate.bird import Colour, Point, Shape

_SHIFT = 4
_SUBPIXELS = 1 << _SHIFT


def to_subpixels(points: Sequence[Point] | NDArray[np.floating], height_px: int) -> NDArray[np.int32]:
    """Frame units to the fixed-point pixels that cv2 draws with."""
    return np.rint(np.asarray(points, np.float64) * (height_px * _SUBPIXELS)).astype(np.int32)


def contours(shapes: Sequence[Shape], height_px: int) -> list[NDArray[np.int32]]:
    """The outlines of all shapes in fixed-point pixels, converted at once."""
    points = to_subpixels([point for shape in shapes for point in shape.outline], height_px)
    ends = np.cumsum([len(shape.outline) for shape in shapes])
    return [points[end - len(shape.outline) : end] for shape, end in zip(shapes, ends.tolist(), strict=True)]


def paint(image: NDArray[np.uint8], shapes: Sequence[Shape], colours: Mapping[str, Colour]) -> None:
    """Draw shapes in order, anti-aliased, without jumping by whole pixels."""
    for shape, outline in zip(shapes, contours(shapes, image.shape[0]), strict=True):
        cv2.fillPoly(image, [outline], colours[shape.paint], cv2.LINE_AA, _SHIFT)


def fill_mask(mask: NDArray[np.uint8], outlines: Sequence[NDArray[np.int32]], value: int) -> None:
    """Mark what some shapes' :func:`contours` cover, without anti-aliasing."""
    for outline in outlines:
        cv2.fillPoly(mask, [outline], value, cv2.LINE_8, _SHIFT)


def lines(
    image: NDArray[np.uint8],
    blades: NDArray[np.floating],
    colour: Colour | int,
    thickness: int,
    smooth: bool = True,
) -> None:
    """Draw many open lines of one colour; ``blades`` has shape ``(B, P, 2)``."""
    kind = cv2.LINE_AA if smooth else cv2.LINE_8
    cv2.polylines(image, list(to_subpixels(blades, image.shape[0])), False, colour, thickness, kind, _SHIFT)


def extent(shapes: Sequence[Shape]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of everything drawn, in frame units."""
    xs = [x for shape in shapes for x, _ in shape.outline]
    ys = [y for shape in shapes for _, y in shape.outline]
    return min(xs), min(ys), max(xs), max(ys)
