"""Training of the small detector: which cell answers for which bird, losses, loop, evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torchvision.ops import box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from model.detector import PADDING_PX, PIXEL_MEAN, PIXEL_STD, SIZE_UNIT_PX, STRIDE_PX
from model.detector_augment import FrameTruth, augment

CENTRE_RADIUS_PX = 6.0
"""Cells up to this far from a box's centre, on both axes, answer for it (FCOS's centre sampling)."""


@dataclass(frozen=True, slots=True)
class DetectorRecipe:
    """How the detector is trained; one budget of frames, so that a slower machine gives the same weights."""

    frame_budget: int = 36_000
    """Frames seen in all, repeats counted."""
    batch_size: int = 12
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_steps: int = 50
    clip_norm: float = 5.0
    seed: int = 7

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return max(1, self.frame_budget // self.batch_size)


# ---------------------------------------------------------------------------------------------------------
# which cell answers for which bird, and the losses


def assign_cells(boxes: Tensor, ignored: Tensor, cells: Tensor) -> Tensor:
    """Which box each cell answers for.

    Args:
        boxes: corners in pixels, ``(M, 4)``.
        ignored: boxes that count neither way, ``(M,)``.
        cells: centres of the cells in pixels, x and y, ``(P, 2)``.

    Returns:
        Per cell the index of its box, -1 for background, -2 where the cell teaches nothing, ``(P,)``. A cell
        near the centres of several boxes answers for the one whose centre is nearest.
    """
    if not len(boxes):
        return torch.full((len(cells),), -1)
    sides = torch.cat([cells[:, None] - boxes[None, :, :2], boxes[None, :, 2:] - cells[:, None]], dim=2)
    inside = sides.amin(dim=2) > 0
    offset = (cells[:, None] - (boxes[None, :, :2] + boxes[None, :, 2:]) / 2).abs().amax(dim=2)
    near = inside & (offset <= CENTRE_RADIUS_PX) & ~ignored
    distance, nearest = offset.masked_fill(~near, torch.inf).min(dim=1)
    background = torch.where((inside & ignored).any(dim=1), -2, -1)
    return torch.where(distance.isfinite(), nearest, background)


def cell_centres(height: int, width: int) -> Tensor:
    """Centres in pixels, x and y, of the cells of a ``(height, width)`` feature map, ``(cells, 2)``."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2).float() * STRIDE_PX


def detector_loss(
    outputs: dict[str, Tensor], boxes: Sequence[Tensor], ignored: Sequence[Tensor], cells: Tensor
) -> dict[str, Tensor]:
    """Focal loss of the class, GIoU loss of the box, cross-entropy of the box's quality with its IoU.

    Args:
        outputs: of the head, ``(N, P, K)`` each.
        boxes: per image, corners in pixels, ``(M, 4)``.
        ignored: per image, ``(M,)``.
        cells: centres of the cells, ``(P, 2)``.
    """
    matched = torch.stack([assign_cells(b, i, cells) for b, i in zip(boxes, ignored, strict=True)])
    positive = matched >= 0
    count = positive.sum().clamp(min=1)
    logits = outputs["cls_logits"][..., 0].float()
    focal = sigmoid_focal_loss(logits, positive.float(), alpha=0.25, gamma=2.0)
    truth = torch.cat([b[m[m >= 0]] for b, m in zip(boxes, matched, strict=True)])
    sides = outputs["bbox_regression"].float()[positive] * SIZE_UNIT_PX
    centres = cells.expand(len(boxes), -1, -1)[positive]
    predicted = torch.cat([centres - sides[:, :2], centres + sides[:, 2:]], dim=1)
    with torch.no_grad():
        overlap = _paired_iou(predicted, truth)
    return {
        "class": (focal * (matched != -2)).sum() / count,
        "box": 2.0 * generalized_box_iou_loss(predicted, truth, reduction="sum") / count,
        "quality": bce(outputs["bbox_ctrness"][..., 0].float()[positive], overlap, reduction="sum") / count,
    }


def _paired_iou(first: Tensor, second: Tensor) -> Tensor:
    corners = (torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])).clamp(
        min=0
    )
    overlap = corners.prod(dim=1)
    areas = (first[:, 2:] - first[:, :2]).prod(dim=1) + (second[:, 2:] - second[:, :2]).prod(dim=1)
    return overlap / (areas - overlap).clamp(min=1e-6)


# ---------------------------------------------------------------------------------------------------------
# the loop


def images_to_input(frames: NDArray[np.uint8]) -> Tensor:
    """Frames ``(N, H, W, 3)`` normalised and padded as the detector does it itself: ``(N, 3, H', W')``."""
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1)) / torch.tensor(PIXEL_STD).view(1, 3, 1, 1)
    x = nn.functional.pad(x, (0, -x.shape[3] % PADDING_PX, 0, -x.shape[2] % PADDING_PX))
    return x.contiguous(memory_format=torch.channels_last)


