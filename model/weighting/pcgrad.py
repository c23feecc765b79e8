"""PCGrad (Yu et al., NeurIPS 2020): gradient surgery."""

from __future__ import annotations

from dataclasses import dataclass

from model.weighting.base import Gram, State, TaskLosses, Weights, required


@dataclass(frozen=True, slots=True)
class PCGrad:
    """Where the gradients conflict, each loses its part along the other; then they are added.

    With two tasks the random order of the published algorithm makes no difference, so this has no chance in it.
    """

    def initial_state(self) -> State:
        """Nothing."""
        return {}

    def known_ahead(self, state: State) -> None:
        """Never."""
        del state

    def __call__(self, gram: Gram | None, losses: TaskLosses, state: State) -> Weights:
        """``1 - <g_act, g_mov> / |g|^2`` of each where the inner product is negative, else 1."""
        del losses, state
        gram = required(gram)
        if gram.act_mov >= 0 or gram.act_act == 0 or gram.mov_mov == 0:
            return Weights(1.0, 1.0)
        return Weights(1 - gram.act_mov / gram.act_act, 1 - gram.act_mov / gram.mov_mov)
