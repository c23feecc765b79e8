"""VideoMAE (Tong et al. 2022): a plain vision transformer over space-time patches, through ``transformers``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from model.backbones.base import FEATURE_STRIDE, Architecture, Backbone
from model.errors import MissingExtraError, how_to_install
from model.pathways import PIXEL_MEAN, PIXEL_STD

TUBELET_FRAMES = 2
"""Frames in one space-time patch."""
PUBLISHED_LINES = 224
"""Height and width at which VideoMAE was trained, and for which its position code is made."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of the published VideoMAE weights, for red, green and blue from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoMaeArchitecture(Architecture):
    """How wide and deep a VideoMAE encoder is."""

    hidden_channels: int
    layers: int
    attention_heads: int

    @property
    def channels(self) -> int:
        """Channels of the feature maps: the transformer's width."""
        return self.hidden_channels

    def build(self) -> VideoMaeBackbone:
        """A backbone with random weights.

        Raises:
            MissingExtraError: ``transformers`` is not installed.
        """
        return VideoMaeBackbone(self)


class VideoMaeBackbone(Backbone):
    """A VideoMAE encoder without its classifier; tokens become a map again, the mean over time is taken.

    It sees the frames of the fast pathway, normalised anew as its weights expect. Its fixed position code is
    resampled to scenes of other sizes (bicubic in space), as the published AVA recipes do. The tensors keep
    the names ``videomae.embeddings...`` and ``videomae.encoder...`` of the published checkpoints.
    """

    scale: Tensor
    shift: Tensor
    positions: Tensor

    def __init__(self, architecture: VideoMaeArchitecture) -> None:
        super().__init__(architecture)
        self.videomae = _encoder(architecture)
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("scale", _per_channel(PIXEL_STD / std), persistent=False)
        self.register_buffer("shift", _per_channel((PIXEL_MEAN - mean) / std), persistent=False)
        side = PUBLISHED_LINES // FEATURE_STRIDE
        code = self.videomae.embeddings.position_embeddings
        grid = code.reshape(1, -1, side, side, architecture.hidden_channels).permute(0, 4, 1, 2, 3)
        # Five dimensions, as the patches have: the network is moved to a memory format of five.
        self.register_buffer("positions", grid.to(mean.device), persistent=False)

    def pooled_maps(self, slow: Tensor, fast: Tensor) -> Tensor:
        """Temporal mean of the last layer's tokens, each at its place."""
        del slow
        patches = self.videomae.embeddings.patch_embeddings.projection(fast * self.scale + self.shift)
        tokens = (patches + self._positions_at(*patches.shape[3:])).flatten(2).transpose(1, 2)
        encoded = self.videomae.encoder(tokens).last_hidden_state
        maps: Tensor = encoded.transpose(1, 2).unflatten(2, patches.shape[2:]).mean(dim=2)
        return maps

    def _positions_at(self, height: int, width: int) -> Tensor:
        """The position code for maps of this size, shape ``(1, D, T, height, width)``."""
        if tuple(self.positions.shape[3:]) == (height, width):
            return self.positions
        times = self.positions[0].transpose(0, 1)
        times = functional.interpolate(times, size=(height, width), mode="bicubic", align_corners=False)
        return times.transpose(0, 1)[None]


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, 3, 1, 1, 1)


def _encoder(architecture: VideoMaeArchitecture) -> Any:
    try:
        from transformers import VideoMAEConfig, VideoMAEModel
    except ImportError as error:
        raise MissingExtraError(
            f"architecture {architecture.name} needs the package transformers, which is not installed: "
            f"{how_to_install('videomae')}"
        ) from error
    return VideoMAEModel(
        VideoMAEConfig(
            image_size=PUBLISHED_LINES,
            num_frames=architecture.clip_frames,
            tubelet_size=TUBELET_FRAMES,
            hidden_size=architecture.hidden_channels,
            num_hidden_layers=architecture.layers,
            num_attention_heads=architecture.attention_heads,
            intermediate_size=4 * architecture.hidden_channels,
        )
    )
