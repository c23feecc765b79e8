"""From the frames of a clip to the two inputs of a SlowFast network."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SLOW_STEP = 4
"""Every fourth frame of the fast pathway is the slow pathway's: indices 0, 4, 8, 12 and so on."""
WIDTH_MULTIPLE = 16
"""The input's width is a multiple of the feature maps' stride."""
PIXEL_MEAN, PIXEL_STD = 0.45, 0.225
"""Normalisation of the published Kinetics weights, for pixels from 0 to 1."""


def input_size(frame_height: int, frame_width: int, input_height: int) -> tuple[int, int]:
    """Height and width at which the network sees frames of this size.

    The width follows the aspect ratio, rounded to the nearest multiple of 16: 160 lines of a 16:9 scene are
    288 pixels wide.

    Raises:
        ValueError: a size is not positive, or ``input_height`` is not a multiple of 16.
    """
    if min(frame_height, frame_width, input_height) < 1 or input_height % WIDTH_MULTIPLE:
        raise ValueError(
            f"need positive sizes and an input height that is a multiple of {WIDTH_MULTIPLE}, got frames of "
            f"{frame_width}x{frame_height} and input height {input_height}"
        )
    columns = round(frame_width * input_height / frame_height / WIDTH_MULTIPLE)
    return input_height, max(1, columns) * WIDTH_MULTIPLE


def resize_frames(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames ``(T, H, W, 3)`` uint8 at another height and width, anti-aliased, uint8.

    A frame's result depends on that frame alone, so that clips which share it can share the resized one. A GPU
    computes in float32 and rounds; pixels may differ by 1 from a CPU's, which computes in fixed point.
    """
    if tuple(frames.shape[1:3]) == size:
        return frames
    pixels = frames.permute(0, 3, 1, 2)
    if pixels.device.type != "cpu":
        pixels = pixels.float()
    resized = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)
    if resized.dtype != torch.uint8:
        resized = resized.round_().clamp_(0, 255).to(torch.uint8)
    return resized.permute(0, 2, 3, 1).contiguous()


def to_pathways(clips: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Slow and fast input of clips that already have the network's size.

    ``clips`` is uint8 ``(B, T, H, W, 3)``, T the architecture's ``clip_frames``; the results are of ``dtype``,
    ``(B, 3, T / 4, H, W)`` and ``(B, 3, T, H, W)`` in channels-last memory order, normalised, on the same device.

    Raises:
        ValueError: the clips do not have a multiple of four frames of three channels.
    """
    if clips.ndim != 5 or clips.shape[1] % SLOW_STEP or clips.shape[4] != 3:
        raise ValueError(
            f"clips must have shape (B, T, H, W, 3) with T a multiple of {SLOW_STEP}, got {tuple(clips.shape)}"
        )
    normalised = clips.to(torch.float32).sub_(255 * PIXEL_MEAN).mul_(1 / (255 * PIXEL_STD))
    fast = normalised.to(dtype).permute(0, 4, 1, 2, 3)
    slow = fast[:, :, ::SLOW_STEP].contiguous(memory_format=torch.channels_last_3d)
    return slow, fast
