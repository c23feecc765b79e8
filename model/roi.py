"""Features of one individual: what the feature maps hold inside its box at the keyframe."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align

ROI_SIZE = 8
"""Bins of the aligned region in both directions, as in SlowFast's detection head."""


def roi_vectors(maps: Tensor, boxes: Tensor, clip_index: Tensor) -> Tensor:
    """One feature vector per box: ROI Align 8x8 (aligned) on pooled maps, then the maximum over the bins.

    The temporal mean is already taken: it commutes with ROI Align, which is linear in the maps, so this
    equals the order of the paper (align every frame, then average over time) at a fraction of its cost.

    Args:
        maps: temporal means of the backbone, shape ``(B, D, h, w)``.
        boxes: corners x1, y1, x2, y2 as fractions of width and height, shape ``(M, 4)``.
        clip_index: which clip each box belongs to, shape ``(M,)``.

    Returns:
        Shape ``(M, D)``.
    """
    return roi_bins(maps, boxes, clip_index).amax(dim=(2, 3))


def roi_bins(maps: Tensor, boxes: Tensor, clip_index: Tensor) -> Tensor:
    """ROI Align 8x8 of each box, shape ``(M, D, 8, 8)``; arguments as in :func:`roi_vectors`."""
    height, width = maps.shape[2:]
    scale = boxes.new_tensor([width, height, width, height])
    rois = torch.cat([clip_index.to(boxes.dtype)[:, None], boxes * scale], dim=1)
    aligned: Tensor = roi_align(maps, rois, output_size=ROI_SIZE, aligned=True)
    return aligned
