"""One optimisation step: the behaviour loss, the motion loss at a fixed weight, and the reject loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.losses import Losses, Targets, action_losses
from model.network import ActionNetwork
from model.pathways import to_pathways


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B clips with their M boxes."""

    clips: Tensor
    """uint8, shape ``(B, T, H, W, 3)``, at the network's input size, T the architecture's ``clip_frames``."""
    boxes: Tensor
    """Fractions of width and height, float32, shape ``(M, 4)``."""
    clip_index: Tensor
    """Which clip each box belongs to, int64, shape ``(M,)``."""
    targets: Targets


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each auxiliary loss counts beside the behaviour loss."""

    motion: float = 0.1
    """Lambda of the auxiliary motion task (AviaTAD, equation 4)."""
    other: float = 0.5


def training_step(
    network: ActionNetwork,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    weights: LossWeights,
    max_grad_norm: float,
    autocast_bf16: bool,
) -> Losses:
    """Update the network once and return the (detached) losses of this batch."""
    network.train()
    slow, fast = to_pathways(batch.clips)
    with torch.autocast(slow.device.type, torch.bfloat16, enabled=autocast_bf16):
        maps = network.backbone(slow, fast)
    losses = action_losses(network.score_maps(maps, batch.boxes, batch.clip_index), batch.targets)
    total = losses.behaviour + weights.motion * losses.motion + weights.other * losses.other
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(total)
    nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
    optimizer.step()
    return Losses(losses.behaviour.detach(), losses.motion.detach(), losses.other.detach())


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups in which norms and biases (every parameter of one dimension) do not decay."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
