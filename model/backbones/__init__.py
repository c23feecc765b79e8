"""Backbones, one file for each family: what turns a clip into the maps from which individuals are read."""

from model.backbones.base import FEATURE_STRIDE, Architecture, Backbone
from model.backbones.slowfast import SlowFastArchitecture, SlowFastBackbone
from model.backbones.slowonly import SlowOnlyArchitecture, SlowOnlyBackbone
from model.backbones.table import ARCHITECTURES, architecture_named
from model.backbones.videomae import VideoMaeArchitecture, VideoMaeBackbone

__all__ = [
    "ARCHITECTURES",
    "FEATURE_STRIDE",
    "Architecture",
    "Backbone",
    "SlowFastArchitecture",
    "SlowFastBackbone",
    "SlowOnlyArchitecture",
    "SlowOnlyBackbone",
    "VideoMaeArchitecture",
    "VideoMaeBackbone",
    "architecture_named",
]
