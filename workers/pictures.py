"""Comparing pictures of one scene: smoothing, brightness, differences and whose edges an outline lies on.

Everything is compared as a mean over 3 x 3 pixels, which takes away most of the sensor's noise.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""RGB, shape ``(H, W, 3)``, or one value per pixel, shape ``(H, W)``."""

INFRARED_CHROMA = 4.0
"""Frames whose median difference between the channels is at most this many grey levels are infrared."""
FIT_STEP = 6
"""Brightness is judged by every so many-th row and column."""

_KERNEL = np.ones((3, 3), np.uint8)


def is_infrared(frame: Picture) -> bool:
    """Whether a frame, shape ``(H, W, 3)``, carries no colour, as cameras record under infrared light."""
    thin = frame[::FIT_STEP, ::FIT_STEP].astype(np.int16)
    return bool(np.median(thin.max(axis=2) - thin.min(axis=2)) <= INFRARED_CHROMA)


def smooth(frame: Picture) -> Picture:
    """Mean over 3 x 3 pixels: every comparison with a plate is made between smoothed pictures."""
    blurred: Picture = cv2.blur(frame, (3, 3))
    return blurred


def fit_brightness(picture: Picture, target: Picture) -> Picture:
    """Table of levels that carries a picture to the brightness of another picture of the same scene.

    A straight line fitted to thinned pixels, repeatedly, each time without those that lie far from it, so
    that what stands in the scene does not count.

    Args:
        picture: smoothed, shape ``(H, W, 3)``.
        target: smoothed, shape ``(H, W, 3)``.

    Returns:
        New level of each old level and channel, shape ``(1, 256, 3)``, for ``cv2.LUT``.
    """
    thin = np.s_[FIT_STEP // 2 :: FIT_STEP, FIT_STEP // 2 :: FIT_STEP]
    x, y = (p[thin].reshape(-1, 3).astype(np.float32) for p in (picture, target))
    table = np.empty((1, 256, 3), np.uint8)
    levels = np.arange(256, dtype=np.float32)
    for channel in range(3):
        gain, offset = _fit_line(x[:, channel], y[:, channel])
        table[0, :, channel] = np.clip(np.rint(gain * levels + offset), 0, 255)
    return table


def distance(one: Picture, other: Picture) -> Picture:
    """Largest difference over the channels, shape ``(H, W)``."""
    red, green, blue = cv2.split(cv2.absdiff(one, other))
    largest: Picture = cv2.max(cv2.max(red, green), blue)
    return largest


def edges(picture: Picture) -> NDArray[np.float32]:
    """Larger of the two Sobel derivatives of the grey level, in levels per pixel, shape ``(H, W)``."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    strength: NDArray[np.float32] = cv2.max(cv2.absdiff(across, 0.0), cv2.absdiff(down, 0.0))
    return strength


def outline_share(mask: Picture, in_frame: NDArray[np.float32], in_plate: NDArray[np.float32]) -> float:
    """Share of a mask's outline that lies on edges of the frame rather than of the plate, 0 to 1.

    All of shape ``(H, W)``; 0.5 where neither has an edge.
    """
    band = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _KERNEL) > 0
    frame, plate = in_frame[band], in_plate[band]
    clear = np.maximum(frame, plate) > 1.0
    if not clear.any():
        return 0.5
    return float(np.mean(frame[clear] > plate[clear]))


def _fit_line(x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[float, float]:
    gain, offset = 1.0, float(np.median(y - x))
    for _ in range(4):
        residual = np.abs(y - (gain * x + offset))
        keep = residual <= max(2.5 * 1.4826 * float(np.median(residual)), 2.0)
        xs, ys = x[keep], y[keep]
        mean_x, mean_y = float(xs.mean()), float(ys.mean())
        spread = float(((xs - mean_x) ** 2).mean())
        if spread < 4.0:
            return 1.0, mean_y - mean_x
        gain = float(np.clip(((xs - mean_x) * (ys - mean_y)).mean() / spread, 0.25, 4.0))
        offset = mean_y - gain * mean_x
    return gain, offset
