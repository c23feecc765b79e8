"""The training of the action network on one worker: each call takes the step that all workers take together.

All that is random in a step (which clips, how they are changed, which features drop out) is a function of the
seed, the step's number and a clip's place in it. So neither the number of workers nor a restart changes it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flows.errors import TrainingError
from flows.training.batches import (
    clip_randoms,
    keyframes_of_step,
    make_batch,
    sampling_weights,
    shares_of_step,
)
from flows.training.loader import BatchLoader
from flows.training.recipe import Recipe, learning_rate_share
from flows.training.start import PublishedStart, Start, start_from, start_identity
from model.batch_norm import freeze_batch_norm, synchronise_batch_norm
from model.dropout import SeededDropout
from model.engines.torch_engine import trains_in_bf16
from model.network import ActionNetwork
from model.reduction import OneProcess, ProcessGroup, share_state
from model.step import Batch, StepReport, StepSettings, decay_groups, training_step
from workers.clips import WindowSet, windows_digest

_OTHER = {
    "recipe": "with another recipe",
    "data": "on other data",
    "behaviours": "of other behaviours",
    "start": "from another start",
}
"""What is wrong with a checkpoint whose training was not this one."""


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One step, as it is logged."""

    step: int
    """Counted from 1."""
    clips: int
    """Of all steps so far."""
    loss_behaviour: float
    loss_motion: float
    loss_other: float
    rho: float | None
    """Cosine of the two gradients; None where the weighting does not measure it at this step."""
    weight_act: float
    weight_mov: float
    """Lambda, of the rules that leave the behaviour gradient as it is."""
    learning_rate: float
    gradient_norm: float
    """Before it was shortened."""
    clips_per_s: float


