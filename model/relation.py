"""Actor-centric relations (Sun et al. 2018, ACRN): each individual's features beside every place of the scene."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ActorContext(nn.Module):
    """Relate an individual to its scene by a 1x1 and a 3x3 convolution, as the published AVA baselines do.

    The individual's vector is laid beside the context vector of each cell of the maps; the convolutions mix
    the two, and the greatest response over all cells becomes the individual's new vector.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Three dimensions with a time of length 1, as the backbones have: one memory format serves the network.
        # A 1x1 convolution over (actor, context) is a sum of two, so that the context's is made once per clip.
        self.actor = nn.Linear(channels, channels, bias=False)
        self.context = nn.Conv3d(channels, channels, kernel_size=1, bias=False)
        self.mix = nn.Sequential(
            nn.BatchNorm3d(channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(channels, channels, kernel_size=(1, 3, 3), padding=(0, 1, 1), bias=False),
            nn.BatchNorm3d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, vectors: Tensor, maps: Tensor, clip_index: Tensor) -> Tensor:
        """New vectors ``(M, D)`` from ROI vectors ``(M, D)``, maps ``(B, D, h, w)`` and each box's clip ``(M,)``."""
        if not len(vectors):
            # Batch norm has no statistics of nothing; the parameters stay in the graph all the same.
            return vectors + 0 * sum(torch.sum(parameter) for parameter in self.parameters())
        context = self.context(maps[:, :, None])[clip_index]
        mixed: Tensor = self.mix(self.actor(vectors)[:, :, None, None, None] + context)
        return mixed.amax(dim=(2, 3, 4))
