"""What an architecture costs: parameters, multiply-accumulates of one clip, and clips per second here."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model.backbones import Architecture
from model.engines.torch_engine import torch_engine
from model.network import ActionNetwork
from model.pathways import input_size

SCENE_ASPECT = (9, 16)
"""Height to width of the scenes that the cost is given for."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Size and arithmetic of one architecture; every convolution and matrix product is counted, nothing else."""

    backbone_parameters: int
    network_parameters: int
    """With the heads for behaviour, motion and reject."""
    clip_macs: int
    """Multiply-accumulates of the backbone for one clip."""
    box_macs: int
    """Multiply-accumulates of heads, and of relations where there are any, for one box in one clip."""


def scene_size(architecture: Architecture) -> tuple[int, int]:
    """Height and width at which the network sees a 16:9 scene."""
    return input_size(*SCENE_ASPECT, architecture.input_height)


def count_cost(architecture: Architecture, num_behaviours: int, size: tuple[int, int]) -> Cost:
    """Count without computing: the network and its input have shapes and no content.

    Args:
        architecture: what is counted.
        num_behaviours: outputs of the behaviour head.
        size: height and width of the input in pixels.

    Raises:
        MissingExtraError: the architecture needs a package that is not installed.
    """
    names = [f"behaviour {number}" for number in range(num_behaviours)]
    with torch.device("meta"), torch.inference_mode():
        network = _network(architecture, names)
        slow, fast = _clip(architecture, size)
        with FlopCounterMode(display=False) as of_clip:
            maps = network.backbone(slow, fast)
        vectors, index = torch.zeros(1, architecture.channels), torch.zeros(1, dtype=torch.int64)
        with FlopCounterMode(display=False) as of_box:
            if network.relation is not None:
                vectors = network.relation(vectors, maps, index)
            network.heads(vectors)
    # The counter reports an addition and a multiplication as two.
    return Cost(
        count_parameters(network.backbone),
        count_parameters(network),
        of_clip.get_total_flops() // 2,
        of_box.get_total_flops() // 2,
    )


def count_parameters(module: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in module.parameters())


def clips_per_second(
    architecture: Architecture, size: tuple[int, int], *, device: str, clips: int, limit_s: float
) -> float:
    """Clips with one box each that pass the whole network in a second, one at a time, after a first one to warm up.

    Args:
        architecture: what is measured, with random weights.
        size: height and width of the input in pixels.
        device: where it runs.
        clips: how many are timed at most.
        limit_s: no further clip is begun after this many seconds.
    """
    network = _network(architecture, ["behaviour"]).eval().to(device)
    engine = torch_engine(network.backbone, device)
    clip = torch.zeros(1, architecture.clip_frames, *size, 3, dtype=torch.uint8)
    boxes = torch.tensor([[0.4, 0.3, 0.6, 0.7]], device=device)
    index = torch.zeros(1, dtype=torch.int64, device=device)

    def score() -> float:
        with torch.inference_mode():
            output = network.score_maps(engine.pooled_maps(clip), boxes, index)
        return float(output.other[0])  # waits for the device

    score()
    started, done = time.perf_counter(), 0
    while done < clips and (done == 0 or time.perf_counter() - started < limit_s):
        score()
        done += 1
    return done / (time.perf_counter() - started)


def _network(architecture: Architecture, behaviours: list[str]) -> ActionNetwork:
    return ActionNetwork(architecture, behaviours).eval()


def _clip(architecture: Architecture, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    slow = torch.zeros(1, 3, architecture.slow_frames, *size)
    return slow, torch.zeros(1, 3, architecture.clip_frames, *size)
