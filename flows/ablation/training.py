"""The training of one cell: kept as it goes, so that a kill loses little, and the same in whatever process."""

from __future__ import annotations

import io
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from flows.ablation.cells import Cell, CellScores, Fact, measure_cell, publish
from flows.errors import AblationError
from flows.quiet import notice
from flows.training.batches import sampling_weights
from flows.training.curves import write_history
from flows.training.recipe import Recipe
from flows.training.settings import TrainSettings, WeightingSettings
from flows.training.start import Start
from flows.training.trainer import HistoryRow, Trainer, set_threads
from workers.clips import WindowSet, open_windows

REPORT_STEPS = 100
"""Losses are means of so many steps, in lines of progress and among a cell's facts."""


@dataclass(frozen=True, slots=True)
class CellTraining:
    """Trains and measures a cell when it is called with one."""

    folder: Path
    """Of the cells: gets checkpoints while they train, and the history of each."""
    training: Path
    """Folder of the windows to train on."""
    test: Path
    behaviours: tuple[str, ...]
    settings: TrainSettings
    """What the cells have in common; seed and weighting are each cell's own."""
    initial: Start | None
    """Weights to start from."""
    every: int
    """Every how-manieth test keyframe is scored."""
    threads: int
    device: str
    command: str
    progress: Callable[[str], None] = notice

    def __call__(self, cell: Cell) -> tuple[CellScores, dict[str, Fact]]:
        """Train a cell from its last checkpoint on, and measure it.

        Raises:
            AblationError: the checkpoint cannot be read.
            TrainingError: the checkpoint is of another training, or the recipe cannot be trained.
        """
        set_threads(self.threads, self.device)
        windows = open_windows(self.training)
        recipe = cell_recipe(self.settings, cell, windows, len(self.behaviours))
        trainer = Trainer(
            windows, self.behaviours, recipe, initial=self.initial, device=self.device, threads=self.threads
        )
        history = self._train(trainer, self.folder / cell.checkpoint_name)
        write_history(history, self.folder / f"{cell.name}.history.csv")
        network = trainer.network.eval()
        scores = measure_cell(network, open_windows(self.test), every=self.every, device=self.device)
        facts = {**training_facts(history, recipe.batch_clips), "precision": trainer.precision}
        return scores, {**facts, **machine_facts(self.threads, self.device), "command": self.command}

    def _train(self, trainer: Trainer, checkpoint: Path) -> list[HistoryRow]:
        history = _restore(trainer, checkpoint)
        total = trainer.recipe.total_steps
        while trainer.step < total:
            row = trainer.advance()
            history.append(row)
            if row.step % self.settings.checkpoint_steps == 0 or row.step == total:
                _keep(trainer, history, checkpoint)
            if row.step % REPORT_STEPS == 0:
                self.progress(_progress_line(history, total))
        return history


def cell_recipe(settings: TrainSettings, cell: Cell, windows: WindowSet, num_behaviours: int) -> Recipe:
    """What the steps of a cell depend on: the settings, with the cell's seed and weighting."""
    own = settings.model_copy(
        update={"seed": cell.seed, "weighting": cell_weighting(settings.weighting, cell)}
    )
    return own.recipe(int(np.count_nonzero(sampling_weights(windows, num_behaviours))))


def cell_weighting(given: WeightingSettings, cell: Cell) -> WeightingSettings:
    """The weighting of a cell: LGH at a point of the grid, or else the rule that its variant names.

    Parameters that are given for one rule are not another's, except that both kinds of LGH have one alpha.
    """
    name = "lgh" if cell.settings else cell.variant
    parameters = dict(given.parameters) if given.name == name else {}
    if {given.name, name} == {"lgh", "capped_lgh"}:
        parameters = {key: value for key, value in given.parameters.items() if key == "alpha"}
    base = cell.settings.get("lambda_base", given.lambda_base)
    if "alpha" in cell.settings:
        parameters["alpha"] = cell.settings["alpha"]
    return WeightingSettings(name=name, lambda_base=base, parameters=parameters, other=given.other)


def training_facts(history: Sequence[HistoryRow], batch_clips: int) -> dict[str, Fact]:
    """What a training came to: its last losses, and what its rule saw and did."""
    last = history[-REPORT_STEPS:]
    rhos = [row.rho for row in history if row.rho is not None]
    has_lambda = all(row.weight_act == 1 for row in history)
    return {
        "steps": len(history),
        "clips": history[-1].clips,
        "training_s": round(sum(batch_clips / row.clips_per_s for row in history), 1),
        "last_loss_behaviour": float(np.mean([row.loss_behaviour for row in last])),
        "last_loss_motion": float(np.mean([row.loss_motion for row in last])),
        "mean_rho": float(np.mean(rhos)) if rhos else None,
        "conflict_share": float(np.mean([rho < 0 for rho in rhos])) if rhos else None,
        "mean_lambda": float(np.mean([row.weight_mov for row in history])) if has_lambda else None,
    }


def machine_facts(threads: int, device: str) -> dict[str, Fact]:
    """What computed it; results of different machines differ by rounding."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _keep(trainer: Trainer, history: Sequence[HistoryRow], path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"trainer": trainer.state(), "history": [asdict(row) for row in history]}, buffer)
    publish(path, buffer.getvalue())


def _restore(trainer: Trainer, path: Path) -> list[HistoryRow]:
    """Bring the trainer to where the checkpoint is, if there is one, and return the history up to there."""
    if not path.exists():
        return []
    try:
        # Tensors and plain values only: no code of the file runs.
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        history = [HistoryRow(**row) for row in stored["history"]]
        state = stored["trainer"]
    except (OSError, RuntimeError, UnpicklingError, KeyError, TypeError, EOFError) as error:
        raise AblationError(
            f"{path}: no checkpoint of a cell ({' '.join(str(error).split())[:200]}); delete it to train the "
            "cell from its beginning"
        ) from error
    trainer.restore(state)
    return history


def _progress_line(history: Sequence[HistoryRow], total: int) -> str:
    last = history[-REPORT_STEPS:]
    speed = len(last) / sum(1 / row.clips_per_s for row in last)
    minutes = (total - len(history)) * history[-1].clips / len(history) / speed / 60
    return (
        f"  step {len(history)} of {total}, {minutes:.0f} min to go, losses: "
        f"behaviour {np.mean([row.loss_behaviour for row in last]):.4f}, "
        f"motion {np.mean([row.loss_motion for row in last]):.3f}"
    )
