"""RI-PCGrad: gradient surgery by relative importance, in which only the auxiliary gradient gives way."""

from __future__ import annotations

from dataclasses import dataclass

from model.weighting.base import Gram, State, TaskLosses, Weights, required


@dataclass(frozen=True, slots=True)
class RIPCGrad:
    """``g_act + lambda * g_mov``, with ``g_mov`` projected onto the normal plane of ``g_act`` in a conflict.

    The main task is never changed, and the auxiliary one has the constant lambda of the other rules. This is a
    reading of the name: the rule's source was not at hand when this was written.
    """

    lambda_base: float = 0.1

    def initial_state(self) -> State:
        """Nothing."""
        return {}

    def known_ahead(self, state: State) -> None:
        """Never."""
        del state

    def __call__(self, gram: Gram | None, losses: TaskLosses, state: State) -> Weights:
        """The projection takes ``<g_act, g_mov> / |g_act|^2`` of ``g_act`` out of ``g_mov``."""
        del losses, state
        gram = required(gram)
        if gram.act_mov >= 0 or gram.act_act == 0:
            return Weights(1.0, self.lambda_base)
        return Weights(1 - self.lambda_base * gram.act_mov / gram.act_act, self.lambda_base)
