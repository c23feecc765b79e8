"""One training step of each weighting against a plain step on ``L_act + lambda * L_mov``, as ratios of one run."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from model.backbones.stem import StemConv3d
from model.cost import scene_size
from model.engines.torch_engine import trains_in_bf16
from model.losses import Targets, action_losses
from model.network import ActionNetwork
from model.pathways import to_pathways
from model.step import Batch, StepSettings, decay_groups, training_step
from model.weighting.base import Weighting
from model.weighting.registry import WEIGHTINGS, weighting_named

CLIPS, ROUNDS = 4, 7
BEHAVIOURS = ("feeding", "vigilance", "social", "maintenance", "walk", "flight")


@dataclass(frozen=True, slots=True)
class StepCost:
    """Medians over the rounds of a step's time, as a share of the plain step's of the same round."""

    ratios: dict[str, float]
    plain_s: float
    """Median seconds of a plain step."""
    forward_share: float
    """Of a plain step: its forward pass; what a second vector-Jacobian product costs is at most the rest."""


def measure_steps(
    device: str = "cpu",
    architecture: str = "slowfast_small",
    clips: int = CLIPS,
    rounds: int = ROUNDS,
    weightings: Sequence[str] = tuple(WEIGHTINGS),
) -> StepCost:
    """Take turns between the weightings, so that what else the machine does hits all of them."""
    batch = make_batch(ActionNetwork(architecture, BEHAVIOURS), clips).to(torch.device(device))
    network = ActionNetwork(architecture, BEHAVIOURS)
    rules = {name: weighting_named(name) for name in weightings}
    rules["lgh between two refreshes of rho"] = weighting_named("lgh", refresh_steps=10**6)
    steps: dict[str, Callable[[], object]] = {
        name: weighted(copy.deepcopy(network), batch, rule, device) for name, rule in rules.items()
    }
    plain = plain_step(copy.deepcopy(network), batch, device)
    steps["plain, with the fast stem as PyTorch's 3-D convolution"] = plain_step(
        with_torch_stem(copy.deepcopy(network)), batch, device
    )
    forward = forward_only(copy.deepcopy(network), batch, device)
    plain_s, forward_shares = [], []
    ratios: dict[str, list[float]] = {name: [] for name in steps}
    for call in (plain, forward, *steps.values()):
        call()
    for _ in range(rounds):
        for name, call in steps.items():
            # Two plain steps, one on either side, so that a drift in the machine's speed cancels out.
            before, mine, after = seconds(plain, device), seconds(call, device), seconds(plain, device)
            plain_s += [before, after]
            ratios[name].append(2 * mine / (before + after))
        forward_shares.append(seconds(forward, device) / plain_s[-1])
    medians = {name: float(np.median(values)) for name, values in ratios.items()}
    return StepCost(medians, float(np.median(plain_s)), float(np.median(forward_shares)))


def make_batch(network: ActionNetwork, clips: int) -> Batch:
    """Noise of the network's size for 16:9 video, three boxes to a clip."""
    size = scene_size(network.architecture)
    count = 3 * clips
    index = torch.arange(count) // 3
    corner = 0.6 * torch.rand(count, 2)
    targets = Targets(
        nn.functional.one_hot(torch.arange(count) % len(BEHAVIOURS), len(BEHAVIOURS)).float(),
        torch.arange(count) % 2,
        torch.arange(count) % 3 != 2,
        torch.arange(count) % 3 == 2,
    )
    return Batch(
        torch.randint(0, 256, (clips, network.architecture.clip_frames, *size, 3), dtype=torch.uint8),
        torch.cat([corner, corner + 0.3], dim=1),
        index,
        targets,
        torch.arange(clips),
    )


def weighted(network: ActionNetwork, batch: Batch, rule: Weighting, device: str) -> Callable[[], object]:
    """A step of one rule."""
    network, optimizer, settings = prepared(network, device)
    state = rule.initial_state()
    return lambda: training_step(network, optimizer, [batch], rule, state, settings)


def plain_step(network: ActionNetwork, batch: Batch, device: str) -> Callable[[], object]:
    """Forward, one backward of the weighted sum, clip, update."""
    network, optimizer, settings = prepared(network, device)

    def step() -> None:
        total = losses(network, batch, settings)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        nn.utils.clip_grad_norm_(network.parameters(), settings.max_grad_norm)
        optimizer.step()

    return step


def with_torch_stem(network: ActionNetwork) -> ActionNetwork:
    """The network with ordinary convolutions in place of ``StemConv3d``, which differs in its speed."""
    for stem in [module for module in network.modules() if isinstance(module, StemConv3d)]:
        stem.__class__ = nn.Conv3d
    return network


def forward_only(network: ActionNetwork, batch: Batch, device: str) -> Callable[[], object]:
    """The forward pass, with all that a backward pass would need."""
    network, _, settings = prepared(network, device)
    return lambda: losses(network, batch, settings)


def losses(network: ActionNetwork, batch: Batch, settings: StepSettings) -> torch.Tensor:
    slow, fast = to_pathways(batch.clips)
    with torch.autocast(slow.device.type, torch.bfloat16, enabled=settings.autocast_bf16):
        maps = network.backbone(slow, fast)
    found = action_losses(network.score_maps(maps, batch.boxes, batch.clip_index), batch.targets)
    return found.behaviour + settings.other_weight * found.other + 0.1 * found.motion


def prepared(
    network: ActionNetwork, device: str
) -> tuple[ActionNetwork, torch.optim.Optimizer, StepSettings]:
    network.to(device).to(memory_format=torch.channels_last_3d)
    network.train()
    optimizer = torch.optim.AdamW(decay_groups(network, 0.02), lr=1e-4)
    return network, optimizer, StepSettings(autocast_bf16=trains_in_bf16(device))


def seconds(call: Callable[[], object], device: str) -> float:
    """Wall seconds of a call, with all that it started on the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
