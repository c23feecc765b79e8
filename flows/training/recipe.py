"""How a network is trained: everything that the steps of a training depend on beside the data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from model.augment import Augmentation
from model.weighting.base import Weighting
from model.weighting.registry import weighting_named


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each auxiliary loss counts beside the behaviour loss."""

    motion: float = 0.1
    """Lambda of the auxiliary motion task (AviaTAD, equation 4): what lambda_base is of the rules that have one."""
    other: float = 0.5


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained."""

    architecture: str = "slowfast_small"
    total_clips: int = 17_500
    """Length of the cosine schedule; stopping a longer one early gives a much worse network."""
    batch_clips: int = 4
    """Clips of one step, of all workers and accumulated batches together."""
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
    weighting: str = "fixed_lambda"
    """Name of the rule by which the two tasks' gradients are added."""
    weighting_parameters: dict[str, float] = field(default_factory=dict)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    """Of SGD."""
    sampling: Literal["balanced", "epochs"] = "balanced"
    """``balanced`` draws keyframes by their rarest class, ``epochs`` takes each once before any again."""
    accumulate: int = 1
    """Batches that a step's clips are cut into and run one after the other, to save memory."""
    batch_norm: Literal["synchronised", "frozen"] = "synchronised"
    """Statistics of all workers' clips of a batch, or those that the network starts with."""
    mixed_precision: bool = True
    """bf16 for the backbone where the device trains in it."""

    @property
    def total_steps(self) -> int:
        """Optimisation steps of the whole schedule."""
        return self.total_clips // self.batch_clips

    def rule(self) -> Weighting:
        """The weighting; a rule that has a ``lambda_base`` takes the motion loss's weight unless told another."""
        parameters = dict(self.weighting_parameters)
        if self.weighting in ("fixed_lambda", "ri_pcgrad", "lgh", "capped_lgh"):
            parameters.setdefault("lambda_base", self.loss_weights.motion)
        return weighting_named(self.weighting, **parameters)


def learning_rate_share(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a half cosine down to zero."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    share = (step - recipe.warmup_steps) / max(1, recipe.total_steps - recipe.warmup_steps)
    return 0.5 * (1 + float(np.cos(np.pi * min(1.0, share))))
