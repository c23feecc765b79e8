"""Whether an engine says what the checkpoint says: the gate that every engine has to pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.engines.base import Engine
from model.errors import EngineParityError
from model.network import ActionNetwork, ActionOutput
from model.pathways import to_pathways

MAX_DIFFERENCE = 0.01
"""Most by which a probability may differ."""
MIN_AGREEMENT = 0.995
"""Least share of the instances whose strongest behaviour is the same."""


_AT_ONCE = 4


@dataclass(frozen=True, slots=True, eq=False)
class SampleClips:
    """N clips and the M boxes of the individuals in them."""

    clips: NDArray[np.uint8]
    """At the network's size, shape ``(N, T, H, W, 3)``."""
    xyxy: NDArray[np.float32]
    """Fractions of width and height, shape ``(M, 4)``."""
    clip_index: NDArray[np.int64]
    """Which clip each box is of, ascending, shape ``(M,)``."""


Sampler = Callable[[int, tuple[int, int]], SampleClips]
"""Real clips of a number of frames at a height and width."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far two sets of outputs for the same boxes are apart."""

    instances: int
    """Boxes that were compared."""
    largest_difference: float
    """Of all probabilities of behaviours, reject and motion."""
    agreement: float
    """Share of the boxes whose strongest behaviour is the same."""

    @property
    def accepted(self) -> bool:
        """Whether the gate is passed; without any box it is not, nor where a probability is NaN."""
        return (
            self.instances > 0
            and self.largest_difference <= MAX_DIFFERENCE
            and self.agreement >= MIN_AGREEMENT
        )

    def __str__(self) -> str:
        return (
            f"probabilities differ by at most {self.largest_difference:.5f} (allowed {MAX_DIFFERENCE}), the strongest "
            f"behaviour agrees in {self.agreement:.2%} (at least {MIN_AGREEMENT:.1%}) of {self.instances} boxes"
        )


def parity(reference: ActionOutput, found: ActionOutput) -> Parity:
    """Compare the outputs for the same boxes; they may be on different devices."""
    expected, actual = probabilities(reference), probabilities(found)
    if expected.shape[0] == 0:
        return Parity(0, 0.0, 1.0)
    behaviours = reference.behaviour.shape[1]
    same = expected[:, :behaviours].argmax(dim=1) == actual[:, :behaviours].argmax(dim=1)
    return Parity(len(expected), float((expected - actual).abs().max()), float(same.double().mean()))


def probabilities(output: ActionOutput) -> Tensor:
    """Of the behaviours, of the reject score and of motion, float64 ``(M, C + 2)`` on the CPU."""
    columns = (
        output.behaviour.sigmoid(),
        output.other.sigmoid()[:, None],
        output.motion.softmax(dim=1)[:, 1:],
    )
    return torch.cat([column.detach().double().cpu() for column in columns], dim=1)


def compare(network: ActionNetwork, engine: Engine, sample: SampleClips) -> Parity:
    """The network in single precision on the CPU against an engine with the same heads on its own device."""
    on_cpu, on_device = copy.deepcopy(network).cpu(), copy.deepcopy(network).to(engine.device)
    expected = _outputs(on_cpu, lambda clips: on_cpu.backbone(*to_pathways(clips)), sample)
    return parity(expected, _outputs(on_device, engine.pooled_maps, sample))


def check(network: ActionNetwork, engine: Engine, sample: SampleClips, what: str) -> Parity:
    """The parity of an engine that passes the gate.

    Raises:
        EngineParityError: it does not pass.
    """
    result = compare(network, engine, sample)
    if not result.accepted:
        raise EngineParityError(
            f"{what} is not used: {result}; use another engine or precision for this checkpoint"
        )
    return result


@torch.inference_mode()
def _outputs(
    network: ActionNetwork, maps_of: Callable[[Tensor], Tensor], sample: SampleClips
) -> ActionOutput:
    """Outputs for all boxes, a few clips at a time."""
    parts = []
    for start in range(0, len(sample.clips), _AT_ONCE):
        maps = maps_of(torch.from_numpy(sample.clips[start : start + _AT_ONCE]))
        rows = (sample.clip_index >= start) & (sample.clip_index < start + _AT_ONCE)
        boxes = torch.from_numpy(sample.xyxy[rows]).to(maps.device)
        index = torch.from_numpy(sample.clip_index[rows] - start).to(maps.device)
        parts.append(network.score_maps(maps, boxes, index))
    return ActionOutput(
        torch.cat([part.behaviour for part in parts]),
        torch.cat([part.motion for part in parts]),
        torch.cat([part.other for part in parts]),
    )
