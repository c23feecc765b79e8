"""Random changes of a training clip that leave its labels true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far clips and boxes are changed."""

    flip_probability: float = 0.5
    zoom: tuple[float, float] = (0.9, 1.25)
    gain: tuple[float, float] = (0.75, 1.3)
    """Factor on all pixels."""
    offset: float = 20.0
    """Greatest brightness, of 255, that is added or taken away."""
    grey_probability: float = 0.1
    box_jitter: float = 0.06
    """Standard deviation of each side of a box, as a share of its width or height."""


NO_AUGMENTATION = Augmentation(0.0, (1.0, 1.0), (1.0, 1.0), 0.0, 0.0, 0.0)
"""Every clip and box as it is."""


def augment(
    clip: NDArray[np.uint8], xyxy: NDArray[np.float32], how: Augmentation, random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
    """One clip ``(T, H, W, 3)`` and its boxes ``(M, 4)``, changed at random.

    Returns:
        The clip; the boxes, cut at the frame's edges; and which boxes still show at least 60 % of themselves.
    """
    clip, boxes = _zoom(clip, xyxy, random.uniform(*how.zoom), random)
    if random.random() < how.flip_probability:
        clip = clip[:, :, ::-1]
        boxes = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
    size = boxes[:, 2:] - boxes[:, :2]
    boxes = boxes + how.box_jitter * random.standard_normal(boxes.shape) * np.tile(size, 2)
    inside = boxes.clip(0, 1)
    # A jittered box keeps a least size, and a box outside the frame becomes an empty one at its edge.
    inside[:, 2:] = np.maximum(inside[:, 2:], inside[:, :2] + 1e-3)
    visible = np.prod(inside[:, 2:] - inside[:, :2], axis=1) >= 0.6 * np.prod(np.maximum(size, 1e-3), axis=1)
    return _recolour(clip, how, random), inside.astype(np.float32), visible


def _zoom(
    clip: NDArray[np.uint8], xyxy: NDArray[np.float32], zoom: float, random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Cut out a part of 1 / zoom of the scene at a random place; beyond the edge its pixels are repeated."""
    if zoom == 1.0:
        return clip, xyxy.astype(np.float64)
    height, width = clip.shape[1:3]
    cut_height, cut_width = round(height / zoom), round(width / zoom)
    top = round(random.uniform(0, 1) * (height - cut_height))
    left = round(random.uniform(0, 1) * (width - cut_width))
    if zoom > 1:
        part = clip[:, top : top + cut_height, left : left + cut_width]
    else:
        rows = np.arange(top, top + cut_height).clip(0, height - 1)
        columns = np.arange(left, left + cut_width).clip(0, width - 1)
        part = clip.take(rows, axis=1).take(columns, axis=2)
    cut = torch.from_numpy(part).permute(0, 3, 1, 2)
    resized = functional.interpolate(cut, size=(height, width), mode="bilinear", align_corners=False)
    boxes = (xyxy * [width, height, width, height] - [left, top, left, top]) / (
        [cut_width, cut_height, cut_width, cut_height]
    )
    return resized.permute(0, 2, 3, 1).numpy(), boxes


def _recolour(clip: NDArray[np.uint8], how: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    if random.random() < how.grey_probability:
        grey = clip.mean(axis=3, keepdims=True).astype(np.uint8)
        clip = np.broadcast_to(grey, clip.shape)
    gain, offset = random.uniform(*how.gain), random.uniform(-how.offset, how.offset)
    # Both are the same for all pixels, so a table of 256 values does it.
    table = (np.arange(256) * gain + offset).round().clip(0, 255).astype(np.uint8)
    changed: NDArray[np.uint8] = table.take(clip)
    return changed
