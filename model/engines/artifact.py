"""Engines in files: what is written beside each, and that none is loaded whose content is not what was written.

An engine of TensorRT is code. So a file counts only with its manifest, which is written last and carries the file's
digest; and whoever can write to the folder can run code as whoever loads from it, like with any program.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from model.errors import EngineArtifactError
from model.parity import Parity

FORMAT = "aviaflow.engine.1"
Kind = Literal["onnx", "tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True, slots=True)
class Gate:
    """One passage of the parity gate."""

    on: str
    """What ran the engine."""
    parity: Parity


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is known about an engine in a file."""

    kind: Kind
    architecture: str
    checkpoint: str
    """Digest of the checkpoint that it was made from."""
    size: tuple[int, int]
    """Height and width of its clips in pixels."""
    clip_frames: int
    precision: str
    """Of weights, maps, inputs and output."""
    onnx: str
    """sha256 of the ONNX graph."""
    artifact: str
    """sha256 of the file."""
    gate: Gate
    """Of the ONNX graph, run by onnxruntime."""
    device_gate: Gate | None = None
    """Of the engine on its own device; None where it was not there, and for ONNX, which has none."""
    target: str | None = None
    """Compute capability that TensorRT built for, as ``sm89``; None for ONNX."""
    most_clips: int | None = None
    """Largest batch that TensorRT built for; None for ONNX, which takes any."""
    versions: dict[str, str]
    """Of the packages that made it."""
    created: str
    """UTC, ISO 8601."""

    @property
    def awaits_device(self) -> bool:
        """Whether the gate is still to be passed on a device."""
        return self.kind != "onnx" and self.device_gate is None

    def has_passed_on(self, where: str) -> bool:
        """Whether the gate was passed on this very card: its target alone is what several kinds of card have."""
        return self.device_gate is not None and self.device_gate.on == where


def sha256(content: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


def now() -> str:
    """UTC to the second, ISO 8601."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def manifest_path(path: Path) -> Path:
    """Where the manifest of an engine lies."""
    return path.with_name(path.name + ".json")


def publish(path: Path, content: bytes, manifest: Manifest) -> None:
    """Write an engine and then its manifest, each in one step; until the second the first does not count."""
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest_path(path).unlink(missing_ok=True)
    _replace(path, content)
    write_manifest(path, manifest)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the manifest of an engine that is there."""
    document = {"format": FORMAT, **asdict(manifest)}
    _replace(manifest_path(path), (json.dumps(document, indent=1) + "\n").encode())


def discard(path: Path) -> None:
    """Remove an engine, its manifest first."""
    manifest_path(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def read_manifest(path: Path) -> Manifest:
    """The manifest of an engine.

    Raises:
        EngineArtifactError: there is none, or it is of another version.
    """
    where = manifest_path(path)
    try:
        document: dict[str, Any] = json.loads(where.read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        document["size"] = tuple(document["size"])
        for name in ("gate", "device_gate"):
            document[name] = _gate(document[name])
        return Manifest(**document)
    except FileNotFoundError:
        raise EngineArtifactError(f"{where}: there is no such manifest; run aviaflow export") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineArtifactError(
            f"{where}: not a manifest of this version ({error}); run aviaflow export again"
        ) from error


def read_engine(path: Path) -> tuple[bytes, Manifest]:
    """An engine and its manifest.

    Raises:
        EngineArtifactError: one of them is missing, or the engine is not the one that the manifest is about.
    """
    manifest = read_manifest(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EngineArtifactError(f"{path}: {error.strerror}; run aviaflow export again") from error
    if sha256(content) != manifest.artifact:
        raise EngineArtifactError(
            f"{path}: the content does not match the digest {manifest.artifact[:16]} of its manifest, so it is not "
            "loaded; delete it and run aviaflow export again"
        )
    return content, manifest


def with_device_gate(manifest: Manifest, gate: Gate) -> Manifest:
    """The manifest of an engine that passed on its device."""
    return replace(manifest, device_gate=gate)


def onnx_name(architecture: str, checkpoint: str, size: tuple[int, int], precision: str) -> str:
    """File name of the ONNX graph of a checkpoint."""
    return f"{architecture}-{checkpoint[:12]}-{size[0]}x{size[1]}-{precision}.onnx"


def engine_name(graph_name: str, *, onnx: str, kind: Kind, version: str, target: str, most_clips: int) -> str:
    """File name of an engine built from a graph.

    Its last part is a digest of all that it depends on: the graph, with its shapes and precision, TensorRT's
    version, the compute capability, and the largest batch.
    """
    key = sha256(json.dumps([onnx, graph_name, kind, version, target, most_clips]).encode())[:12]
    return f"{graph_name.removesuffix('.onnx')}-{kind}-{target}-{key}.engine"


def _gate(document: dict[str, Any] | None) -> Gate | None:
    return None if document is None else Gate(document["on"], Parity(**document["parity"]))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder of engines while one is made in it, so that processes of a machine do not make the same one twice.

    Raises:
        EngineArtifactError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("a")
    except OSError as error:
        raise EngineArtifactError(
            f"{folder}: no engines can be kept there ({error.strerror}); set infer.engine_dir to another folder"
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
