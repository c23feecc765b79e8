"""Engines are built ahead of time here, without a GPU, and held against the checkpoint before they are kept."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from model.engines import build
from model.engines.artifact import manifest_path, read_engine, read_manifest
from model.engines.build import Source, device_target, is_built, onnx_artifact, tensorrt_artifact
from model.engines.choice import EngineSpec
from model.engines.onnx_graph import onnx_graph
from model.engines.opening import open_engine
from model.engines.tensorrt import build_engine, targets_of
from model.errors import EngineArtifactError, EngineBuildError, EngineMissingError, EngineParityError


def forbidden(*_: object) -> None:
    raise AssertionError("this was not to be done again")


def test_an_onnx_graph_is_gated_kept_and_not_made_again(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, manifest = onnx_artifact(source, "fp32")
    assert manifest.gate.parity.instances == 10
    assert manifest.gate.parity.largest_difference < 1e-4
    assert (manifest.size, manifest.clip_frames, manifest.checkpoint) == ((48, 80), 16, source.info.digest)
    assert {"torch", "onnx", "onnxruntime"} <= manifest.versions.keys()
    monkeypatch.setattr(build, "onnx_graph", forbidden)
    assert onnx_artifact(source, "fp32") == (graph, manifest)


def test_a_graph_that_says_something_else_leaves_nothing(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_other_weights(backbone: torch.nn.Module, *arguments: object) -> bytes:
        torch.manual_seed(99)
        return onnx_graph(source.network.architecture.build().eval(), *arguments)

    monkeypatch.setattr(build, "onnx_graph", of_other_weights)
    with pytest.raises(
        EngineParityError, match=r"fp32 ONNX graph of slowfast_small is not used: probabilities differ"
    ):
        onnx_artifact(source, "fp32")
    assert not source.folder.exists()


def test_a_graph_that_was_changed_is_refused(source: Source) -> None:
    onnx_artifact(source, "fp32")
    source.onnx_path("fp32").write_bytes(b"something else")
    with pytest.raises(EngineArtifactError, match="does not match the digest"):
        onnx_artifact(source, "fp32")


@pytest.mark.parametrize("target", ["sm89", "sm121"])
def test_tensorrt_rtx_builds_for_gpus_that_are_not_here(
    source: Source, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, manifest = tensorrt_artifact(source, "tensorrt-rtx", "fp16", target)
    content, read = read_engine(path)
    assert len(content) > 100_000
    assert read == manifest
    assert manifest.target == target
    assert target in path.name
    assert manifest.awaits_device or device_target() == target
    assert manifest.gate.parity.accepted
    assert manifest.onnx == read_manifest(source.onnx_path("fp16")).artifact
    monkeypatch.setattr(build, "build_engine", forbidden)
    assert tensorrt_artifact(source, "tensorrt-rtx", "fp16", target) == (path, manifest)


def test_targets_do_not_share_engines(source: Source) -> None:
    graph = onnx_graph(source.network.backbone, source.size, "fp16")
    first, second = (build_engine("tensorrt-rtx", graph, target, 2) for target in ("sm89", "sm121"))
    assert first != second


def test_what_cannot_be_built_is_named(source: Source) -> None:
    assert {"sm75", "sm80", "sm86", "sm89", "sm120", "sm121"} <= set(targets_of("tensorrt-rtx"))
    with pytest.raises(EngineBuildError, match=r"has no target sm90: name one of sm75"):
        tensorrt_artifact(source, "tensorrt-rtx", "fp16", "sm90")
    with pytest.raises(EngineBuildError, match="does not understand the ONNX graph"):
        build_engine("tensorrt-rtx", b"no graph", "sm89", 1)


@pytest.mark.skipif(build.is_installed("tensorrt"), reason="tensorrt is installed")
def test_tensorrt_itself_is_named_where_it_is_not_installed(source: Source) -> None:
    with pytest.raises(EngineMissingError, match=r"pip install -e '\.\[tensorrt\]'"):
        tensorrt_artifact(source, "tensorrt", "fp16", "sm89")


def test_a_built_engine_is_seen_for_its_device_only(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    tensorrt_artifact(source, "tensorrt-rtx", "fp16", "sm89")

    def seen(target: str | None) -> bool:
        monkeypatch.setattr(build, "device_target", lambda device: target)
        return is_built(source, "tensorrt-rtx", "fp16")

    assert seen("sm89")
    assert not seen("sm121")
    assert not seen(None)
    assert not is_built(dataclasses.replace(source, size=(48, 96)), "tensorrt-rtx", "fp16")


def test_the_engine_of_each_size_is_opened_once(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EngineSpec("onnxruntime", source.folder)
    engine, choice = open_engine(spec, source.network, source.info, "cpu", source.sampler)
    assert choice.name == "onnxruntime"
    clips = torch.randint(0, 256, (2, 16, 48, 80, 3), dtype=torch.uint8)
    assert engine.pooled_maps(clips).shape == (2, 576, 3, 5)
    assert engine.pooled_maps(clips[:, :, :, :64]).shape == (2, 576, 3, 4)
    monkeypatch.setattr(build, "onnx_graph", forbidden)
    engine.pooled_maps(clips)
    again, _ = open_engine(spec, source.network, source.info, "cpu", source.sampler)
    again.pooled_maps(clips)
    assert len(list(source.folder.glob("*.onnx"))) == 2


def test_torch_needs_no_folder(source: Source) -> None:
    engine, choice = open_engine(
        EngineSpec("torch", source.folder), source.network, source.info, "cpu", source.sampler
    )
    assert choice.name == "torch"
    assert engine.pooled_maps(torch.zeros(1, 16, 48, 80, 3, dtype=torch.uint8)).shape == (1, 576, 3, 5)
    assert not source.folder.exists()
    assert not manifest_path(source.onnx_path("fp32")).exists()