def _batches(
    frames: NDArray[np.uint8], truths: Sequence[FrameTruth], recipe: DetectorRecipe
) -> Iterator[tuple[Tensor, list[Tensor], list[Tensor]]]:
    rng = np.random.default_rng(recipe.seed)
    order: list[int] = []
    for _ in range(recipe.steps):
        while len(order) < recipe.batch_size:
            order.extend(rng.permutation(len(truths)).tolist())
        chosen, order = order[: recipe.batch_size], order[recipe.batch_size :]
        pairs = [augment(frames[i], truths[i], rng) for i in chosen]
        yield (
            images_to_input(np.stack([frame for frame, _ in pairs])),
            [torch.from_numpy(truth.xyxy_px) for _, truth in pairs],
            [torch.from_numpy(truth.ignored) for _, truth in pairs],
        )


def _optimiser(detector: nn.Module, recipe: DetectorRecipe) -> torch.optim.AdamW:
    decayed = [p for p in detector.parameters() if p.ndim > 1]
    plain = [p for p in detector.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def train_detector(
    detector: nn.Module,
    frames: NDArray[np.uint8],
    truths: Sequence[FrameTruth],
    recipe: DetectorRecipe,
    on_step: Callable[[int, dict[str, float]], None],
    half_precision: bool = True,
) -> None:
    """Train a detector of :func:`model.detector.build_detector` in place, on the processor it lies on (CPU).

    Args:
        detector: with fresh or trained weights.
        frames: ``(N, H, W, 3)``, all of one size; may be a memory map.
        truths: one per frame.
        recipe: how.
        on_step: called after each step with its number and the losses.
        half_precision: compute in bfloat16 where autocast allows it.

    Raises:
        ValueError: there are no frames, or not one truth per frame.
    """
    if len(frames) != len(truths) or not len(truths):
        raise ValueError(
            f"need one truth per frame, at least one, got {len(frames)} frames, {len(truths)} truths"
        )
    torch.manual_seed(recipe.seed)
    detector.train().to(memory_format=torch.channels_last)
    optimiser = _optimiser(detector, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: (
            min(1.0, (step + 1) / recipe.warmup_steps)
            * (0.505 + 0.495 * math.cos(math.pi * min(1.0, step / recipe.steps)))
        ),
    )
    for step, (images, boxes, ignored) in enumerate(_batches(frames, truths, recipe)):
        with torch.autocast("cpu", torch.bfloat16, enabled=half_precision):
            features = detector.get_submodule("backbone")(images)
            outputs = detector.get_submodule("head")([features])
        losses = detector_loss(outputs, boxes, ignored, cell_centres(*features.shape[-2:]))
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(detector.parameters(), recipe.clip_norm)
        optimiser.step()
        schedule.step()
        on_step(step, {name: float(loss.detach()) for name, loss in losses.items()})
    detector.eval()


# ---------------------------------------------------------------------------------------------------------
# evaluation

RIGHT, WRONG, NEUTRAL = 1, 0, -1
"""What a detected box was; neutral: on an ignored bird."""
MATCH_IOU = 0.5


@dataclass(frozen=True, slots=True)
class BoxCounts:
    """How many birds were found, and how many boxes were on none; ignored ones left out."""

    truth: int
    """Birds that were there."""
    found: int
    """Birds that have a box of their own."""
    wrong: int
    """Boxes that are on no bird, or on one that has a better box."""

    def __add__(self, other: BoxCounts) -> BoxCounts:
        return BoxCounts(self.truth + other.truth, self.found + other.found, self.wrong + other.wrong)

    @property
    def recall(self) -> float:
        """Share of the birds that were found; NaN where there were none."""
        return self.found / self.truth if self.truth else math.nan

    @property
    def precision(self) -> float:
        """Share of the boxes that are on a bird of their own; NaN where there are none."""
        return self.found / (self.found + self.wrong) if self.found + self.wrong else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class BoxMatch:
    """What each of N boxes was."""

    verdict: NDArray[np.int8]
    """``RIGHT``, ``WRONG`` or ``NEUTRAL``, shape ``(N,)``."""
    bird: NDArray[np.int64]
    """Index of the bird that a right box is on; -1 for the others, shape ``(N,)``."""


def match_boxes(xyxy_px: NDArray[np.float32], score: NDArray[np.floating], truth: FrameTruth) -> BoxMatch:
    """Match boxes ``(N, 4)`` in pixels to birds at an IoU of 0.5, best score first, as PASCAL VOC does."""
    match = BoxMatch(np.full(len(xyxy_px), WRONG, np.int8), np.full(len(xyxy_px), -1))
    if not len(truth.ignored):
        return match
    taken = truth.ignored.copy()
    overlap = box_iou(torch.from_numpy(xyxy_px), torch.from_numpy(truth.xyxy_px)).numpy()
    for row in np.argsort(-score, kind="stable"):
        free = np.where(taken, 0.0, overlap[row])
        if free.max() >= MATCH_IOU:
            match.bird[row] = free.argmax()
            match.verdict[row] = RIGHT
            taken[match.bird[row]] = True
        elif (overlap[row] * truth.ignored).max() >= MATCH_IOU:
            match.verdict[row] = NEUTRAL
    return match


def count_boxes(xyxy_px: NDArray[np.float32], score: NDArray[np.floating], truth: FrameTruth) -> BoxCounts:
    """Count one frame's boxes, ``(N, 4)`` in pixels with their scores ``(N,)``, against the truth."""
    verdict = match_boxes(xyxy_px, score, truth).verdict
    return BoxCounts(
        int((~truth.ignored).sum()), int((verdict == RIGHT).sum()), int((verdict == WRONG).sum())
    )
