"""From the bytes of clips to pooled maps in half precision, as one module that can be compiled and captured."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.backbones import Backbone
from model.engines.folding import folded, in_planes
from model.pathways import to_pathways


class HalfNetwork(nn.Module):
    """A copy of a backbone for inference; the one that it is given stays as it is."""

    def __init__(self, backbone: Backbone, dtype: torch.dtype = torch.float16) -> None:
        super().__init__()
        self._dtype = dtype
        self.backbone = in_planes(folded(backbone).to(dtype).to(memory_format=torch.channels_last_3d))

    def forward(self, clips: Tensor) -> Tensor:
        """Maps ``(B, D, H / 16, W / 16)`` of uint8 clips ``(B, T, H, W, 3)``."""
        slow, fast = to_pathways(clips, self._dtype)
        maps: Tensor = self.backbone(slow, fast)
        return maps
