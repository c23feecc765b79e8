"""``aviaflow export``: a checkpoint as an engine in a file, with its manifest, through the parity gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.errors import ExportError
from model.checkpoint import load_checkpoint
from model.engines.artifact import Kind, Manifest, locked, manifest_path
from model.engines.build import Source, device_target, onnx_artifact, tensorrt_artifact
from model.engines.onnx_graph import Precision
from model.engines.tensorrt import targets_of
from model.pathways import input_size
from workers.simulate.clips import gate_clips

DEFAULT_VIDEO = (1920, 1080)


@dataclass(frozen=True, slots=True)
class Export:
    """An engine that was written, or was there."""

    path: Path
    manifest: Manifest

    def as_dict(self) -> dict[str, Any]:
        """As JSON values: where the two files are, and what the manifest says."""
        files = {"path": str(self.path), "manifest": str(manifest_path(self.path))}
        return {**files, "bytes": self.path.stat().st_size, **asdict(self.manifest)}


def export_checkpoint(
    checkpoint: Path,
    kind: Kind,
    out: Path,
    *,
    target: str | None = None,
    precision: Precision | None = None,
    video_size: tuple[int, int] = DEFAULT_VIDEO,
    progress: Callable[[str], None] = lambda _: None,
) -> Export:
    """Make an engine of a checkpoint in the folder ``out``.

    Args:
        checkpoint: file of the network.
        kind: ``onnx``, or the package of TensorRT that builds.
        out: folder for the engine and its manifest, and the ONNX graph that it was built from.
        target: compute capability that TensorRT builds for, as ``sm89``; None is the device of this machine.
        precision: of the graph; None is single for ONNX, half for TensorRT.
        video_size: width and height of the videos: the engine is for clips of their shape.
        progress: called with lines of words.

    Raises:
        ExportError: the target does not go with the engine or the machine.
        ModelError: the checkpoint cannot be read, a package is missing, or the engine does not pass the gate.
    """
    target = _target(kind, target)
    network, info = load_checkpoint(checkpoint)
    width, height = video_size
    source = Source(network, info, input_size(height, width, info.input_height), out, gate_clips)
    size = f"{source.size[0]}x{source.size[1]}"
    progress(
        f"{info.architecture} ({info.digest[:12]}) at {size}: exporting, and holding it against the checkpoint"
    )
    with locked(out):
        if kind == "onnx":
            chosen = precision or "fp32"
            return Export(source.onnx_path(chosen), onnx_artifact(source, chosen)[1])
        assert target is not None
        path, manifest = tensorrt_artifact(source, kind, precision or "fp16", target)
    return Export(path, manifest)


def describe_export(export: Export) -> str:
    """What was made and what the gate said, for a person to read."""
    manifest = export.manifest
    lines = [
        f"{export.path} ({export.path.stat().st_size / 2**20:.1f} MiB)",
        f"gate, {manifest.gate.on}: {manifest.gate.parity}",
    ]
    if manifest.device_gate is not None:
        lines.append(f"gate, {manifest.device_gate.on}: {manifest.device_gate.parity}")
    elif manifest.awaits_device:
        lines.append(f"gate on {manifest.target}: still to be passed, before the engine is used there first")
    lines.append(f"to use it: set infer.engine_dir to {export.path.parent}")
    return "\n".join(lines)


def _target(kind: Kind, wanted: str | None) -> str | None:
    if kind == "onnx":
        if wanted is not None:
            raise ExportError(f"--target {wanted}: an ONNX graph is for any device; leave it out")
        return None
    here = device_target()
    if wanted is None and here is None:
        known = targets_of(kind)
        hint = (
            f"name one of {', '.join(known)} with --target" if known else "run it on the machine with the GPU"
        )
        raise ExportError(f"--engine {kind}: there is no CUDA device to build for; {hint}")
    if wanted is not None and wanted != here and not targets_of(kind):
        raise ExportError(
            f"--target {wanted}: {kind} builds for the device of this machine only ({here or 'there is none'}); "
            "tensorrt-rtx builds for others"
        )
    return wanted or here
