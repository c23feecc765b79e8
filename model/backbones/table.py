"""The architectures that a network, a checkpoint or a configuration can name."""

from __future__ import annotations

from model.backbones.base import Architecture
from model.backbones.slowfast import SlowFastArchitecture
from model.backbones.slowonly import SlowOnlyArchitecture
from model.backbones.videomae import VideoMaeArchitecture
from model.errors import UnknownArchitectureError

_ALL: tuple[Architecture, ...] = (
    SlowFastArchitecture(
        name="slowfast_r50",
        summary="SlowFast R50, 4 slow and 16 fast frames",
        input_height=256,
        depth=50,
        stem_channels=(64, 8),
    ),
    SlowFastArchitecture(
        name="slowfast_r50_8x8",
        summary="SlowFast R50, 8 slow and 32 fast frames",
        input_height=256,
        clip_frames=32,
        depth=50,
        stem_channels=(64, 8),
    ),
    SlowFastArchitecture(
        name="slowfast_small",
        summary="SlowFast with one block per stage and a quarter of the channels",
        input_height=160,
        depth=18,
        stem_channels=(16, 2),
    ),
    SlowOnlyArchitecture(
        name="slowonly_r50",
        summary="slow pathway alone, R50, 8 frames",
        input_height=256,
        clip_frames=32,
        depth=50,
        stem_channels=64,
    ),
    SlowFastArchitecture(
        name="acrn_slowfast_r50",
        summary="SlowFast R50 with actor-centric relations to the scene",
        input_height=256,
        clip_frames=32,
        actor_context=True,
        depth=50,
        stem_channels=(64, 8),
    ),
    VideoMaeArchitecture(
        name="videomae_base",
        summary="VideoMAE, ViT-Base over 16 frames",
        input_height=224,
        hidden_channels=768,
        layers=12,
        attention_heads=12,
    ),
    VideoMaeArchitecture(
        name="videomae_large",
        summary="VideoMAE, ViT-Large over 16 frames",
        input_height=224,
        hidden_channels=1024,
        layers=24,
        attention_heads=16,
    ),
)
ARCHITECTURES: dict[str, Architecture] = {architecture.name: architecture for architecture in _ALL}


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
