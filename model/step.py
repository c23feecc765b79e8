"""One optimisation step: one forward pass and two vector-Jacobian products over the shared backbone.

The behaviour side (the behaviour loss and, at its weight, the reject loss) and the motion side each give a
gradient; a weighting rule says how they are added. Where the rule's weights do not depend on the gradients, the
two are added before the backbone's backward pass, which then runs once. Each head is reached by its own loss
only, at that loss's weight, so that a fixed lambda is exactly a step on ``L_act + lambda * L_mov``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.dropout import SeededDropout
from model.errors import DivergedError
from model.losses import Losses, RowCounts, Targets, action_losses, count_rows
from model.network import ActionNetwork
from model.pathways import to_pathways
from model.reduction import OneProcess, Reduction
from model.weighting.base import Gram, State, TaskLosses, Weighting, Weights


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B clips with their M boxes."""

    clips: Tensor
    """uint8, shape ``(B, T, H, W, 3)``, at the network's input size, T the architecture's ``clip_frames``."""
    boxes: Tensor
    """Fractions of width and height, float32, shape ``(M, 4)``."""
    clip_index: Tensor
    """Which clip each box belongs to, ascending, int64, shape ``(M,)``."""
    targets: Targets
    dropout_seeds: Tensor
    """Seed of each clip's dropout, int64, shape ``(B,)``."""

    def to(self, device: torch.device) -> Batch:
        """The batch with its tensors on a device; the seeds stay where masks are drawn, on the CPU."""
        if device.type == "cpu":
            return self
        clips, boxes, index = (tensor.to(device) for tensor in (self.clips, self.boxes, self.clip_index))
        return Batch(clips, boxes, index, self.targets.to(device), self.dropout_seeds)


@dataclass(frozen=True, slots=True)
class StepSettings:
    """What holds for every step of a training."""

    other_weight: float = 0.5
    """Weight of the reject loss beside the behaviour loss."""
    max_grad_norm: float = 5.0
    """Longer gradients are shortened to this norm."""
    autocast_bf16: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class StepReport:
    """What a step of all processes together was made of."""

    losses: Losses
    """Detached means over the rows of the whole step."""
    weights: Weights
    gram: Gram | None
    """None where the gradients were not needed apart."""
    gradient_norm: float
    """Before it was shortened."""


def training_step(
    network: ActionNetwork,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    weighting: Weighting,
    state: State,
    settings: StepSettings,
    reduction: Reduction = OneProcess(),  # noqa: B008 - frozen and empty
) -> StepReport:
    """Update the network once from the batches of this process and of all others.

    Args:
        network: to be updated.
        optimizer: of all its learnable parameters.
        batches: run one after the other, their gradients accumulated; each counts by its rows.
        weighting: how the two gradients are added; asked once, for the gradients of all batches and processes.
        state: of the weighting, brought up to date.
        settings: of the training.
        reduction: how gradients, losses and row counts are summed over processes.

    Raises:
        DivergedError: the gradient is not finite; the parameters are left as they were.
    """
    network.train()
    rows = _rows_of_all(batches, reduction)
    ahead = weighting.known_ahead(state)
    gradients = _Gradients(network, ahead)
    sums = torch.zeros(3, device=gradients.flat.device)
    for batch in batches:
        losses = _forward_backward(network, batch, rows, gradients, settings)
        sums += torch.stack([losses.behaviour, losses.motion, losses.other]).detach()
    reduction.sum_(gradients.flat)
    behaviour, motion, other = reduction.sum_(sums)
    task_losses = TaskLosses(float(behaviour + settings.other_weight * other), float(motion))
    gram = gradients.gram() if ahead is None else None
    weights = weighting(gram, task_losses, state)
    norm = gradients.write(weights, settings.max_grad_norm)
    if not math.isfinite(norm):
        raise DivergedError(
            f"the gradient is not finite (losses {task_losses.act:g} and {task_losses.mov:g}): "
            "take a lower learning rate or gradient clip"
        )
    optimizer.step()
    return StepReport(Losses(behaviour, motion, other), weights, gram, norm)


def _rows_of_all(batches: Sequence[Batch], reduction: Reduction) -> RowCounts:
    device = batches[0].boxes.device
    counts = torch.stack([count_rows(batch.targets).as_tensor() for batch in batches]).sum(dim=0)
    learnable, judged = reduction.sum_(counts.to(device))
    return RowCounts(learnable, judged)


