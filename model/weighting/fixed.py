"""Fixed lambda: the behaviour task at weight 1, the motion task at a constant."""

from __future__ import annotations

from dataclasses import dataclass

from model.weighting.base import Gram, State, TaskLosses, Weights


@dataclass(frozen=True, slots=True)
class FixedLambda:
    """``g_act + lambda * g_mov`` (AviaTAD, equation 4): the control that every adaptive rule is held against."""

    lambda_base: float = 0.1

    def initial_state(self) -> State:
        """Nothing."""
        return {}

    def known_ahead(self, state: State) -> Weights:
        """The constants."""
        del state
        return Weights(1.0, self.lambda_base)

    def __call__(self, gram: Gram | None, losses: TaskLosses, state: State) -> Weights:
        """The constants."""
        del gram, losses
        return self.known_ahead(state)
