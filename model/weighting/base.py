"""What every weighting rule is given and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

State = dict[str, float]
"""What a rule remembers from step to step, by name: plain numbers, so that it goes into a checkpoint as it is."""


@dataclass(frozen=True, slots=True)
class Gram:
    """Inner products of the two tasks' gradients over the shared backbone: a symmetric 2x2 matrix."""

    act_act: float
    """Squared norm of the behaviour gradient."""
    act_mov: float
    mov_mov: float
    """Squared norm of the motion gradient."""

    @property
    def cosine(self) -> float:
        """Rho, the cosine of the angle between the gradients, -1 to 1; 0 where one of them is zero."""
        norms = math.sqrt(self.act_act) * math.sqrt(self.mov_mov)
        return max(-1.0, min(1.0, self.act_mov / norms)) if norms > 0 else 0.0


class TaskLosses(NamedTuple):
    """The losses of one step, of all processes together."""

    act: float
    """Behaviour loss, with the reject loss at its weight."""
    mov: float


class Weights(NamedTuple):
    """The step's gradient is ``act * g_act + mov * g_mov``."""

    act: float
    mov: float


class Weighting(Protocol):
    """A rule that weighs the behaviour task against the auxiliary motion task."""

    def initial_state(self) -> State:
        """What it remembers before the first step."""

    def known_ahead(self, state: State) -> Weights | None:
        """The next step's weights where they do not depend on its gradients: then one backward pass does."""

    def __call__(self, gram: Gram | None, losses: TaskLosses, state: State) -> Weights:
        """The weights of this step; ``state`` is brought up to date.

        Args:
            gram: of this step's gradients; None where :meth:`known_ahead` gave the weights.
            losses: of this step.
            state: from :meth:`initial_state`, or from a checkpoint.
        """


def required(gram: Gram | None) -> Gram:
    """The matrix, for a rule that cannot do without.

    Raises:
        ValueError: it is not there.
    """
    if gram is None:
        raise ValueError("this weighting needs the inner products of the gradients, got None")
    return gram
