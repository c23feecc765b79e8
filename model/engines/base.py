"""What every engine does."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Engine(Protocol):
    """Runs a backbone on batches of one fixed shape; ROI Align and heads run outside, in torch."""

    def pooled_maps(self, slow: Tensor, fast: Tensor) -> Tensor:
        """Temporal means of the feature maps.

        ``slow`` is float ``(B, 3, T / 4, H, W)`` and ``fast`` ``(B, 3, T, H, W)``, normalised; the result is
        float32 ``(B, D, H / 16, W / 16)`` on the device of the heads.
        """
        ...
