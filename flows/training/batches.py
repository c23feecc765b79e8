"""Which clips a step sees, and the batch made of them: functions of seed and step, never of who asks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from flows.training.recipe import Recipe
from model.augment import Augmentation, augment
from model.losses import Targets
from model.step import Batch
from workers.clips import WindowSet
from workers.messages import CLIP_AFTER, CLIP_BEFORE

_DRAW, _SHUFFLE, _CLIP = 1, 2, 3
"""Streams of random numbers of one seed."""


def sampling_weights(windows: WindowSet, num_behaviours: int) -> NDArray[np.float64]:
    """Probability of drawing each keyframe: 1 / sqrt(share of the rarest class in it), shape ``(N,)``.

    What is no bird counts as a class of its own; a keyframe without a usable box is never drawn.
    """
    classes = np.where(windows.other, num_behaviours, windows.label)
    usable = windows.learnable | windows.other
    shares = np.bincount(classes[usable], minlength=num_behaviours + 1) / max(1, usable.sum())
    weight = np.zeros(len(windows.grid))
    for keyframe in range(len(weight)):
        rows = windows.boxes_of(keyframe)
        present = classes[rows][usable[rows]]
        if present.size:
            weight[keyframe] = 1 / np.sqrt(shares[present].min())
    normalised: NDArray[np.float64] = weight / weight.sum()
    return normalised


def keyframes_of_step(weights: NDArray[np.float64], recipe: Recipe, step: int) -> NDArray[np.int64]:
    """The keyframes of a step of all workers together, in order, shape ``(batch_clips,)``.

    Args:
        weights: of :func:`sampling_weights`.
        recipe: its seed, its size of a batch and how it samples.
        step: counted from 0.
    """
    size = recipe.batch_clips
    if recipe.sampling == "balanced":
        return np.random.default_rng([recipe.seed, _DRAW, step]).choice(len(weights), size=size, p=weights)
    usable = np.flatnonzero(weights)
    places = np.arange(step * size, (step + 1) * size)
    chosen = np.empty(size, dtype=np.int64)
    for epoch in np.unique(places // len(usable)):
        shuffled = np.random.default_rng([recipe.seed, _SHUFFLE, int(epoch)]).permutation(usable)
        inside = places // len(usable) == epoch
        chosen[inside] = shuffled[places[inside] % len(usable)]
    return chosen


def shares_of_step(recipe: Recipe, rank: int, workers: int) -> list[NDArray[np.int64]]:
    """Places in the step's clips that one worker takes, an array for each accumulated batch."""
    batches = np.array_split(np.arange(recipe.batch_clips), recipe.accumulate)
    return [np.array_split(batch, workers)[rank] for batch in batches]


def clip_randoms(recipe: Recipe, step: int, places: NDArray[np.int64]) -> list[np.random.Generator]:
    """Random numbers of the clips at these places of a step."""
    return [np.random.default_rng([recipe.seed, _CLIP, step, place]) for place in places.tolist()]


def make_batch(
    windows: WindowSet,
    keyframes: NDArray[np.int64],
    augmentation: Augmentation,
    random: np.random.Generator | Sequence[np.random.Generator],
    *,
    num_behaviours: int,
    clip_frames: int = CLIP_BEFORE + CLIP_AFTER,
    single_frame: bool = False,
) -> Batch:
    """Clips of these keyframes with their boxes and targets; ``random`` is of all clips, or one for each."""
    randoms = [random] * len(keyframes) if isinstance(random, np.random.Generator) else random
    clips, boxes, rows, seen, index, seeds = [], [], [], [], [], []
    for number, (keyframe, own) in enumerate(zip(keyframes, randoms, strict=True)):
        chosen = windows.boxes_of(keyframe)
        cut = windows.single_frame_window if single_frame else windows.window
        clip, xyxy, visible = augment(cut(keyframe, clip_frames), windows.xyxy[chosen], augmentation, own)
        clips.append(clip)
        boxes.append(xyxy)
        seen.append(visible)
        rows.append(np.arange(chosen.start, chosen.stop))
        index.append(np.full(len(xyxy), number))
        seeds.append(int(own.integers(2**62)))
    row, visible = np.concatenate(rows), np.concatenate(seen)
    return Batch(
        torch.from_numpy(np.stack(clips)),
        torch.from_numpy(np.concatenate(boxes)),
        torch.from_numpy(np.concatenate(index)),
        _targets(windows, row, visible, num_behaviours),
        torch.tensor(seeds),
    )


def _targets(
    windows: WindowSet, row: NDArray[np.int64], visible: NDArray[np.bool_], num_behaviours: int
) -> Targets:
    behaviour = windows.label[row][:, None] == np.arange(num_behaviours)
    return Targets(
        torch.from_numpy(behaviour.astype(np.float32)),
        torch.from_numpy(windows.dynamic[row]),
        torch.from_numpy(windows.learnable[row] & visible),
        torch.from_numpy(windows.other[row] & visible),
    )
