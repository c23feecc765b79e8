"""Single task: the motion loss is left out."""

from __future__ import annotations

from dataclasses import dataclass

from model.weighting.base import Gram, State, TaskLosses, Weights


@dataclass(frozen=True, slots=True)
class SingleTask:
    """``g_act`` alone: what the auxiliary task is worth is the difference to this."""

    def initial_state(self) -> State:
        """Nothing."""
        return {}

    def known_ahead(self, state: State) -> Weights:
        """One and nothing."""
        del state
        return Weights(1.0, 0.0)

    def __call__(self, gram: Gram | None, losses: TaskLosses, state: State) -> Weights:
        """One and nothing."""
        del gram, losses
        return self.known_ahead(state)
