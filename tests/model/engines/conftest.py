"""A network of odd numbers with settled norms, and clips with boxes, in a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from model.engines.build import Source
from model.network import ActionNetwork
from model.parity import SampleClips

SIZE = (48, 80)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(11)
    network = ActionNetwork("slowfast_small", ("feeding", "walk", "flight"))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_checkpoint(network, path, trained_on="trained on nothing", ethogram="test")
    return path


def sample_of(clip_frames: int, size: tuple[int, int]) -> SampleClips:
    """Five clips of noise with two boxes each."""
    rng = np.random.default_rng(1)
    corners = np.sort(rng.random((10, 2, 2)), axis=1).reshape(10, 4).astype(np.float32)
    clips = rng.integers(0, 256, (5, clip_frames, *size, 3), np.uint8)
    return SampleClips(clips, corners, np.repeat(np.arange(5), 2))


@pytest.fixture
def loaded(checkpoint: Path) -> tuple[ActionNetwork, CheckpointInfo]:
    return load_checkpoint(checkpoint)


@pytest.fixture
def source(loaded: tuple[ActionNetwork, CheckpointInfo], tmp_path: Path) -> Source:
    return Source(*loaded, SIZE, tmp_path / "engines", sample_of)
