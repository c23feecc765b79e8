"""Dropout that does not depend on which process, or beside which others, a clip is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SeededDropout(nn.Dropout):
    """Dropout over rows ``(M, D)`` whose mask is drawn from a seed for each clip."""

    def __init__(self, probability: float) -> None:
        super().__init__(probability)
        self._seeds: list[int] = []
        self._rows: list[int] = []

    def begin(self, seeds: Tensor, clip_index: Tensor) -> None:
        """The clips of the next forward pass: a seed for each, ``(B,)``, and each row's clip, ``(M,)``, ascending."""
        self._seeds = seeds.tolist()
        self._rows = torch.bincount(clip_index, minlength=len(seeds)).tolist()

    def forward(self, input: Tensor) -> Tensor:
        """Rows with a share of their numbers set to zero, the others made larger for it.

        Raises:
            ValueError: these are not the rows that :meth:`begin` announced.
        """
        if not self.training or self.p == 0:
            return input
        if sum(self._rows) != len(input):
            raise ValueError(f"dropout expected {sum(self._rows)} rows, got {len(input)}: call begin() first")
        kept = [
            torch.rand(count, input.shape[1], generator=torch.Generator().manual_seed(seed)) >= self.p
            for seed, count in zip(self._seeds, self._rows, strict=True)
        ]
        return input * (torch.cat(kept).to(input.device, input.dtype) / (1 - self.p))
