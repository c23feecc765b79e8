"""Lightweight Gradient Harmonization (AviaTAD-LGH, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

from model.weighting.base import Gram, State, TaskLosses, Weights, required


@dataclass(frozen=True, slots=True)
class LGH:
    """``g_act + lambda * g_mov``, where lambda falls as the gradients conflict.

    With rho their cosine, lambda is ``lambda_base * (1 - alpha * |rho|)`` where rho < 0, else ``lambda_base``.
    """

    lambda_base: float = 0.1
    alpha: float = 0.2
    refresh_steps: int = 1
    """1 is the paper's rule, exact at every step. With k, rho is measured at every k-th step only and lambda
    kept in between: an approximation, whose steps in between cost no more than a plain one."""

    def __post_init__(self) -> None:
        if self.lambda_base < 0 or not 0 <= self.alpha <= 1:
            raise ValueError(
                f"need lambda_base >= 0 and 0 <= alpha <= 1, got {self.lambda_base} and {self.alpha}"
            )
        if self.refresh_steps < 1 or self.refresh_steps != int(self.refresh_steps):
            raise ValueError(f"refresh_steps must be a whole number of at least 1, got {self.refresh_steps}")

    def harmonised(self, rho: float) -> float:
        """Lambda for this cosine."""
        return self.lambda_base * (1 - self.alpha * max(0.0, -rho))

    def initial_state(self) -> State:
        """No step taken, and lambda as without a conflict."""
        return {"steps": 0.0, "lambda": self.lambda_base}

    def known_ahead(self, state: State) -> Weights | None:
        """Lambda as it was last, in the steps between two measurements of rho."""
        return Weights(1.0, state["lambda"]) if state["steps"] % self.refresh_steps else None

    def __call__(self, gram: Gram | None, losses: TaskLosses, state: State) -> Weights:
        """One, and lambda."""
        del losses
        ahead = self.known_ahead(state)
        if ahead is None:
            state["lambda"] = self.harmonised(required(gram).cosine)
        state["steps"] += 1
        return Weights(1.0, state["lambda"])
