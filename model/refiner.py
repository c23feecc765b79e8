"""The refiner: an individual's scores in the light of what it did just before and after.

A clip lasts a second, in which a drowsy bird that stands upright looks like a watchful one; over ten seconds it does
not turn its head. One stage of a temporal convolutional network with dilated residual layers (Farha and Gall, MS-TCN,
CVPR 2019) reads an individual's stored scores and the shape of its boxes, and nothing else, and says which one
behaviour holds at each keyframe. It belongs to the network whose scores it has learnt to read. Several that were taught
alike but for their random numbers answer together: one alone differs from the next where the scores are ambiguous.

Events are derived in many short processes, so it is plain numpy here; ``model/refiner_training.py`` teaches it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from model.errors import CheckpointDigestError, CheckpointFormatError, CheckpointKeysError

FORMAT = "aviaflow-refiner-3"
MAX_LOGIT = 8.0
"""Surer scores than this carry no more information; as a probability 0.9997."""
LOGIT_UNIT = 4.0
OCTAVE = 2.0
"""A box of twice the median's height or width."""
OTHER_CHANNELS = 4
"""After those of the behaviours: motion, height, width, and whether there is a score at all."""
REFERENCE_KEYFRAMES = 675
"""Three minutes: a box is large or small against the median of so many keyframes around it. Over a night a bird comes
nearer and goes away, and what it did hours ago says nothing of how it stands now."""
REFERENCE_STEP = 15
"""Keyframes, 4 s, that share one median."""

