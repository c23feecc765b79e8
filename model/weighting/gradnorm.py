"""GradNorm (Chen et al., ICML 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.weighting.base import Gram, State, TaskLosses, Weights, required

LEAST_WEIGHT = 1e-3
"""A weight does not fall to zero, from where its gradient's norm could not bring it back."""


@dataclass(frozen=True, slots=True)
class GradNorm:
    """Learns weights, of sum 2, under which both gradients' norms follow the tasks' training rates.

    A task's target is the mean of the weighted norms, times its inverse training rate (its loss as a share of
    its first one, over the mean of these shares) to the power ``alpha``. The weights follow plain gradient
    descent on the sum of distances to the targets, which are held constant (algorithm 1 of the paper).
    """

    alpha: float = 1.5
    """Strength of the pull towards the slower task."""
    learning_rate: float = 0.025
    """Of the weights."""

    def initial_state(self) -> State:
        """Equal weights; the first losses are taken at the first step that has any."""
        return {"act": 1.0, "mov": 1.0}

    def known_ahead(self, state: State) -> None:
        """Never: the norms are needed to bring the weights up to date."""
        del state

    def __call__(self, gram: Gram | None, losses: TaskLosses, state: State) -> Weights:
        """The weights before they take their step."""
        gram = required(gram)
        weights = Weights(state["act"], state["mov"])
        norms = (math.sqrt(gram.act_act), math.sqrt(gram.mov_mov))
        if "first_loss_mov" not in state:
            if losses.mov <= 0:  # nothing in the first batches that either task could learn from
                return weights
            state["first_loss_act"], state["first_loss_mov"] = losses.act, losses.mov
        shares = (
            _share(losses.act, state["first_loss_act"]),
            _share(losses.mov, state["first_loss_mov"]),
        )
        state["act"], state["mov"] = self._moved(weights, norms, shares)
        return weights

    def _moved(self, weights: Weights, norms: tuple[float, float], shares: tuple[float, float]) -> Weights:
        mean_norm = (weights.act * norms[0] + weights.mov * norms[1]) / 2
        mean_share = sum(shares) / 2
        moved = []
        for weight, norm, share in zip(weights, norms, shares, strict=True):
            rate = share / mean_share if mean_share > 0 else 1.0
            distance = weight * norm - mean_norm * rate**self.alpha
            slope = math.copysign(norm, distance) if distance else 0.0
            moved.append(max(LEAST_WEIGHT, weight - self.learning_rate * slope))
        return Weights(2 * moved[0] / sum(moved), 2 * moved[1] / sum(moved))


def _share(loss: float, first: float) -> float:
    return loss / first if first > 0 else 1.0
