"""Fill a network's backbone from published weights, strictly: every tensor is accounted for."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.errors import (
    CheckpointDigestError,
    CheckpointFormatError,
    CheckpointKeysError,
    CheckpointShapeError,
    UnfitWeightsError,
)
from model.network import ActionNetwork
from model.published.layouts import LAYOUTS, layout_of
from model.published.table import published_named

_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
"""What the weights in a transformers folder are called; the first that is there is read."""
_COUNTER = ".num_batches_tracked"
"""Batch norms count their batches; files converted from other frameworks do not have these counts."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of every tensor of the file, and of every tensor of the network."""

    path: str
    layout: str
    sha256: str
    """Of the file that was read, hexadecimal."""
    loaded: tuple[str, ...]
    """Names in the network that now hold published values."""
    left_out: tuple[str, ...]
    """Names in the file that have no use here: its heads."""
    missing: tuple[str, ...]
    """Names in the network that the file does not have and that stay as they were: heads and relations."""

    def words(self) -> str:
        """The report in one sentence."""
        parts = sorted({_part(name) for name in self.missing})
        return (
            f"{self.path} ({self.layout}, sha256 {self.sha256[:12]}): {len(self.loaded)} tensors loaded, "
            f"{len(self.left_out)} left out ({', '.join(sorted({_part(name) for name in self.left_out})) or 'none'}), "
            f"{len(self.missing)} of the network not in it ({', '.join(parts) or 'none'})"
        )


def load_named(network: ActionNetwork, name: str, path: Path, sha256: str | None) -> LoadReport:
    """Fill the backbone from published weights of that name.

    Args:
        network: its backbone is overwritten; heads stay as they are.
        name: one of ``PUBLISHED``.
        path: the file (or the transformers folder), or a folder in which it lies under the name that it has at
            its source.
        sha256: what the file must hash to, hexadecimal; of a transformers folder, its file of weights.

    Raises:
        UnknownWeightsError: there are no such weights.
        UnfitWeightsError: they are another architecture's.
        CheckpointFormatError: the file is not there, or is not what it should be.
        CheckpointDigestError: no checksum was given, or the file has another one.
        CheckpointKeysError: tensors are missing or too many.
        CheckpointShapeError: a tensor has the wrong shape.
    """
    weights = published_named(name)
    if network.architecture.name not in weights.architectures:
        raise UnfitWeightsError(
            f"{name} fits {', '.join(weights.architectures)}, not {network.architecture.name}: choose other weights "
            "or another architecture"
        )
    if path.is_dir() and not (path / "config.json").exists():
        path /= weights.file_name
    if not path.exists():
        raise CheckpointFormatError(
            f"{path}: no such file; {name} comes from {weights.url}, fetch it there first"
        )
    if sha256 is None:
        raise CheckpointDigestError(
            f"{path}: its publisher states no sha256, so loading by name needs the one that you trust; this file "
            f"has {_sha256(_file_of(path))}"
        )
    return load_published(network, path, layout=weights.layout, sha256=sha256)


def load_published(
    network: ActionNetwork, path: Path, *, layout: str | None = None, sha256: str | None = None
) -> LoadReport:
    """Fill the backbone from a local file of a published layout, or a local transformers folder.

    Files are read with ``weights_only=True``, so that no code in them runs.

    Args:
        network: its backbone is overwritten; heads stay as they are. Nothing changes where this raises.
        path: the file or folder.
        layout: the only layout that is accepted; by default any, told by the tensors' names.
        sha256: what the file must hash to, hexadecimal; by default it is not checked.

    Raises:
        CheckpointFormatError: the file is absent or holds no published weights.
        CheckpointDigestError: the file does not have the checksum.
        CheckpointKeysError: tensors are missing or too many, or the layout is another one.
        CheckpointShapeError: a tensor has the wrong shape, as those of the 4x16 checkpoint have.
    """
    file = _file_of(path)
    digest = _checked_sha256(file, sha256)
    tensors = _read(file)
    found = layout_of(tensors, path)
    if layout is not None and found is not LAYOUTS[layout]:
        raise CheckpointKeysError(f"{path}: its layout is '{found.name}', but '{layout}' is expected")
    named = {name: found.backbone_name(name) for name in tensors}
    source = {here: tensors[name] for name, here in named.items() if here is not None}
    target = network.backbone.state_dict()
    _check_fit(target, source, path, network.architecture.name, found.name)
    with torch.no_grad():
        for name, tensor in source.items():
            target[name].copy_(tensor)
    loaded = tuple(f"backbone.{name}" for name in source)
    return LoadReport(
        path=str(path),
        layout=found.name,
        sha256=digest,
        loaded=loaded,
        left_out=tuple(name for name, here in named.items() if here is None),
        missing=tuple(name for name in network.state_dict() if name not in set(loaded)),
    )


def _check_fit(
    target: Mapping[str, Tensor], source: Mapping[str, Tensor], path: Path, architecture: str, layout: str
) -> None:
    missing = sorted(name for name in target.keys() - source.keys() if not name.endswith(_COUNTER))
    extra = sorted(source.keys() - target.keys())
    if missing or extra:
        raise CheckpointKeysError(
            f"{path}: its layout is '{layout}', which does not fit {architecture}: {len(missing)} tensors are missing "
            f"(first: {missing[:3]}), {len(extra)} are too many (first: {extra[:3]})"
        )
    for name, tensor in source.items():
        if tensor.shape != target[name].shape:
            raise CheckpointShapeError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, but {architecture} needs "
                f"{tuple(target[name].shape)}, so this is a checkpoint of another variant (SlowFast 4x16 differs from "
                "8x8 in its fusion, for example); use the one named by 'aviaflow models'"
            )


def _file_of(path: Path) -> Path:
    """The file of weights: ``path`` itself, or the one in a transformers folder for VideoMAE."""
    if not path.is_dir():
        if not path.is_file():
            raise CheckpointFormatError(f"{path}: no such file or folder of published weights")
        return path
    config = path / "config.json"
    try:
        kind = json.loads(config.read_text()).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointFormatError(
            f"{config}: no transformers configuration can be read ({error})"
        ) from error
    if kind != "videomae":
        raise CheckpointFormatError(f"{config}: its model_type is {kind!r}, but 'videomae' is needed")
    for name in _FOLDER_FILES:
        if (path / name).is_file():
            return path / name
    raise CheckpointFormatError(f"{path}: neither {' nor '.join(_FOLDER_FILES)} is in it")


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointFormatError(
            f"{file}: cannot be read as weights alone, without running code of the file ({reason})"
        ) from error
    if file.suffix != ".bin":
        content = content.get("model_state") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointFormatError(
            f"{file}: no 'model_state' with tensors in it, so it is no published checkpoint of this kind"
        )
    return content


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checked_sha256(file: Path, expected: str | None) -> str:
    digest = _sha256(file)
    if expected is not None and digest != expected.strip().lower():
        raise CheckpointDigestError(
            f"{file}: its sha256 is {digest}, not the expected {expected.strip().lower()}: fetch it again"
        )
    return digest


def _part(name: str) -> str:
    """The part of a network that a tensor belongs to: ``heads.motion``, ``blocks.6``, ``counts of batch norms``."""
    if name.endswith(_COUNTER):
        return "counts of batch norms"
    parts = re.match(r"[^.]+(\.[^.]+)?", name)
    return parts[0] if parts else name
