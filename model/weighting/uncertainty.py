"""Uncertainty weighting (Kendall, Gal and Cipolla, CVPR 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.weighting.base import Gram, State, TaskLosses, Weights


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Minimises ``sum_i L_i * exp(-s_i) / 2 + s_i / 2`` over the network and the log-variances ``s_i``.

    The log-variances follow plain gradient descent; at rest a task's weight is ``1 / (2 L_i)``.
    """

    learning_rate: float = 0.01
    """Of the log-variances."""

    def initial_state(self) -> State:
        """Unit variances."""
        return {"log_variance_act": 0.0, "log_variance_mov": 0.0}

    def known_ahead(self, state: State) -> Weights:
        """``exp(-s_i) / 2``."""
        return Weights(
            math.exp(-state["log_variance_act"]) / 2,
            math.exp(-state["log_variance_mov"]) / 2,
        )

    def __call__(self, gram: Gram | None, losses: TaskLosses, state: State) -> Weights:
        """``exp(-s_i) / 2``, before the log-variances take their step."""
        del gram
        weights = self.known_ahead(state)
        state["log_variance_act"] -= self.learning_rate * (0.5 - weights.act * losses.act)
        state["log_variance_mov"] -= self.learning_rate * (0.5 - weights.mov * losses.mov)
        return weights
