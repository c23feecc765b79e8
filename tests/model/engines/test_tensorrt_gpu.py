"""Engines of TensorRT on a GPU: built there, gated there, run there."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import pytest
import torch

from model.engines import build
from model.engines.artifact import manifest_path, read_manifest
from model.engines.build import Source, device_target, open_tensorrt, tensorrt_artifact
from model.engines.choice import TENSORRT_NAMES, TensorRtName, is_installed
from model.engines.tensorrt import targets_of
from model.errors import EngineParityError
from model.pathways import to_pathways

HAS_CARD = torch.cuda.is_available() or Path("/dev/nvidiactl").exists()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not HAS_CARD, reason="there is no CUDA device")]


@pytest.fixture(params=TENSORRT_NAMES)
def package(request: pytest.FixtureRequest) -> TensorRtName:
    name: TensorRtName = request.param
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    if targets_of(name) and device_target() not in targets_of(name):
        pytest.skip(f"{name} has no target {device_target()}, the card that is here")
    return name


def random_clips(count: int, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randint(0, 256, (count, 16, 48, 80, 3), dtype=torch.uint8)


def test_an_engine_passes_on_its_device_and_says_what_the_backbone_says(
    source: Source, package: TensorRtName
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # where no graph is recorded the test fails
        engine = open_tensorrt(source, package, "fp16")
        backbone = source.network.backbone.cuda()
        for count, seed in ((4, 1), (4, 2), (1, 3), (19, 4)):  # more than it was built for, too
            clips = random_clips(count, seed)
            with torch.inference_mode():
                expected = backbone(*to_pathways(clips.cuda()))
            maps = engine.pooled_maps(clips)
            assert maps.device.type == "cuda"
            assert maps.dtype == torch.float32
            assert float((maps - expected).norm() / expected.norm()) < 5e-3
    (path,) = source.folder.glob("*.engine")
    manifest = read_manifest(path)
    assert manifest.device_gate is not None
    assert manifest.device_gate.parity.accepted
    assert manifest.target == device_target()


def test_an_engine_from_elsewhere_is_gated_before_it_is_used(
    source: Source, package: TensorRtName, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = device_target()
    assert target is not None
    monkeypatch.setattr(build, "device_target", lambda device="cuda": None)
    path, manifest = tensorrt_artifact(source, package, "fp16", target)
    assert manifest.awaits_device
    monkeypatch.undo()
    open_tensorrt(source, package, "fp16")
    assert not read_manifest(path).awaits_device


def test_an_engine_that_says_something_else_there_is_removed(
    source: Source, package: TensorRtName, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = device_target()
    assert target is not None
    monkeypatch.setattr(build, "device_target", lambda device="cuda": None)
    path, _ = tensorrt_artifact(source, package, "fp16", target)
    monkeypatch.undo()
    with torch.no_grad():
        for weights in source.network.backbone.parameters():
            weights.mul_(1.5)
    with pytest.raises(EngineParityError, match="is not used"):
        open_tensorrt(dataclasses.replace(source), package, "fp16")
    assert not path.exists()
    assert not manifest_path(path).exists()
