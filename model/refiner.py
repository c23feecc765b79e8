"""The refiner: an individual's scores in the light of what it did just before and after.

A clip lasts a second, in which a drowsy bird that stands upright looks like a watchful one; over ten seconds it does
not turn its head. One stage of a temporal convolutional network with dilated residual layers (Farha and Gall, MS-TCN,
CVPR 2019) reads an individual's stored scores and the shape of its boxes, and nothing else, and says which one
behaviour holds at each keyframe. It belongs to the network whose scores it has learnt to read.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import relu

from model.detector import content_digest
from model.errors import CheckpointDigestError, CheckpointFormatError, CheckpointKeysError

FORMAT = "aviaflow-refiner-1"
MAX_LOGIT = 8.0
"""Surer scores than this carry no more information; as a probability 0.9997."""
LOGIT_UNIT = 4.0
MOTION, HEIGHT, WIDTH, PRESENT = range(4)
"""Channels that follow those of the behaviours."""
OTHER_CHANNELS = 4

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class RefinerShape:
    """Everything that decides the shapes of the tensors."""

    channels: int = 32
    layers: int = 6
    """Layer k looks 2^k keyframes to either side: six of them 63 keyframes, 17 s."""


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


class Refiner(nn.Module):
    """One stage of MS-TCN over ``(B, C + 4, L)`` series, with the scores themselves added to its output."""

    def __init__(
        self, num_behaviours: int, shape: RefinerShape = RefinerShape(), dropout: float = 0.0
    ) -> None:
        super().__init__()
        width = shape.channels
        self.num_behaviours = num_behaviours
        self.enter = nn.Conv1d(num_behaviours + OTHER_CHANNELS, width, 1)
        self.dilated = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=2**layer, dilation=2**layer) for layer in range(shape.layers)
        )
        self.mixing = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(shape.layers))
        self.leave = nn.Conv1d(width, num_behaviours, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, series: Tensor) -> Tensor:
        """Logits of the behaviours, of which one holds, shape ``(B, C, L)``."""
        hidden = self.enter(series)
        for dilated, mixing in zip(self.dilated, self.mixing, strict=True):
            hidden = hidden + self.dropout(mixing(relu(dilated(hidden))))
        logits: Tensor = self.leave(hidden) + LOGIT_UNIT * series[:, : self.num_behaviours]
        return logits


def series_channels(
    place: NDArray[np.int64], p_behaviour: Floats, p_dynamic: Floats, xyxy: Floats
) -> NDArray[np.float32]:
    """What the refiner reads of one individual, shape ``(C + 4, L)``, L from its first keyframe to its last.

    Args:
        place: number of each sample's keyframe, shape ``(N,)``, N at least 1.
        p_behaviour: probabilities ``(N, C)``; a sample without any (NaN) is as good as unseen.
        p_dynamic: of moving, ``(N,)``.
        xyxy: boxes ``(N, 4)`` in any unit; only their size against the individual's own median counts.
    """
    column = place - place.min()
    known = ~np.isnan(p_behaviour).any(axis=1)
    channels = np.zeros((p_behaviour.shape[1] + OTHER_CHANNELS, int(column.max()) + 1), np.float32)
    if not known.any():
        return channels
    size = np.log2(np.maximum(xyxy[:, 2:] - xyxy[:, :2], 1e-4)).astype(np.float64)
    relative = np.clip(size - np.median(size[known], axis=0), -1.0, 1.0)
    shape_and_motion = np.stack(
        [
            _logit(np.nan_to_num(p_dynamic, nan=0.5)),
            2.0 * relative[:, 1],
            2.0 * relative[:, 0],
            np.ones(len(column)),
        ]
    )
    seen = column[known]
    channels[: p_behaviour.shape[1], seen] = _logit(p_behaviour[known]).T
    channels[p_behaviour.shape[1] :, seen] = shape_and_motion[:, known]
    return channels


def _logit(probability: Floats) -> NDArray[np.float64]:
    p = np.clip(probability.astype(np.float64), 1e-6, 1.0 - 1e-6)
    logit: NDArray[np.float64] = np.clip(np.log(p) - np.log1p(-p), -MAX_LOGIT, MAX_LOGIT) / LOGIT_UNIT
    return logit


@torch.inference_mode()
def refine(
    refiner: Refiner, place: NDArray[np.int64], p_behaviour: Floats, p_dynamic: Floats, xyxy: Floats
) -> NDArray[np.float32]:
    """Probabilities ``(N, C)`` of the behaviours, which add up to one; NaN where there was no score.

    The arguments are those of :func:`series_channels`.
    """
    series = torch.from_numpy(series_channels(place, p_behaviour, p_dynamic, xyxy))
    refined = refiner(series[None])[0].softmax(dim=0).numpy()[:, place - place.min()].T
    unknown = np.isnan(p_behaviour).any(axis=1, keepdims=True)
    result: NDArray[np.float32] = np.where(unknown, np.float32(np.nan), refined)
    return result


def save_refiner(
    refiner: Refiner,
    path: Path,
    shape: RefinerShape,
    behaviours: tuple[str, ...],
    *,
    reads: str,
    trained_on: str,
) -> RefinerInfo:
    """Write the weights to ``path`` in one atomic step, and return what was written about them."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in refiner.state_dict().items()}
    facts = {"shape": asdict(shape), "behaviours": list(behaviours), "reads": reads, "trained_on": trained_on}
    digest = content_digest(tensors, facts)
    metadata = {"format": FORMAT, "facts": json.dumps({**facts, "digest": digest}, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(save(tensors, metadata))
    temporary.replace(path)
    return RefinerInfo(shape, behaviours, reads, trained_on, digest)


def load_refiner(path: Path) -> tuple[Refiner, RefinerInfo]:
    """A refiner in evaluation mode, and what its file says about it.

    Raises:
        CheckpointFormatError: the file cannot be read, or is no refiner of this project.
        CheckpointDigestError: its content is not what was written.
        CheckpointKeysError: its tensors are not those of its shape.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no iterator
    except (OSError, SafetensorError) as error:
        raise CheckpointFormatError(f"{path}: cannot be read as a refiner: {error}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointFormatError(
            f"{path}: no refiner of this project: its format is {metadata.get('format')!r}"
        )
    facts = json.loads(metadata["facts"])
    digest = facts.pop("digest")
    if content_digest(tensors, facts) != digest:
        raise CheckpointDigestError(
            f"{path}: damaged: its content does not match the digest {digest[:12]} in it"
        )
    info = RefinerInfo(
        RefinerShape(**facts["shape"]),
        tuple(facts["behaviours"]),
        facts["reads"],
        facts["trained_on"],
        digest,
    )
    refiner = Refiner(len(info.behaviours), info.shape)
    try:
        refiner.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointKeysError(f"{path}: its tensors are not those of {info.shape}: {error}") from error
    return refiner.eval().requires_grad_(False), info


def embedded_refiner() -> Path:
    """The one that ships with the project; it reads the scores of the embedded checkpoint."""
    return Path(__file__).parent / "weights" / "slowfast_small.refiner.safetensors"