Floats = NDArray[np.floating[Any]]
Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class RefinerShape:
    """Everything that decides the shapes of the tensors."""

    channels: int = 32
    layers: int = 6
    """Layer k looks 2^k keyframes to either side: six of them 63 keyframes, 17 s."""
    members: int = 3
    """Networks whose logits are averaged."""

    def tensors(self, num_behaviours: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all tensors; the members come first."""
        width = self.channels
        shapes: dict[str, tuple[int, ...]] = {
            "enter.weight": (width, num_behaviours + OTHER_CHANNELS, 1),
            "enter.bias": (width,),
            "leave.weight": (num_behaviours, width, 1),
            "leave.bias": (num_behaviours,),
        }
        for layer in range(self.layers):
            shapes |= {f"dilated.{layer}.weight": (width, width, 3), f"dilated.{layer}.bias": (width,)}
            shapes |= {f"mixing.{layer}.weight": (width, width, 1), f"mixing.{layer}.bias": (width,)}
        return {name: (self.members, *shape) for name, shape in shapes.items()}


@dataclass(frozen=True, slots=True)
class RefinerInfo:
    """What a file of weights says about itself."""

    shape: RefinerShape
    behaviours: tuple[str, ...]
    """In the order of the scores."""
    reads: str
    """Digest of the checkpoint whose scores it has learnt to read."""
    trained_on: str
    """In words, as ``simulated birds``; every table that it has a part in repeats it."""
    digest: str
    """sha256 of the tensors and of everything above, 64 hex digits."""


@dataclass(frozen=True, slots=True, eq=False)
class Refiner:
    """The mean of single stages of MS-TCN, with the scores themselves added to its output."""

    shape: RefinerShape
    tensors: Tensors

    def logits(self, series: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the behaviours, of which one holds: ``(C, L)`` from channels ``(C + 4, L)``."""
        hidden = self._point("enter", series)
        length = series.shape[1]
        for layer in range(self.shape.layers):
            reach = 2**layer
            wide = np.pad(hidden, ((0, 0), (0, 0), (reach, reach)))
            weight = self.tensors[f"dilated.{layer}.weight"]
            seen = sum(weight[..., k] @ wide[..., k * reach : k * reach + length] for k in range(3))
            around = seen + self.tensors[f"dilated.{layer}.bias"][..., None]
            hidden = hidden + self._point(f"mixing.{layer}", np.maximum(around, np.float32(0)))
        left = self._point("leave", hidden).mean(axis=0)
        logits: NDArray[np.float32] = left + np.float32(LOGIT_UNIT) * series[: len(left)]
        return logits

    def _point(self, name: str, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = (
            self.tensors[f"{name}.weight"][..., 0] @ channels + self.tensors[f"{name}.bias"][..., None]
        )
        return result


def series_channels(
    place: NDArray[np.int64], p_behaviour: Floats, p_dynamic: Floats, xyxy: Floats
) -> NDArray[np.float32]:
    """What the refiner reads of one individual, shape ``(C + 4, L)``, L from its first keyframe to its last.

    Args:
        place: number of each sample's keyframe, shape ``(N,)``, N at least 1.
        p_behaviour: probabilities ``(N, C)``; a sample without any (NaN) is as good as unseen.
        p_dynamic: of moving, ``(N,)``.
        xyxy: boxes ``(N, 4)`` in any unit; only their size against the individual's own median around it counts.
    """
    column = place - place.min()
    known = ~np.isnan(p_behaviour).any(axis=1)
    channels = np.zeros((p_behaviour.shape[1] + OTHER_CHANNELS, int(column.max()) + 1), np.float32)
    if not known.any():
        return channels
    size = np.log2(np.maximum(xyxy[:, 2:] - xyxy[:, :2], 1e-4)).astype(np.float64)
    relative = np.clip(size - _reference(column, column[known], size[known]), -1.0, 1.0)
    shape_and_motion = np.stack(
        [
            _logit(np.nan_to_num(p_dynamic, nan=0.5)),
            OCTAVE * relative[:, 1],
            OCTAVE * relative[:, 0],
            np.ones(len(column)),
        ]
    )
    seen = column[known]
    channels[: p_behaviour.shape[1], seen] = _logit(p_behaviour[known]).T
    channels[p_behaviour.shape[1] :, seen] = shape_and_motion[:, known]
    return channels


def _reference(column: NDArray[np.int64], known: NDArray[np.int64], size: Floats) -> NDArray[np.float64]:
    """Median size of the known samples around each sample, ``(N, 2)``; up to three minutes have one for all.

    The window has the same length everywhere: at the ends of the series it lies to one side.
    """
    middle = column // REFERENCE_STEP * REFERENCE_STEP + REFERENCE_STEP // 2
    last = max(0, int(column.max()) + 1 - REFERENCE_KEYFRAMES)
    first = np.clip(middle - REFERENCE_KEYFRAMES // 2, 0, last)
    reference: NDArray[np.float64] = np.tile(np.median(size, axis=0), (len(column), 1))
    for start in np.unique(first).tolist():
        begin, end = np.searchsorted(known, [start, start + REFERENCE_KEYFRAMES])
        if begin < end:
            reference[first == start] = np.median(size[begin:end], axis=0)
    return reference


def _logit(probability: Floats) -> NDArray[np.float64]:
    p = np.clip(probability.astype(np.float64), 1e-6, 1.0 - 1e-6)
    logit: NDArray[np.float64] = np.clip(np.log(p) - np.log1p(-p), -MAX_LOGIT, MAX_LOGIT) / LOGIT_UNIT
    return logit


def refine(
    refiner: Refiner, place: NDArray[np.int64], p_behaviour: Floats, p_dynamic: Floats, xyxy: Floats
) -> NDArray[np.float32]:
    """Probabilities ``(N, C)`` of the behaviours, which add up to one; NaN where there was no score.

    The arguments are those of :func:`series_channels`.
    """
    logits = refiner.logits(series_channels(place, p_behaviour, p_dynamic, xyxy))[:, place - place.min()].T
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    unknown = np.isnan(p_behaviour).any(axis=1, keepdims=True)
    result: NDArray[np.float32] = np.where(
        unknown, np.float32(np.nan), odds / odds.sum(axis=1, keepdims=True)
    )
    return result


def save_refiner(
    refiner: Refiner, path: Path, behaviours: tuple[str, ...], *, reads: str, trained_on: str
) -> RefinerInfo:
    """Write the weights to ``path`` in one atomic step, and return what was written about them."""
    facts = {
        "shape": asdict(refiner.shape),
        "behaviours": list(behaviours),
        "reads": reads,
        "trained_on": trained_on,
    }
    digest = _digest(refiner.tensors, facts)
    metadata = {"format": FORMAT, "facts": json.dumps({**facts, "digest": digest}, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(save(dict(refiner.tensors), metadata=metadata))
    temporary.replace(path)
    return RefinerInfo(refiner.shape, behaviours, reads, trained_on, digest)


def load_refiner(path: Path) -> tuple[Refiner, RefinerInfo]:
    """A refiner and what its file says about it.

    Raises:
        CheckpointFormatError: the file cannot be read, or is no refiner of this project.
        CheckpointDigestError: its content is not what was written.
        CheckpointKeysError: its tensors are not those of its shape.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no iterator
    except (OSError, SafetensorError) as error:
        raise CheckpointFormatError(f"{path}: cannot be read as a refiner: {error}") from error
    written = str(metadata.get("format"))
    if written != FORMAT:
        earlier = written.startswith(FORMAT.rpartition("-")[0])
        raise CheckpointFormatError(
            f"{path}: a refiner of another version ({written}, not {FORMAT}); teach it anew with aviaflow train-refiner"
            if earlier
            else f"{path}: no refiner of this project: its format is {written!r}, not {FORMAT!r}"
        )
    facts = json.loads(metadata["facts"])
    digest = facts.pop("digest")
    if _digest(tensors, facts) != digest:
        raise CheckpointDigestError(
            f"{path}: damaged: its content does not match the digest {digest[:12]} in it"
        )
    shape = RefinerShape(**facts["shape"])
    info = RefinerInfo(shape, tuple(facts["behaviours"]), facts["reads"], facts["trained_on"], digest)
    if {name: tensor.shape for name, tensor in tensors.items()} != shape.tensors(len(info.behaviours)):
        raise CheckpointKeysError(f"{path}: its tensors are not those of {shape}")
    return Refiner(shape, tensors), info


def _digest(tensors: Tensors, facts: Mapping[str, object]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def embedded_refiner() -> Path:
    """The one that ships with the project; it reads the scores of the embedded checkpoint."""
    return Path(__file__).parent / "weights" / "slowfast_small.refiner.safetensors"
