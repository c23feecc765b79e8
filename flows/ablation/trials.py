"""Cells as trials of Ray Tune, as many at once as the cluster has processors for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.ablation.cells import Cell, Fact, run_cells
from flows.ablation.training import CellTraining
from flows.errors import AblationError

SCORE = "mean_average_precision"


def run_trials(
    cells: Sequence[Cell],
    training: CellTraining,
    protocol: Mapping[str, Fact],
    storage: Path,
    progress: Callable[[str], None],
) -> None:
    """Train the cells that are not finished on the Ray cluster that this process has joined, a trial each.

    Args:
        cells: the table.
        training: what a trial calls; its folders are on a disk that all machines of the cluster see.
        protocol: everything that all cells have in common.
        storage: folder for what Ray Tune keeps of its own.
        progress: called with a line of words for each trial that has ended.

    Raises:
        AblationError: a trial failed; what the others finished is kept.
    """
    unfinished = [cell for cell in cells if not (training.folder / cell.file_name).exists()]
    done = len(cells) - len(unfinished)
    progress(f"{done} of {len(cells)} cells are finished, {len(unfinished)} to train")
    if not unfinished:
        return
    # What Tune would log for TensorBoard and as CSV says less than the cells do.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints a banner whatever it is told
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Tune would return as if it were done
    from ray import tune

    trial = tune.with_parameters(_trial, training=training, protocol=dict(protocol))
    resources = {"cpu": training.threads, "gpu": 0 if training.device == "cpu" else 1}
    tuner = tune.Tuner(
        tune.with_resources(trial, resources),
        param_space={"cell": tune.grid_search([asdict(cell) for cell in unfinished])},
        tune_config=tune.TuneConfig(reuse_actors=True, trial_dirname_creator=_folder_name),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage),
            verbose=0,
            callbacks=[_ended_callback(progress, done, len(cells))],
        ),
    )
    with redirect_stdout(sys.stderr):  # stdout is for the table
        results = tuner.fit()
    for result in results:
        if result.error is not None:
            last = str(result.error).strip().splitlines()[-1]
            raise AblationError(
                f"a trial failed: {last}; the same command goes on with what is not finished"
            ) from result.error


def _trial(config: dict[str, Any], training: CellTraining, protocol: dict[str, Fact]) -> None:
    from ray import tune

    results = run_cells([Cell(**config["cell"])], training, training.folder, protocol)
    if results:  # else another process is training it
        tune.report({SCORE: results[0].scores.mean_average_precision})


def _folder_name(trial: Any) -> str:
    return Cell(**trial.config["cell"]).name


def _ended_callback(progress: Callable[[str], None], done: int, total: int) -> Any:
    from ray.tune import Callback

    class Ended(Callback):  # type: ignore[misc]
        """Says which trial has ended, and what it reached."""

        def __init__(self) -> None:
            self._done = done

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self._done += 1
            score = (trial.last_result or {}).get(SCORE)
            said = "left to another process" if score is None else f"mAP {score:.3f}"
            progress(f"cell {self._done} of {total}, {_folder_name(trial)}: {said}")

    return Ended()
