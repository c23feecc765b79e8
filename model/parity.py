"""Whether an engine says what the checkpoint says: the gate that every engine has to pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.network import ActionOutput

MAX_DIFFERENCE = 0.01
"""Most by which a probability may differ."""
MIN_AGREEMENT = 0.995
"""Least share of the instances whose strongest behaviour is the same."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far two sets of outputs for the same boxes are apart."""

    instances: int
    """Boxes that were compared."""
    largest_difference: float
    """Of all probabilities of behaviours, reject and motion."""
    agreement: float
    """Share of the boxes whose strongest behaviour is the same."""

    @property
    def accepted(self) -> bool:
        """Whether the gate is passed; without any box it is not, nor where a probability is NaN."""
        return (
            self.instances > 0
            and self.largest_difference <= MAX_DIFFERENCE
            and self.agreement >= MIN_AGREEMENT
        )

    def __str__(self) -> str:
        return (
            f"probabilities differ by at most {self.largest_difference:.5f} (allowed {MAX_DIFFERENCE}), the strongest "
            f"behaviour agrees in {self.agreement:.2%} (at least {MIN_AGREEMENT:.1%}) of {self.instances} boxes"
        )


def parity(reference: ActionOutput, found: ActionOutput) -> Parity:
    """Compare the outputs for the same boxes; they may be on different devices."""
    expected, actual = probabilities(reference), probabilities(found)
    if expected.shape[0] == 0:
        return Parity(0, 0.0, 1.0)
    behaviours = reference.behaviour.shape[1]
    same = expected[:, :behaviours].argmax(dim=1) == actual[:, :behaviours].argmax(dim=1)
    return Parity(len(expected), float((expected - actual).abs().max()), float(same.double().mean()))


def probabilities(output: ActionOutput) -> Tensor:
    """Of the behaviours, of the reject score and of motion, float64 ``(M, C + 2)`` on the CPU."""
    columns = (
        output.behaviour.sigmoid(),
        output.other.sigmoid()[:, None],
        output.motion.softmax(dim=1)[:, 1:],
    )
    return torch.cat([column.detach().double().cpu() for column in columns], dim=1)
