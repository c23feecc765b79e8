"""Checkpoints: safetensors with the facts that are needed to use them, never a pickle of this project's own.

The metadata names the architecture, the behaviours in the order of the outputs and what the network was
trained on, and carries a sha256 digest of tensors and metadata together, so that neither can be swapped
unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from model.backbones import architecture_named
from model.errors import (
    CheckpointDigestError,
    CheckpointFormatError,
    CheckpointKeysError,
    CheckpointShapeError,
)
from model.network import ActionNetwork

FORMAT = "aviaflow.checkpoint.1"
_METADATA_KEY = "aviaflow"


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a checkpoint says about itself."""

    architecture: str
    behaviours: tuple[str, ...]
    """Names in the order of the behaviour logits."""
    input_height: int
    """Lines at which the network was trained."""
    trained_on: str
    """One line for every output that it makes, as ``trained on simulated birds``."""
    ethogram: str
    """Name of the ethogram whose behaviours these are."""
    digest: str
    """sha256 of tensors and metadata, hexadecimal."""

    @property
    def clip_frames(self) -> int:
        """Frames of a clip on the 15 Hz grid."""
        return architecture_named(self.architecture).clip_frames


def embedded_checkpoint() -> Path:
    """The weights that ship with the project: ``slowfast_small``, trained on simulated birds."""
    return Path(__file__).parent / "weights" / "slowfast_small.safetensors"


def save_checkpoint(network: ActionNetwork, path: Path, *, trained_on: str, ethogram: str) -> CheckpointInfo:
    """Write the network to ``path`` in one atomic step and return what was written about it.

    Weights of two and more dimensions are stored in half precision, all else (norms, biases) in single.
    """
    tensors = {
        name: (tensor.half() if tensor.ndim > 1 else tensor).detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    facts = {
        "format": FORMAT,
        "architecture": network.architecture.name,
        "behaviours": list(network.behaviours),
        "input_height": network.architecture.input_height,
        "trained_on": trained_on,
        "ethogram": ethogram,
    }
    digest = _digest(tensors, facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    metadata = {_METADATA_KEY: json.dumps({**facts, "digest": digest})}
    temporary.write_bytes(save(tensors, metadata=metadata))
    temporary.replace(path)
    return _info(path, facts, digest)


def load_checkpoint(path: Path) -> tuple[ActionNetwork, CheckpointInfo]:
    """The network of a checkpoint, in evaluation mode on the CPU in single precision, and its facts.

    Raises:
        CheckpointFormatError: the file is no checkpoint, or its metadata is incomplete.
        CheckpointDigestError: its content was changed after it was written.
        UnknownArchitectureError: this version does not have its architecture.
        MissingExtraError: its architecture needs a package that is not installed.
        CheckpointKeysError: tensors are missing or too many.
        CheckpointShapeError: a tensor has the wrong shape.
    """
    tensors, metadata = _read(path)
    digest = metadata.pop("digest", None)
    info = _info(path, metadata, str(digest))
    if digest != _digest(tensors, metadata):
        raise CheckpointDigestError(
            f"{path}: the content does not match its sha256 digest {digest}: fetch or train it again"
        )
    expected_height = architecture_named(info.architecture).input_height
    if info.input_height != expected_height:
        raise CheckpointFormatError(
            f"{path}: input height {info.input_height}, but {info.architecture} has {expected_height}"
        )
    network = ActionNetwork(info.architecture, info.behaviours)
    _fill(network.state_dict(), tensors, path)
    return network.eval(), info


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[_METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointFormatError(
            f"{path}: no such checkpoint; run 'make weights' or name another one"
        ) from None
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointFormatError(f"{path}: not a checkpoint of this project ({error!r})") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise CheckpointFormatError(f"{path}: its metadata does not say {FORMAT}")
    return tensors, metadata


def _info(path: Path, facts: Mapping[str, object], digest: str) -> CheckpointInfo:
    behaviours, input_height = facts.get("behaviours"), facts.get("input_height")
    words = {name: facts.get(name) for name in ("architecture", "trained_on", "ethogram")}
    if (
        not isinstance(behaviours, list)
        or not isinstance(input_height, int)
        or not all(isinstance(word, str) for word in words.values())
    ):
        raise CheckpointFormatError(f"{path}: its metadata is incomplete: {dict(facts)}")
    names = tuple(str(name) for name in behaviours)
    return CheckpointInfo(
        str(words["architecture"]),
        names,
        input_height,
        str(words["trained_on"]),
        str(words["ethogram"]),
        digest,
    )


def _fill(target: dict[str, Tensor], source: Mapping[str, Tensor], path: Path) -> None:
    missing, extra = sorted(target.keys() - source.keys()), sorted(source.keys() - target.keys())
    if missing or extra:
        raise CheckpointKeysError(
            f"{path}: {len(missing)} tensors are missing (first: {missing[:3]}), {len(extra)} are too many "
            f"(first: {extra[:3]})"
        )
    for name, tensor in target.items():
        if tensor.shape != source[name].shape:
            raise CheckpointShapeError(
                f"{path}: {name} has shape {tuple(source[name].shape)}, but the architecture needs "
                f"{tuple(tensor.shape)}"
            )
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(source[name])


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> str:
    sha = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
