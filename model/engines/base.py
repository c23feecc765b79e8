"""What every engine does."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Engine(Protocol):
    """Runs a backbone on batches of clips; ROI Align and heads run outside, in torch, on the same device."""

    @property
    def device(self) -> torch.device:
        """Where the maps are, and where clips are best brought."""
        ...

    def pooled_maps(self, clips: Tensor) -> Tensor:
        """Temporal means of the feature maps.

        ``clips`` is uint8 ``(B, T, H, W, 3)``, T the architecture's ``clip_frames``, at the network's size; the
        result is float32 ``(B, D, H / 16, W / 16)`` on the engine's device. It is normalised there, so that what
        crosses the bus are bytes.
        """
        ...
