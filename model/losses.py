"""Losses of the three heads; a row without a usable label contributes to none of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from model.network import ActionOutput


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What is true of M boxes."""

    behaviour: Tensor
    """1 where the individual shows the behaviour, else 0, shape ``(M, C)``; read only where learnable."""
    dynamic: Tensor
    """1 where its motion state is dynamic, else 0, int64, shape ``(M,)``; read only where learnable."""
    learnable: Tensor
    """Whether the box shows enough of an individual for its label to be learnt, bool, shape ``(M,)``."""
    other: Tensor
    """Whether the box holds something else than an individual of the taxon, bool, shape ``(M,)``."""

    def __post_init__(self) -> None:
        count = self.behaviour.shape[:1]
        for name in ("dynamic", "learnable", "other"):
            if getattr(self, name).shape != count:
                raise ValueError(
                    f"{name} must have shape {tuple(count)}, got {tuple(getattr(self, name).shape)}"
                )
        if bool((self.learnable & self.other).any()):
            raise ValueError("a box of something else has no behaviour that could be learnt")

    def to(self, device: torch.device) -> Targets:
        """The same on a device."""
        return Targets(
            self.behaviour.to(device),
            self.dynamic.to(device),
            self.learnable.to(device),
            self.other.to(device),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RowCounts:
    """How many rows contribute to the losses, each a scalar."""

    learnable: Tensor
    judged: Tensor
    """Learnable and ``other`` rows."""

    def as_tensor(self) -> Tensor:
        """Both, shape ``(2,)``."""
        return torch.stack([self.learnable, self.judged])


def count_rows(targets: Targets) -> RowCounts:
    """Rows of these targets."""
    return RowCounts(targets.learnable.sum(), (targets.learnable | targets.other).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """Mean losses per contributing row, each a scalar; 0 where no row contributes."""

    behaviour: Tensor
    """Binary cross-entropy, mean over learnable rows and behaviours."""
    motion: Tensor
    """Cross-entropy, mean over learnable rows."""
    other: Tensor
    """Binary cross-entropy, mean over learnable and ``other`` rows."""


def action_losses(output: ActionOutput, targets: Targets, rows_of_all: RowCounts | None = None) -> Losses:
    """Losses of the heads (AviaTAD, section 3, and the reject loss of this project).

    Args:
        output: logits of M boxes.
        targets: what is true of them.
        rows_of_all: the rows over which the means are taken, where these boxes are only a part of a step: the
            losses of all parts then add up to the step's.
    """
    rows = rows_of_all or count_rows(targets)
    learnable, judged = targets.learnable, targets.learnable | targets.other
    behaviour = functional.binary_cross_entropy_with_logits(
        output.behaviour[learnable], targets.behaviour[learnable], reduction="sum"
    )
    motion = functional.cross_entropy(output.motion[learnable], targets.dynamic[learnable], reduction="sum")
    other = functional.binary_cross_entropy_with_logits(
        output.other[judged], targets.other[judged].to(output.other.dtype), reduction="sum"
    )
    learnt = rows.learnable.clamp(min=1)
    return Losses(
        behaviour / (learnt * targets.behaviour.shape[1]), motion / learnt, other / rows.judged.clamp(min=1)
    )
