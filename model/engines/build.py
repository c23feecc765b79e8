"""From a checkpoint to an engine in a file, through the parity gate."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from model.checkpoint import CheckpointInfo
from model.engines.artifact import (
    Gate,
    Kind,
    Manifest,
    discard,
    engine_name,
    manifest_path,
    now,
    onnx_name,
    publish,
    read_engine,
    sha256,
    with_device_gate,
    write_manifest,
)
from model.engines.choice import TensorRtName, is_installed
from model.engines.onnx_engine import OnnxEngine
from model.engines.onnx_graph import Precision, onnx_graph
from model.engines.tensorrt import build_engine, version_of
from model.engines.tensorrt_engine import TensorRtEngine
from model.errors import EngineArtifactError, EngineParityError
from model.network import ActionNetwork
from model.parity import Sampler, check

MOST_CLIPS = 16
"""Largest batch that TensorRT builds for; larger ones are computed in parts."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What an engine is made from."""

    network: ActionNetwork
    info: CheckpointInfo
    size: tuple[int, int]
    """Height and width of the clips."""
    folder: Path
    """Where engines are kept."""
    sampler: Sampler
    """Brings the clips on which the engine is held against the checkpoint."""

    def onnx_path(self, precision: Precision) -> Path:
        """Where the ONNX graph of a precision lies, or will."""
        return self.folder / onnx_name(self.info.architecture, self.info.digest, self.size, precision)


def onnx_artifact(source: Source, precision: Precision) -> tuple[bytes, Manifest]:
    """The ONNX graph of a checkpoint: from the folder, or exported and put there once it has passed the gate.

    Raises:
        EngineMissingError: a package that exports or runs it is not installed.
        EngineArtifactError: the one in the folder was changed after it was written.
        EngineParityError: it says something else than the checkpoint; nothing is left in the folder.
    """
    path = source.onnx_path(precision)
    if manifest_path(path).exists():
        return read_engine(path)
    graph = onnx_graph(source.network.backbone, source.size, precision)
    engine = OnnxEngine(graph, torch.get_num_threads())
    sample = source.sampler(source.info.clip_frames, source.size)
    found = check(source.network, engine, sample, f"the {precision} ONNX graph of {source.info.architecture}")
    on = f"onnxruntime {importlib.metadata.version('onnxruntime')} on {platform.machine()}"
    manifest = Manifest(
        kind="onnx",
        architecture=source.info.architecture,
        checkpoint=source.info.digest,
        size=source.size,
        clip_frames=source.info.clip_frames,
        precision=precision,
        onnx=sha256(graph),
        artifact=sha256(graph),
        gate=Gate(on, found),
        versions=_versions("torch", "onnx", "onnxscript", "onnxruntime"),
        created=now(),
    )
    publish(path, graph, manifest)
    return graph, manifest


def engine_path(source: Source, onnx: str, package: TensorRtName, precision: Precision, target: str) -> Path:
    """Where an engine of TensorRT lies, or will; its name depends on all that the engine does."""
    name = engine_name(
        source.onnx_path(precision).name,
        onnx=onnx,
        kind=package,
        version=version_of(package),
        target=target,
        most_clips=MOST_CLIPS,
    )
    return source.folder / name


def tensorrt_artifact(
    source: Source, package: TensorRtName, precision: Precision, target: str
) -> tuple[Path, Manifest]:
    """An engine of TensorRT: from the folder, or built and put there.

    Where this machine has the device, the engine passes the gate on it before it is kept. Elsewhere its ONNX graph
    has passed, and the manifest says that the device is still to come: :func:`open_tensorrt` sees to it.

    Raises:
        EngineMissingError: the package is not installed, or needs a device that is not there.
        EngineBuildError: it cannot build the graph, or has no such target.
        EngineArtifactError: what is in the folder was changed after it was written.
        EngineParityError: the engine says something else than the checkpoint; it is not kept.
    """
    graph, of_graph = onnx_artifact(source, precision)
    path = engine_path(source, of_graph.onnx, package, precision, target)
    if manifest_path(path).exists():
        return path, read_engine(path)[1]
    content = build_engine(package, graph, target, MOST_CLIPS)
    manifest = Manifest(
        kind=package,
        architecture=of_graph.architecture,
        checkpoint=of_graph.checkpoint,
        size=of_graph.size,
        clip_frames=of_graph.clip_frames,
        precision=precision,
        onnx=of_graph.onnx,
        artifact=sha256(content),
        gate=of_graph.gate,
        target=target,
        most_clips=MOST_CLIPS,
        versions=of_graph.versions | {package: version_of(package)},
        created=now(),
    )
    if target == device_target():
        engine = _deserialised(package, content, precision, "cuda")
        manifest = with_device_gate(manifest, _device_gate(source, engine, package))
    publish(path, content, manifest)
    return path, manifest


def open_tensorrt(
    source: Source, package: TensorRtName, precision: Precision, device: str = "cuda"
) -> TensorRtEngine:
    """An engine of TensorRT for a device of this machine, built if need be, that has passed the gate on it.

    Raises:
        EngineMissingError, EngineBuildError, EngineArtifactError: as :func:`tensorrt_artifact`.
        EngineParityError: it says something else than the checkpoint; it is removed.
    """
    target = device_target(device)
    if target is None:
        raise EngineArtifactError(f"{device}: there is no such device; set infer.engine to auto")
    path, _ = tensorrt_artifact(source, package, precision, target)
    content, manifest = read_engine(path)
    engine = _deserialised(package, content, precision, device)
    if not manifest.has_passed_on(_card(package, engine)):
        try:
            gate = _device_gate(source, engine, package)
        except EngineParityError:
            discard(path)
            raise
        write_manifest(path, with_device_gate(manifest, gate))
    return engine


def is_built(source: Source, package: TensorRtName, precision: Precision, device: str = "cuda") -> bool:
    """Whether the folder has an engine for this checkpoint, size and device; none is built."""
    target, path = device_target(device), source.onnx_path(precision)
    if target is None or not is_installed(package) or not manifest_path(path).exists():
        return False
    _, manifest = read_engine(path)
    return manifest_path(engine_path(source, manifest.onnx, package, precision, target)).exists()


def device_target(device: str = "cuda") -> str | None:
    """Compute capability of a device, as ``sm89``; None where there is no CUDA."""
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm{major}{minor}"


def _deserialised(package: TensorRtName, content: bytes, precision: Precision, device: str) -> TensorRtEngine:
    return TensorRtEngine(package, content, precision=precision, most_clips=MOST_CLIPS, device=device)


def _device_gate(source: Source, engine: TensorRtEngine, package: Kind) -> Gate:
    sample = source.sampler(source.info.clip_frames, source.size)
    card = _card(package, engine)
    return Gate(card, check(source.network, engine, sample, f"the engine of {card}"))


def _card(package: Kind, engine: TensorRtEngine) -> str:
    return f"{package} on {torch.cuda.get_device_name(engine.device)}"


def _versions(*packages: str) -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in packages}
