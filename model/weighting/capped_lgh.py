"""LGH with a cap on the auxiliary gradient's norm, which makes the paper's cone claim true."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.weighting.base import Gram, State, TaskLosses, Weights, required
from model.weighting.lgh import LGH


@dataclass(frozen=True, slots=True)
class CappedLGH:
    """LGH in which ``lambda * |g_mov|`` is at most ``cap * |g_act|``.

    The paper says that the update stays in a cone around the behaviour gradient. Lambda alone does not see to
    that: a motion gradient that is long enough turns the update against a behaviour gradient that it conflicts
    with. With the cap the angle between the two is at most ``asin(cap)``, whatever the gradients.
    """

    lambda_base: float = 0.1
    alpha: float = 0.2
    cap: float = 0.5
    """Longest auxiliary part of the update, as a share of the behaviour gradient's norm; 0.5 is 30 degrees."""

    def __post_init__(self) -> None:
        LGH(self.lambda_base, self.alpha)
        if not 0 < self.cap < 1:
            raise ValueError(f"cap must be between 0 and 1, got {self.cap}")

    def initial_state(self) -> State:
        """Nothing."""
        return {}

    def known_ahead(self, state: State) -> None:
        """Never."""
        del state

    def __call__(self, gram: Gram | None, losses: TaskLosses, state: State) -> Weights:
        """One, and lambda under the cap."""
        del losses, state
        gram = required(gram)
        harmonised = LGH(self.lambda_base, self.alpha).harmonised(gram.cosine)
        if gram.mov_mov == 0:
            return Weights(1.0, harmonised)
        return Weights(1.0, min(harmonised, self.cap * math.sqrt(gram.act_act) / math.sqrt(gram.mov_mov)))
