"""SlowFast backbones (Feichtenhofer et al. 2019), built from pytorchvideo's blocks without pool and head."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.backbones.base import Architecture, Backbone
from model.backbones.stem import StemConv3d


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowFastArchitecture(Architecture):
    """How wide and deep a SlowFast network is."""

    depth: int
    """Depth as pytorchvideo names it: 50 is (3, 4, 6, 3) bottleneck blocks, 18 is one block per stage."""
    stem_channels: tuple[int, int]
    """Channels of the slow and the fast stem."""
    dilated_res5: bool = True
    """True keeps the last stage at stride 16, for detection; False strides to 32, as the classifier does."""

    @property
    def feature_channels(self) -> tuple[int, int]:
        """Channels that leave the slow and the fast pathway: a stem's, times 32."""
        slow, fast = self.stem_channels
        return slow * 32, fast * 32

    @property
    def channels(self) -> int:
        """Channels of the concatenated feature maps."""
        return sum(self.feature_channels)

    def build(self) -> SlowFastBackbone:
        """A backbone with random weights."""
        return SlowFastBackbone(self)


class SlowFastBackbone(Backbone):
    """The first five blocks of a SlowFast network, with the temporal mean of each pathway at the end.

    The blocks keep the names ``blocks.0`` to ``blocks.4`` of the published checkpoints.
    """

    def __init__(self, architecture: SlowFastArchitecture) -> None:
        super().__init__(architecture)
        self.blocks = _slowfast_blocks(architecture)

    def pathway_maps(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        """Feature maps of both pathways before any pooling.

        ``slow`` has shape ``(B, 3, T / 4, H, W)`` and ``fast`` ``(B, 3, T, H, W)``; the maps have shapes
        ``(B, D_slow, T / 4, H / 16, W / 16)`` and ``(B, D_fast, T, H / 16, W / 16)``.
        """
        # Each block writes its outputs into the list that it is given, so the list is made here.
        maps = [slow, fast]
        for block in self.blocks:
            maps = block(list(maps))
        return maps[0], maps[1]

    def pooled_maps(self, slow: Tensor, fast: Tensor) -> Tensor:
        """Temporal means of both pathways, slow channels first."""
        slow_maps, fast_maps = self.pathway_maps(slow, fast)
        return torch.cat([slow_maps.mean(dim=2), fast_maps.mean(dim=2)], dim=1)


def _slowfast_blocks(architecture: SlowFastArchitecture) -> nn.ModuleList:
    with warnings.catch_warnings():
        # pytorchvideo scripts one function at import; torch calls that deprecated.
        warnings.simplefilter("ignore")
        from pytorchvideo.models.slowfast import create_slowfast
    dilation, stride = (2, 1) if architecture.dilated_res5 else (1, 2)
    dilations = ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, dilation, dilation))
    strides = (1, 2, 2, stride)
    network = create_slowfast(
        model_depth=architecture.depth,
        stem_dim_outs=architecture.stem_channels,
        stage_conv_b_dilations=(dilations, dilations),
        stage_spatial_strides=(strides, strides),
    )
    fast_stem = network.blocks[0].multipathway_blocks[1]
    fast_stem.conv = StemConv3d.like(fast_stem.conv)
    return nn.ModuleList(network.blocks[:5])
