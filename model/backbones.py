"""SlowFast backbones (Feichtenhofer et al. 2019), built from pytorchvideo's blocks without pool and head."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.errors import UnknownArchitectureError

FEATURE_STRIDE = 16
"""Input pixels per cell of the feature maps, in both directions: res5 is dilated instead of strided."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """How wide and deep a SlowFast network is, and at which size it looks at the scene."""

    name: str
    depth: int
    """Depth as pytorchvideo names it: 50 is (3, 4, 6, 3) bottleneck blocks, 18 is one block per stage."""
    stem_channels: tuple[int, int]
    """Channels of the slow and the fast stem."""
    input_height: int
    """Lines of the network's input."""

    @property
    def feature_channels(self) -> tuple[int, int]:
        """Channels that leave the slow and the fast pathway: a stem's, times 32."""
        slow, fast = self.stem_channels
        return slow * 32, fast * 32

    @property
    def channels(self) -> int:
        """Channels of the concatenated feature maps."""
        return sum(self.feature_channels)


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture("slowfast_r50", depth=50, stem_channels=(64, 8), input_height=256),
        Architecture("slowfast_small", depth=18, stem_channels=(16, 2), input_height=160),
    )
}


def architecture_named(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        UnknownArchitectureError: there is none.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise UnknownArchitectureError(
            f"unknown architecture {name!r}: this version has {', '.join(sorted(ARCHITECTURES))}"
        ) from None


class SlowFastBackbone(nn.Module):
    """The first five blocks of a SlowFast network, with the temporal mean of each pathway at the end.

    The blocks keep the names ``blocks.0`` to ``blocks.4`` of the published checkpoints.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.blocks = _slowfast_blocks(architecture)

    def pathway_maps(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        """Feature maps of both pathways before any pooling.

        ``slow`` has shape ``(B, 3, 4, H, W)`` and ``fast`` ``(B, 3, 16, H, W)``; the maps have shapes
        ``(B, D_slow, 4, H / 16, W / 16)`` and ``(B, D_fast, 16, H / 16, W / 16)``.
        """
        # Each block writes its outputs into the list that it is given, so the list is made here.
        maps = [slow, fast]
        for block in self.blocks:
            maps = block(list(maps))
        return maps[0], maps[1]

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        """Temporal means of both pathways, slow channels first, shape ``(B, D, H / 16, W / 16)``."""
        slow_maps, fast_maps = self.pathway_maps(slow, fast)
        return torch.cat([slow_maps.mean(dim=2), fast_maps.mean(dim=2)], dim=1)


def _slowfast_blocks(architecture: Architecture) -> nn.ModuleList:
    with warnings.catch_warnings():
        # pytorchvideo scripts one function at import; torch calls that deprecated.
        warnings.simplefilter("ignore")
        from pytorchvideo.models.slowfast import create_slowfast
    dilated_res5 = ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 2, 2))
    strides = (1, 2, 2, 1)
    network = create_slowfast(
        model_depth=architecture.depth,
        stem_dim_outs=architecture.stem_channels,
        stage_conv_b_dilations=(dilated_res5, dilated_res5),
        stage_spatial_strides=(strides, strides),
    )
    return nn.ModuleList(network.blocks[:5])
