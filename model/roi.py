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
    corners = boxes * boxes.new_tensor([width, height, width, height])
    if maps.requires_grad and maps.device.type == "cpu":
        return _bins_by_matrix(maps, corners, clip_index)
    rois = torch.cat([clip_index.to(boxes.dtype)[:, None], corners], dim=1)
    aligned: Tensor = roi_align(maps, rois, output_size=ROI_SIZE, aligned=True)
    return aligned


def _bins_by_matrix(maps: Tensor, corners: Tensor, clip_index: Tensor) -> Tensor:
    """ROI Align as a matrix of each box, bins by cells: torchvision's gradient scatters, which is slow on a CPU."""
    height, width = maps.shape[2:]
    rows = _axis_weights(corners[:, 1], corners[:, 3], height)
    columns = _axis_weights(corners[:, 0], corners[:, 2], width)
    matrix = torch.einsum("mih,mjw->mijhw", rows, columns).flatten(1, 2).flatten(2)
    cells = maps.flatten(2).transpose(1, 2).index_select(0, clip_index)
    bins = torch.bmm(matrix.to(cells.dtype), cells).transpose(1, 2)
    return bins.reshape(*bins.shape[:2], ROI_SIZE, ROI_SIZE)


def _axis_weights(start: Tensor, stop: Tensor, cells: int) -> Tensor:
    """How much each cell of one axis counts in each bin of a box: means of linear interpolations, ``(M, 8, cells)``.

    ``start`` and ``stop`` are in cells. As ``roi_align``: a bin has as many samples as it has cells, rounded up; a
    sample up to a cell beyond the edge takes the edge's value, one further out is zero.
    """
    begin = start - 0.5
    extent = (stop - 0.5 - begin) / ROI_SIZE  # rounded as roi_align does it
    samples = extent.ceil()
    shared = samples.clamp(min=1)
    most = int(shared.max()) if len(shared) else 1
    number = torch.arange(most, device=start.device) + 0.5
    inside_bin = number / shared[:, None]
    bins = torch.arange(ROI_SIZE, device=start.device)
    places = begin[:, None, None] + extent[:, None, None] * (bins[:, None] + inside_bin[:, None])
    counted = (number < samples[:, None])[:, None] & (places >= -1) & (places <= cells)
    apart = places.clamp(0, cells - 1)[..., None] - torch.arange(cells, device=start.device)
    weights = (1 - apart.abs()).clamp(min=0) * counted[..., None]
    return weights.sum(dim=2) / shared[:, None, None]
