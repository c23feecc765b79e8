"""Train the action network in this process, from windows to a network in evaluation mode."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from flows.training.batches import make_batch, sampling_weights
from flows.training.recipe import LossWeights, Recipe, learning_rate_share
from flows.training.trainer import Trainer
from model.network import ActionNetwork
from workers.clips import WindowSet

__all__ = ["LossWeights", "Recipe", "learning_rate_share", "make_batch", "sampling_weights", "train"]

REPORT_STEPS = 100


def train(
    windows: WindowSet, behaviours: Sequence[str], recipe: Recipe, progress: Callable[[str], None]
) -> ActionNetwork:
    """Train a network from scratch on these windows, whose labels are indices into ``behaviours``."""
    trainer = Trainer(windows, behaviours, recipe)
    started, recent = time.monotonic(), np.zeros(3)
    while trainer.step < recipe.total_steps:
        row = trainer.advance()
        recent += [row.loss_behaviour, row.loss_motion, row.loss_other]
        if row.step % REPORT_STEPS == 0:
            behaviour_loss, motion_loss, other_loss = recent / REPORT_STEPS
            minutes = (time.monotonic() - started) / 60
            progress(
                f"{row.clips} of {recipe.total_clips} clips, {minutes:.1f} min, losses: "
                f"behaviour {behaviour_loss:.4f}, motion {motion_loss:.3f}, other {other_loss:.3f}"
            )
            recent[:] = 0
    return trainer.network.eval()
