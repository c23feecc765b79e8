"""How a refiner learns: stretches of the series of known individuals, a class per keyframe."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model.refiner import LOGIT_UNIT, OCTAVE, OTHER_CHANNELS, Refiner, RefinerShape

UNKNOWN = -1
"""Label of a keyframe at which nothing is learnt."""


@dataclass(frozen=True, slots=True)
class RefinerRecipe:
    """What the training depends on beside its data."""

    steps: int = 6000
    batch_series: int = 16
    length: int = 150
    """Keyframes of a stretch, 40 s."""
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    averaged: float = 1 / 12
    """Share of the steps over which the running mean of the weights goes, which is what is kept."""
    dropout: float = 0.2
    steadiness: float = 0.05
    """Weight of the truncated squared difference of neighbouring log-probabilities (MS-TCN, equation 5)."""
    steadiness_cut: float = 4.0
    bias: float = 0.6
    """Standard deviation of what is added to a behaviour's logits throughout a stretch: scenes differ."""
    size_shift: float = 0.15
    """Standard deviation, in octaves, of what is added to heights and to widths throughout a stretch: what a bird is
    measured against depends on what it did in the minutes around it."""
    unseen: float = 0.05
    """Share of the keyframes that are hidden from it."""
    seed: int = 7


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSeries:
    """One individual of one video."""

    channels: NDArray[np.float32]
    """As :func:`model.refiner.series_channels` gives them, shape ``(C + 4, L)``."""
    label: NDArray[np.int64]
    """Index of the true behaviour, or ``UNKNOWN``, shape ``(L,)``."""

    def __post_init__(self) -> None:
        if self.label.shape != self.channels.shape[1:]:
            raise ValueError(f"need labels {self.channels.shape[1:]}, got {self.label.shape}")


class RefinerNetwork(nn.Module):
    """A member of the refiner as it is taught: ``(B, C + 4, L)`` series to logits ``(B, C, L)``."""

    def __init__(self, num_behaviours: int, shape: RefinerShape, dropout: float = 0.0) -> None:
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
        """Logits of the behaviours."""
        hidden = self.enter(series)
        for dilated, mixing in zip(self.dilated, self.mixing, strict=True):
            hidden = hidden + self.dropout(mixing(relu(dilated(hidden))))
        logits: Tensor = self.leave(hidden) + LOGIT_UNIT * series[:, : self.num_behaviours]
        return logits


def taught(networks: Sequence[RefinerNetwork], shape: RefinerShape) -> Refiner:
    """What the members have learnt so far, in plain numpy."""
    states = [network.state_dict() for network in networks]
    return Refiner(shape, {name: np.stack([state[name].numpy() for state in states]) for name in states[0]})


def train_refiner(
    series: Sequence[LabelledSeries],
    num_behaviours: int,
    shape: RefinerShape,
    recipe: RefinerRecipe,
    progress: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Refiner:
    """A refiner whose members are trained one after the other, each from random numbers of its own.

    ``progress`` is told the steps of all members.
    """
    members = []
    for number in range(shape.members):

        def told(step: int, loss: float, before: int = number * recipe.steps) -> None:
            progress(before + step, loss)

        own = replace(recipe, seed=recipe.seed + number)
        members.append(_train_member(series, num_behaviours, shape, own, told))
    return taught(members, shape)


def _train_member(
    series: Sequence[LabelledSeries],
    num_behaviours: int,
    shape: RefinerShape,
    recipe: RefinerRecipe,
    progress: Callable[[int, float], None],
) -> RefinerNetwork:
    """A network trained by AdamW over a cosine schedule; long series are drawn as often as they are long."""
    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    refiner = RefinerNetwork(num_behaviours, shape, recipe.dropout)
    optimizer = torch.optim.AdamW(
        refiner.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    past = 1 - 1 / max(1.0, recipe.averaged * recipe.steps)
    averaged = AveragedModel(refiner, multi_avg_fn=get_ema_multi_avg_fn(past))  # type: ignore[no-untyped-call]
    lengths = np.array([len(one.label) for one in series], np.float64)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * recipe.learning_rate * (1 + math.cos(math.pi * step / recipe.steps))
        chosen = random.choice(len(series), recipe.batch_series, p=lengths / lengths.sum())
        batch = [_stretch(series[k], num_behaviours, recipe, random) for k in chosen]
        loss = refiner_loss(
            refiner(torch.from_numpy(np.stack([channels for channels, _ in batch]))),
            torch.from_numpy(np.stack([label for _, label in batch])),
            recipe,
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        averaged.update_parameters(refiner)
        progress(step, float(loss.detach()))
    refiner.load_state_dict(averaged.module.state_dict())
    return refiner


def refiner_loss(logits: Tensor, label: Tensor, recipe: RefinerRecipe) -> Tensor:
    """Cross-entropy of ``(B, C, L)`` logits at known labels ``(B, L)``, and the smoothing loss of MS-TCN."""
    known = (label != UNKNOWN).sum().clamp(min=1)
    wrong = cross_entropy(logits, label, ignore_index=UNKNOWN, reduction="sum") / known
    log_p = logits.log_softmax(dim=1)
    step = log_p[:, :, 1:] - log_p[:, :, :-1].detach()
    cut = recipe.steadiness_cut
    return wrong + recipe.steadiness * step.clamp(-cut, cut).square().mean()


def _stretch(
    one: LabelledSeries, num_behaviours: int, recipe: RefinerRecipe, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A stretch of a series as another scene might have scored it, padded to the recipe's length."""
    first = int(random.integers(max(1, len(one.label) - recipe.length + 1)))
    label = one.label[first : first + recipe.length].copy()
    channels = one.channels[:, first : first + recipe.length].copy()
    present = channels[-1:] > 0
    bias = random.normal(0.0, recipe.bias / LOGIT_UNIT, (num_behaviours, 1)).astype(np.float32)
    channels[:num_behaviours] += bias * present
    size_shift = random.normal(0.0, OCTAVE * recipe.size_shift, (2, 1)).astype(np.float32)
    channels[num_behaviours + 1 : num_behaviours + 3] += size_shift * present
    hidden = random.random(len(label)) < recipe.unseen
    channels[:, hidden], label[hidden] = 0.0, UNKNOWN
    missing = recipe.length - len(label)
    assert channels.shape[0] == num_behaviours + OTHER_CHANNELS
    return np.pad(channels, ((0, 0), (0, missing))), np.pad(label, (0, missing), constant_values=UNKNOWN)
