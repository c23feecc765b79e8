"""The training loop of the action network, plain: a random batch of windows, one step, and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.augment import Augmentation, augment
from model.engines.torch_engine import trains_in_bf16
from model.losses import Targets
from model.network import ActionNetwork
from model.step import Batch, LossWeights, decay_groups, training_step
from workers.clips import WindowSet
from workers.messages import CLIP_AFTER, CLIP_BEFORE


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained."""

    architecture: str = "slowfast_small"
    total_clips: int = 17_500
    """Length of the cosine schedule; stopping a longer one early gives a much worse network."""
    batch_clips: int = 4
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    warmup_steps: int = 30
    max_grad_norm: float = 5.0
    dropout: float = 0.2
    batch_norm_momentum: float = 0.05
    augmentation: Augmentation = field(default_factory=Augmentation)
    loss_weights: LossWeights = field(default_factory=LossWeights)
    seed: int = 7
    single_frame: bool = False
    """Show sixteen copies of the keyframe: how far posture alone leads."""

    @property
    def total_steps(self) -> int:
        """Optimisation steps of the whole schedule."""
        return self.total_clips // self.batch_clips


def train(
    windows: WindowSet, behaviours: Sequence[str], recipe: Recipe, progress: Callable[[str], None]
) -> ActionNetwork:
    """Train a network from scratch on these windows, whose labels are indices into ``behaviours``."""
    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    network = ActionNetwork(recipe.architecture, behaviours, recipe.dropout)
    _set_priors(network, windows)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = recipe.batch_norm_momentum
    network.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(decay_groups(network, recipe.weight_decay), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, recipe))
    weights = sampling_weights(windows, len(behaviours))
    bf16 = trains_in_bf16("cpu")
    started, recent = time.monotonic(), np.zeros(3)
    for step in range(1, recipe.total_steps + 1):
        chosen = random.choice(len(weights), size=recipe.batch_clips, p=weights)
        batch = make_batch(
            windows,
            chosen,
            recipe.augmentation,
            random,
            num_behaviours=len(behaviours),
            clip_frames=network.architecture.clip_frames,
            single_frame=recipe.single_frame,
        )
        losses = training_step(network, optimizer, batch, recipe.loss_weights, recipe.max_grad_norm, bf16)
        schedule.step()
        recent += [float(losses.behaviour), float(losses.motion), float(losses.other)]
        if step % 100 == 0:
            behaviour_loss, motion_loss, other_loss = recent / 100
            minutes = (time.monotonic() - started) / 60
            progress(
                f"{step * recipe.batch_clips} of {recipe.total_clips} clips, {minutes:.1f} min, losses: "
                f"behaviour {behaviour_loss:.4f}, motion {motion_loss:.3f}, other {other_loss:.3f}"
            )
            recent[:] = 0
    return network.eval()


def learning_rate_share(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a half cosine down to zero."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    share = (step - recipe.warmup_steps) / max(1, recipe.total_steps - recipe.warmup_steps)
    return 0.5 * (1 + float(np.cos(np.pi * min(1.0, share))))


def _set_priors(network: ActionNetwork, windows: WindowSet) -> None:
    """Start the classifiers at the log-odds of the class shares: the first steps need not learn those."""
    labels = windows.label[windows.learnable]
    shares = np.bincount(labels, minlength=len(network.behaviours)) / max(1, len(labels))
    other = windows.other.mean()
    with torch.no_grad():
        network.heads.behaviour.bias.copy_(torch.from_numpy(_log_odds(shares)))
        network.heads.other.bias.fill_(float(_log_odds(np.array([other]))[0]))


def _log_odds(share: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = share.clip(1e-3, 1 - 1e-3)
    odds: NDArray[np.float64] = np.log(clipped / (1 - clipped))
    return odds


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


def make_batch(
    windows: WindowSet,
    keyframes: NDArray[np.int64],
    augmentation: Augmentation,
    random: np.random.Generator,
    *,
    num_behaviours: int,
    clip_frames: int = CLIP_BEFORE + CLIP_AFTER,
    single_frame: bool = False,
) -> Batch:
    """Clips of these keyframes with their boxes and targets."""
    clips, boxes, rows, seen, index = [], [], [], [], []
    for number, keyframe in enumerate(keyframes):
        chosen = windows.boxes_of(keyframe)
        cut = windows.single_frame_window if single_frame else windows.window
        clip, xyxy, visible = augment(cut(keyframe, clip_frames), windows.xyxy[chosen], augmentation, random)
        clips.append(clip)
        boxes.append(xyxy)
        seen.append(visible)
        rows.append(np.arange(chosen.start, chosen.stop))
        index.append(np.full(len(xyxy), number))
    row, visible = np.concatenate(rows), np.concatenate(seen)
    learnable = windows.learnable[row] & visible
    behaviour = windows.label[row][:, None] == np.arange(num_behaviours)
    targets = Targets(
        torch.from_numpy(behaviour.astype(np.float32)),
        torch.from_numpy(windows.dynamic[row]),
        torch.from_numpy(learnable),
        torch.from_numpy(windows.other[row] & visible),
    )
    return Batch(
        torch.from_numpy(np.stack(clips)),
        torch.from_numpy(np.concatenate(boxes)),
        torch.from_numpy(np.concatenate(index)),
        targets,
    )
