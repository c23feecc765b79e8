"""From the bytes of clips to pooled maps in half precision, as one module that can be compiled and captured."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.backbones import Backbone
from model.engines.folding import folded, in_planes
from model.pathways import to_pathways


class HalfNetwork(nn.Module):
    """A copy of a backbone for inference; the one that it is given stays as it is."""

    def __init__(
        self, backbone: Backbone, *, planes: bool = True, dtype: torch.dtype = torch.float16
    ) -> None:
        """Fold and convert.

        Args:
            backbone: in any precision; a copy of it is taken.
            planes: compute 3-D convolutions as 2-D ones where they are.
            dtype: of weights and feature maps.
        """
        super().__init__()
        self._dtype = dtype
        copied = folded(backbone)
        if planes:
            copied = in_planes(copied)
        self.backbone = copied.to(dtype).to(memory_format=torch.channels_last_3d)

    def forward(self, clips: Tensor) -> Tensor:
        """Maps ``(B, D, H / 16, W / 16)`` of uint8 clips ``(B, T, H, W, 3)``."""
        slow, fast = to_pathways(clips, self._dtype)
        maps: Tensor = self.backbone(slow, fast)
        return maps
