"""SlowOnly: the slow pathway alone (Feichtenhofer et al. 2019, "Slow"), from pytorchvideo's blocks."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import Tensor, nn

from model.backbones.base import Architecture, Backbone


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowOnlyArchitecture(Architecture):
    """How wide and deep a SlowOnly network is."""

    depth: int
    """Depth as pytorchvideo names it: 50 is (3, 4, 6, 3) bottleneck blocks, 18 is one block per stage."""
    stem_channels: int

    @property
    def channels(self) -> int:
        """Channels of the feature maps: the stem's, times 32."""
        return self.stem_channels * 32

    def build(self) -> SlowOnlyBackbone:
        """A backbone with random weights."""
        return SlowOnlyBackbone(self)


class SlowOnlyBackbone(Backbone):
    """The first five blocks of a Slow network; the frames of the fast pathway are not looked at.

    The blocks keep the names ``blocks.0`` to ``blocks.4`` of the published checkpoints.
    """

    def __init__(self, architecture: SlowOnlyArchitecture) -> None:
        super().__init__(architecture)
        self.blocks = _slow_blocks(architecture)

    def pooled_maps(self, slow: Tensor, fast: Tensor) -> Tensor:
        """Temporal mean of the slow pathway."""
        del fast
        maps = slow
        for block in self.blocks:
            maps = block(maps)
        return maps.mean(dim=2)


def _slow_blocks(architecture: SlowOnlyArchitecture) -> nn.ModuleList:
    with warnings.catch_warnings():
        # pytorchvideo scripts one function at import; torch calls that deprecated.
        warnings.simplefilter("ignore")
        from pytorchvideo.models.resnet import create_resnet
    network = create_resnet(
        model_depth=architecture.depth,
        stem_dim_out=architecture.stem_channels,
        stem_conv_kernel_size=(1, 7, 7),
        stage_conv_b_dilation=((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 2, 2)),
        stage_spatial_h_stride=(1, 2, 2, 1),
        stage_spatial_w_stride=(1, 2, 2, 1),
        head=None,
    )
    return nn.ModuleList(network.blocks)