def _forward_backward(
    network: ActionNetwork, batch: Batch, rows: RowCounts, gradients: _Gradients, settings: StepSettings
) -> Losses:
    """Add one batch's gradients; its losses are its share of the means over ``rows``."""
    if isinstance(network.heads.dropout, SeededDropout):
        network.heads.dropout.begin(batch.dropout_seeds, batch.clip_index)
    slow, fast = to_pathways(batch.clips)
    with torch.autocast(slow.device.type, torch.bfloat16, enabled=settings.autocast_bf16):
        maps = network.backbone(slow, fast)
    # Cut here: what is behind the maps is small, so that both losses are brought to the maps first.
    cut = maps.detach().requires_grad_()
    losses = action_losses(
        network.score_maps(cut, batch.boxes, batch.clip_index), batch.targets, rows_of_all=rows
    )
    act = losses.behaviour + settings.other_weight * losses.other
    gradients.add(maps, cut, act, losses.motion)
    return losses


class _Gradients:
    """Gradients of the two sides over backbone and heads, each a row of one flat tensor.

    Where the weights are known ahead, there is one row: the weighted sum.
    """

    def __init__(self, network: ActionNetwork, ahead: Weights | None) -> None:
        self._backbone = [p for p in network.backbone.parameters() if p.requires_grad]
        of_backbone = {id(p) for p in network.backbone.parameters()}
        # Behind the maps: what is shared there (ACRN's relation) comes before the heads, as in the network.
        self._heads = [p for p in network.parameters() if p.requires_grad and id(p) not in of_backbone]
        self._parameters = [*self._backbone, *self._heads]
        self._shared_size = sum(p.numel() for p in network.shared_parameters() if p.requires_grad)
        self._ahead = ahead
        self._sizes = [parameter.numel() for parameter in self._parameters]
        device = self._parameters[0].device
        self.flat = torch.zeros(1 if ahead else 2, sum(self._sizes), device=device)
        """Shape ``(1 or 2, P)``; the backbone comes first."""

    def add(self, maps: Tensor, cut: Tensor, act: Tensor, mov: Tensor) -> None:
        """Add the gradients of one batch's losses, which reach the backbone through ``cut``, a copy of ``maps``."""
        sides = [(act, 0), (mov, 1)]
        if self._ahead is not None:
            sides = [(self._ahead.act * act + self._ahead.mov * mov, 0)]
        to_maps = []
        for loss, row in sides:
            last = loss is sides[-1][0]
            of_maps, *of_heads = torch.autograd.grad(
                loss, [cut, *self._heads], retain_graph=not last, allow_unused=True
            )
            self._add(row, len(self._backbone), of_heads)
            to_maps.append((of_maps, row))
        for of_maps, row in to_maps:
            last = row == to_maps[-1][1]
            self._add(row, 0, torch.autograd.grad(maps, self._backbone, of_maps, not last, allow_unused=True))

    def _add(self, row: int, first: int, gradients: Sequence[Tensor | None]) -> None:
        places = torch.split(self.flat[row], self._sizes)[first:]
        for place, gradient in zip(places, gradients, strict=False):
            if gradient is not None:
                place.view(gradient.shape).add_(gradient)

    def gram(self) -> Gram:
        """Inner products over what both tasks share."""
        act, mov = self.flat[:, : self._shared_size]
        products = [(a * b).sum(dtype=torch.float64) for a, b in ((act, act), (act, mov), (mov, mov))]
        return Gram(*torch.stack(products).tolist())

    def write(self, weights: Weights, max_norm: float) -> float:
        """Write the weighted sum into the parameters' ``grad``, shortened, and return its norm before that."""
        total = self.flat[0]
        if self._ahead is None:
            total = total.mul_(weights.act).add_(self.flat[1], alpha=weights.mov)
        norm = float(torch.linalg.vector_norm(total))
        total.mul_(min(1.0, max_norm / (norm + 1e-6)))
        for parameter, gradient in zip(self._parameters, torch.split(total, self._sizes), strict=True):
            parameter.grad = gradient.view(parameter.shape)
        return norm


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups in which norms and biases (every parameter of one dimension) do not decay."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
