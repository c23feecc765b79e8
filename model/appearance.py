"""A short fixed description of how an individual looks at one keyframe, to join its track after an occlusion.

Nothing is learnt: cranes of one flock look alike, and a descriptor trained on simulated birds would not carry
over. What does tell neighbours apart is size and plumage (a brown juvenile beside white adults), so the 64
numbers describe the size of the box, and the brightness and the colour of what stands out against the
surroundings of the box. Where in the box it stands out is left out, since that is posture.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import roi_align

EMBEDDING_SIZE = 64
"""Blocks of 16 (size), 24 (brightness) and 12 + 12 (colour)."""
_GRID = 16
_MARGIN = 0.25
"""The surroundings are a band around the box of this share of its size."""
_WEIGHTS = (0.5, 1.0, 0.7, 1.0)
"""Weight of each block: a lowered head or a spread wing changes the size of the box, so that counts least."""


def describe(frame: NDArray[np.uint8], xyxy: NDArray[np.float32]) -> NDArray[np.int8]:
    """Appearance of M boxes of one frame.

    Args:
        frame: RGB, shape ``(H, W, 3)``.
        xyxy: corners as fractions of width and height, shape ``(M, 4)``.

    Returns:
        Rows of length 127 up to rounding, so that ``a @ b / 127**2`` is their cosine, shape ``(M, 64)``.
    """
    if len(xyxy) == 0:
        return np.zeros((0, EMBEDDING_SIZE), dtype=np.int8)
    height, width = frame.shape[:2]
    boxes = torch.from_numpy(np.asarray(xyxy, dtype=np.float32)) * torch.tensor([width, height] * 2).float()
    inside, surroundings = _sample(frame, boxes)
    figure = _stands_out(inside, surroundings)
    grey = inside.mean(dim=1)
    blocks = (
        _histogram(_log_size(boxes, height)[:, None], torch.ones(len(boxes), 1), 0.0, 5.0, 16),
        _histogram(grey.flatten(1), figure.flatten(1), 0.0, 1.0, 24),
        _histogram((inside[:, 0] - inside[:, 1]).flatten(1), figure.flatten(1), -0.12, 0.25, 12),
        _histogram((inside[:, 1] - inside[:, 2]).flatten(1), figure.flatten(1), -0.15, 0.25, 12),
    )
    parts = [
        weight * torch.nn.functional.normalize(block, dim=1)
        for weight, block in zip(_WEIGHTS, blocks, strict=True)
    ]
    embedding = torch.nn.functional.normalize(torch.cat(parts, dim=1), dim=1)
    return (embedding * 127).round().to(torch.int8).numpy()


def _sample(frame: NDArray[np.uint8], boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Colours 0 to 1 on a grid in each box ``(M, 3, 16, 16)``, and in the band around it ``(M, 3, R)``."""
    image = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
    index = torch.zeros(len(boxes), 1)
    inside: Tensor = roi_align(image, torch.cat([index, boxes], dim=1), _GRID, aligned=True)
    size = boxes[:, 2:] - boxes[:, :2]
    grown = torch.cat([boxes[:, :2] - _MARGIN * size, boxes[:, 2:] + _MARGIN * size], dim=1)
    around: Tensor = roi_align(image, torch.cat([index, grown], dim=1), 12, aligned=True)
    band = torch.ones(12, 12, dtype=torch.bool)
    band[2:-2, 2:-2] = False
    return inside, around[:, :, band]


def _stands_out(inside: Tensor, surroundings: Tensor) -> Tensor:
    """How clearly each sample differs from the median colour around the box, 0 to 1, ``(M, 16, 16)``."""
    median = surroundings.median(dim=2).values[:, :, None, None]
    spread = (surroundings - median[:, :, :, 0]).abs().mean(dim=(1, 2))[:, None, None]
    distance = (inside - median).abs().mean(dim=1)
    return ((distance - 1.5 * spread) / 0.15).clamp(0, 1) + 1e-3


def _log_size(boxes: Tensor, frame_height: int) -> Tensor:
    """Doublings of the box's mean side above 1/32 of the frame's height, ``(M,)``."""
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    return torch.log2(32 * size.prod(dim=1).sqrt() / frame_height)


def _histogram(values: Tensor, weights: Tensor, low: float, high: float, bins: int) -> Tensor:
    """Weighted histogram with soft bins, ``(M, bins)``: a value counts for all bins near it."""
    centres = torch.linspace(low, high, bins)
    distance = (values.clamp(low, high)[:, :, None] - centres) / (centres[1] - centres[0])
    return (torch.exp(-0.5 * distance.square()) * weights[:, :, None]).sum(dim=1)
