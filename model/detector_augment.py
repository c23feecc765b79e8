"""Random variants of training frames, so that the detector survives other scenes than the simulated ones.

Boxes that hold too little of their bird to learn from (mostly covered or outside the frame) are *ignored*:
their cells teach neither that there is a bird nor that there is none; a box there is neither right nor wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_INSIDE, MAX_COVERED = 0.6, 0.65
"""A box with less in the frame, or more of it covered, is ignored."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameTruth:
    """The birds of one frame."""

    xyxy_px: NDArray[np.float32]
    """Corners in pixels, shape ``(M, 4)``."""
    ignored: NDArray[np.bool_]
    """Boxes that count neither way, shape ``(M,)``."""

    def __post_init__(self) -> None:
        if self.xyxy_px.shape != (self.ignored.shape[0], 4):
            raise ValueError(
                f"xyxy_px must have shape {(self.ignored.shape[0], 4)}, got {self.xyxy_px.shape}"
            )


def augment(
    frame: NDArray[np.uint8], truth: FrameTruth, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], FrameTruth]:
    """One random variant of a frame ``(H, W, 3)`` of the same size, with its boxes.

    Flip, zoom 0.7 to 1.4 with a shift, cut-outs, then light: grey with vignette and noise as infrared, hue,
    gain, offset, blur.
    """
    frame, truth = _zoom_and_flip(frame, truth, rng)
    frame, truth = _cut_out(frame, truth, rng)
    return _change_light(frame, rng), truth


def _zoom_and_flip(
    frame: NDArray[np.uint8], truth: FrameTruth, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], FrameTruth]:
    height, width = frame.shape[:2]
    zoom = math.exp(rng.uniform(math.log(0.7), math.log(1.4))) if rng.random() < 0.75 else 1.0
    stretch = math.exp(rng.normal(0, 0.04))
    sx, sy = zoom * stretch, zoom / stretch
    shift_x, shift_y = rng.random() * (width - width * sx), rng.random() * (height - height * sy)
    if rng.random() < 0.5:
        sx, shift_x = -sx, width - shift_x
    matrix = np.array([[sx, 0.0, shift_x], [0.0, sy, shift_y]])
    fill = tuple(float(value) for value in frame.reshape(-1, 3)[::997].mean(axis=0))
    warped = cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=fill)
    xs = np.sort(truth.xyxy_px[:, [0, 2]] * sx + shift_x, axis=1)
    ys = truth.xyxy_px[:, [1, 3]] * sy + shift_y
    moved = np.stack([xs[:, 0], ys[:, 0], xs[:, 1], ys[:, 1]], axis=1)
    clipped = np.clip(moved, 0, [width, height, width, height])
    size, full = (
        np.prod(clipped[:, 2:] - clipped[:, :2], axis=1),
        np.prod(moved[:, 2:] - moved[:, :2], axis=1),
    )
    kept = size > 0
    ignored = truth.ignored | (size < MIN_INSIDE * full)
    return np.asarray(warped, np.uint8), FrameTruth(clipped[kept].astype(np.float32), ignored[kept])


def _cut_out(
    frame: NDArray[np.uint8], truth: FrameTruth, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], FrameTruth]:
    """Hide up to three small rectangles; a box that loses half of its area is ignored."""
    frame, ignored = frame.copy(), truth.ignored.copy()
    height, width = frame.shape[:2]
    boxes = truth.xyxy_px
    area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1.0)
    for _ in range(int(rng.integers(0, 4))):
        w, h = rng.integers(5, 26, 2)
        x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
        frame[y : y + h, x : x + w] = frame[rng.integers(height), rng.integers(width)]
        overlap = np.minimum(boxes[:, 2:], [x + w, y + h]) - np.maximum(boxes[:, :2], [x, y])
        ignored |= np.prod(np.maximum(overlap, 0), axis=1) > 0.5 * area
    return frame, FrameTruth(boxes, ignored)


def _change_light(frame: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    if rng.random() < 0.25:
        frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), rng.uniform(0.4, 1.0)), np.uint8)
    image = frame.astype(np.float32)
    if rng.random() < 0.15:
        image = np.repeat(image @ np.array([[0.3], [0.59], [0.11]], np.float32), 3, axis=2)
        image = image * rng.uniform(0.4, 1.0) + rng.uniform(0, 40)
    elif rng.random() < 0.6:
        mix = np.eye(3) + rng.normal(0, 0.12, (3, 3))
        image = image @ (mix / mix.sum(axis=1, keepdims=True)).T.astype(np.float32)
    image = (image - 128) * math.exp(rng.normal(0, 0.25)) + 128 + rng.normal(0, 20)
    if rng.random() < 0.5:
        grain = rng.standard_normal((*image.shape[:2], 1), dtype=np.float32)
        image = image + grain * np.float32(rng.uniform(0, 12))
    return np.clip(image, 0, 255).astype(np.uint8)