class Trainer:
    """Network, optimizer and weighting of one worker among ``workers``.

    Args:
        windows: with labels that are indices into ``behaviours``.
        behaviours: names, in the order of the outputs.
        recipe: of the training.
        initial: weights to start from; its heads are taken where its behaviours are these.
        rank: which worker this is.
        workers: how many there are; more than one need a ``torch.distributed`` group.
        device: where it computes.
        threads: that prepare batches ahead of the steps, where the device is no processor itself.

    Raises:
        TrainingError: the recipe does not fit the number of workers or the start.
        ModelError: the weights to start from cannot be used.
    """

    def __init__(
        self,
        windows: WindowSet,
        behaviours: Sequence[str],
        recipe: Recipe,
        *,
        initial: Start | None = None,
        rank: int = 0,
        workers: int = 1,
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        check_recipe(recipe, workers, initial)
        self.step = 0
        """Steps taken."""
        self.recipe = recipe
        self.windows = windows
        self._device = torch.device(device)
        self._shares = shares_of_step(recipe, rank, workers)
        self._weights = sampling_weights(windows, len(behaviours))
        ahead = 0 if self._device.type == "cpu" else threads
        self._loader = BatchLoader(self._batches, recipe.total_steps - 1, ahead)
        self._identity = {
            "recipe": asdict(recipe),
            "data": f"{len(windows.grid)} keyframes, {windows_digest(windows)}",
            "behaviours": list(behaviours),
            "start": "random weights" if initial is None else start_identity(initial),
        }
        self._reduction = ProcessGroup() if workers > 1 else OneProcess()
        self._rule = recipe.rule()
        self._rule_state = self._rule.initial_state()
        self.network = self._build(behaviours, initial)
        self._optimizer = _optimizer(self.network, recipe)
        self._settings = StepSettings(
            recipe.loss_weights.other,
            recipe.max_grad_norm,
            recipe.mixed_precision and trains_in_bf16(device),
        )
        self._precisions = ["bf16" if self._settings.autocast_bf16 else "float32"]

    @property
    def precision(self) -> str:
        """In which the backbone's gradients are computed: ``bf16``, ``float32``, or one and then the other.

        A training that was interrupted may go on where there is no bf16.
        """
        return " then ".join(self._precisions)

    def _build(self, behaviours: Sequence[str], initial: Start | None) -> ActionNetwork:
        torch.manual_seed(self.recipe.seed)
        network = ActionNetwork(self.recipe.architecture, behaviours, self.recipe.dropout)
        set_priors(network, self.windows)
        if initial is not None:
            start_from(network, initial)
        network.heads.dropout = SeededDropout(self.recipe.dropout)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = self.recipe.batch_norm_momentum
        if self.recipe.batch_norm == "frozen":
            # Published weights are of backbones: norms of what comes after have no statistics yet.
            freeze_batch_norm(network.backbone if isinstance(initial, PublishedStart) else network)
        if isinstance(self._reduction, ProcessGroup):
            synchronise_batch_norm(network, self._reduction)
        network.to(self._device).to(memory_format=torch.channels_last_3d)
        share_state(network, self._reduction)
        return network

    def advance(self) -> HistoryRow:
        """Take the next step."""
        started = time.perf_counter()
        rate = self.recipe.learning_rate * learning_rate_share(self.step, self.recipe)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        report = training_step(
            self.network,
            self._optimizer,
            [batch.to(self._device) for batch in self._loader.batches(self.step)],
            self._rule,
            self._rule_state,
            self._settings,
            self._reduction,
        )
        self.step += 1
        return self._row(report, rate, time.perf_counter() - started)

    def _batches(self, step: int) -> list[Batch]:
        keyframes = keyframes_of_step(self._weights, self.recipe, step)
        return [
            make_batch(
                self.windows,
                keyframes[places],
                self.recipe.augmentation,
                clip_randoms(self.recipe, step, places),
                num_behaviours=len(self.network.behaviours),
                clip_frames=self.network.architecture.clip_frames,
                single_frame=self.recipe.single_frame,
            )
            for places in self._shares
        ]

    def _row(self, report: StepReport, rate: float, seconds: float) -> HistoryRow:
        return HistoryRow(
            step=self.step,
            clips=self.step * self.recipe.batch_clips,
            loss_behaviour=float(report.losses.behaviour),
            loss_motion=float(report.losses.motion),
            loss_other=float(report.losses.other),
            rho=None if report.gram is None else report.gram.cosine,
            weight_act=report.weights.act,
            weight_mov=report.weights.mov,
            learning_rate=rate,
            gradient_norm=report.gradient_norm,
            clips_per_s=self.recipe.batch_clips / seconds,
        )

    def state(self) -> dict[str, Any]:
        """All that the next step depends on: tensors and plain values.

        The schedule and every random number are functions of the recipe and the step's number.
        """
        return {
            **self._identity,
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "weighting": dict(self._rule_state),
            "precisions": list(self._precisions),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`.

        Raises:
            TrainingError: it is the state of another training.
        """
        missing = [name for name in (*self._identity, "precisions") if name not in state]
        if missing:
            raise TrainingError(
                f"the checkpoint at step {state['step']} is of an earlier Aviaflow, and does not say its "
                f"{', '.join(missing)}: delete it to train from the beginning, or name another folder with --out"
            )
        for name, own in self._identity.items():
            if _plain(state[name]) != _plain(own):
                raise TrainingError(
                    f"the checkpoint at step {state['step']} is of a training {_OTHER[name]}: "
                    f"{_difference(state[name], own)}; name another folder with --out, or restore what it was"
                )
        self.step = int(state["step"])
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._rule_state = dict(state["weighting"])
        own, earlier = self._precisions[-1], list(state["precisions"])
        self._precisions = earlier if earlier[-1] == own else [*earlier, own]


def set_threads(threads: int, device: str) -> None:
    """Give torch the threads where it computes on processors; beside a GPU each is the loader's, for whole clips."""
    torch.set_num_threads(threads if device == "cpu" else 1)


def check_recipe(recipe: Recipe, workers: int, initial: Start | None) -> None:
    """Whether a training can start.

    Raises:
        TrainingError: it cannot.
    """
    if recipe.batch_clips < workers * recipe.accumulate:
        raise TrainingError(
            f"batch_clips is {recipe.batch_clips}, too few for {workers} workers with {recipe.accumulate} "
            f"accumulated batches each: make it at least {workers * recipe.accumulate}"
        )
    if recipe.total_steps < 1:
        raise TrainingError(
            f"{recipe.total_clips} clips are less than one step of {recipe.batch_clips}: train longer"
        )
    if recipe.batch_norm == "frozen" and initial is None:
        raise TrainingError("batch_norm 'frozen' needs trained statistics: name weights under 'initial'")


def set_priors(network: ActionNetwork, windows: WindowSet) -> None:
    """Start the classifiers at the log-odds of the class shares: the first steps need not learn those."""
    labels = windows.label[windows.learnable]
    shares = np.bincount(labels, minlength=len(network.behaviours)) / max(1, len(labels))
    other = windows.other.mean()
    with torch.no_grad():
        network.heads.behaviour.bias.copy_(torch.from_numpy(_log_odds(shares)))
        network.heads.other.bias.fill_(float(_log_odds(np.array([other]))[0]))


def _log_odds(share: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = share.clip(1e-3, 1 - 1e-3)
    odds: NDArray[np.float64] = np.log(clipped / (1 - clipped))
    return odds


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    groups = decay_groups(network, recipe.weight_decay)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def _plain(value: Any) -> Any:
    """Tuples as lists, so that what was read back equals what was written."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _difference(then: Any, now: Any) -> str:
    if not isinstance(then, dict):
        return f"{then} then, {now} now"
    changed = [key for key in now if _plain(then.get(key)) != _plain(now[key])]
    return ", ".join(f"{key} {then.get(key)} then, {now[key]} now" for key in changed)
