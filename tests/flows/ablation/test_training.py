"""A cell is the same however its training was interrupted, and takes the weighting that it is named after."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flows.ablation.cells import Cell, CellResult, run_cells
from flows.ablation.training import CellTraining, cell_weighting, training_facts
from flows.errors import AblationError, TrainingError
from flows.training.settings import WeightingSettings
from flows.training.trainer import HistoryRow, Trainer
from model.engines.torch_engine import trains_in_bf16

TrainingIn = Callable[[Path], CellTraining]
PROTOCOL = {"clips": 12}


def losses(path: Path) -> list[tuple[str, ...]]:
    with path.open() as file:
        return [tuple(v for k, v in row.items() if k != "clips_per_s") for row in csv.DictReader(file)]


def told(result: CellResult) -> dict[str, object]:
    """Facts without the clock."""
    return {k: v for k, v in result.facts.items() if k not in ("training_s", "finished_at")}


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> list[int]:
    """Interrupt the training that takes more steps than that; returns the steps that were taken."""
    taken: list[int] = []
    advance = Trainer.advance

    def stopping(trainer: Trainer) -> HistoryRow:
        if len(taken) == steps:
            raise KeyboardInterrupt
        row = advance(trainer)
        taken.append(row.step)
        return row

    monkeypatch.setattr(Trainer, "advance", stopping)
    return taken


@pytest.mark.parametrize("weighting", ["gradnorm", "lgh"])
def test_an_interrupted_cell_comes_to_the_same_end(
    training_in: TrainingIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weighting: str
) -> None:
    cell = Cell(weighting, 5)
    (whole,) = run_cells([cell], training_in(tmp_path / "whole"), tmp_path / "whole", PROTOCOL)
    folder = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            run_cells([cell], training_in(folder), folder, PROTOCOL)
    assert (folder / cell.checkpoint_name).exists()
    assert not (folder / cell.file_name).exists()
    taken = stop_after(monkeypatch, 99)
    (resumed,) = run_cells([cell], training_in(folder), folder, PROTOCOL)
    assert taken == [3, 4]
    assert resumed.scores == whole.scores
    assert told(resumed) == told(whole)
    assert losses(folder / f"{cell.name}.history.csv") == losses(
        tmp_path / "whole" / f"{cell.name}.history.csv"
    )
    assert len(losses(folder / f"{cell.name}.history.csv")) == 4
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{weighting}-seed5.history.csv",
        f"{weighting}-seed5.json",
        "protocol.json",
    ]


def test_a_cell_says_what_it_came_to_and_on_what(training_in: TrainingIn, tmp_path: Path) -> None:
    training = training_in(tmp_path / "cells")
    lgh, fixed = run_cells([Cell("lgh", 5), Cell("fixed_lambda", 5)], training, training.folder, PROTOCOL)
    for result in (lgh, fixed):
        assert (result.facts["steps"], result.facts["clips"], result.facts["threads"]) == (4, 12, 1)
        assert result.facts["command"] == "aviaflow ablate"
        assert result.facts["processor"]
        assert result.facts["precision"] == ("bf16" if trains_in_bf16("cpu") else "float32")
        assert set(result.scores.per_class) == set(training.behaviours)
    assert -1 <= lgh.facts["mean_rho"] <= 1
    assert 0.08 <= lgh.facts["mean_lambda"] <= 0.1
    assert fixed.facts["mean_rho"] is None
    assert fixed.facts["mean_lambda"] == pytest.approx(0.1)


def test_the_checkpoint_of_another_training_and_a_damaged_one_are_named(
    training_in: TrainingIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, cell = training_in(tmp_path / "cells"), Cell("lgh", 5)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            training(cell)
    other = training.settings.model_copy(update={"dropout": 0.5})
    with pytest.raises(TrainingError, match=r"another recipe: dropout 0.2 then, 0.5 now"):
        replace(training, settings=other)(cell)
    (training.folder / cell.checkpoint_name).write_bytes(b"PK no checkpoint")
    with pytest.raises(AblationError, match=r"lgh-seed5.partial.pt: no checkpoint of a cell .*delete it"):
        training(cell)


def test_a_cell_has_the_weighting_that_it_is_named_after() -> None:
    given = WeightingSettings(
        name="lgh", lambda_base=0.3, parameters={"alpha": 0.4, "refresh_steps": 2}, other=0.7
    )

    def of(cell: Cell) -> tuple[str, float, dict[str, float], float]:
        weighting = cell_weighting(given, cell)
        return weighting.name, weighting.lambda_base, weighting.parameters, weighting.other

    assert of(Cell("lgh", 1)) == ("lgh", 0.3, {"alpha": 0.4, "refresh_steps": 2}, 0.7)
    assert of(Cell("capped_lgh", 1)) == ("capped_lgh", 0.3, {"alpha": 0.4}, 0.7)
    # GradNorm's alpha is another thing than LGH's.
    assert of(Cell("gradnorm", 1)) == ("gradnorm", 0.3, {}, 0.7)
    point = Cell("alpha=0.1,lambda_base=0.05", 1, {"alpha": 0.1, "lambda_base": 0.05})
    assert of(point) == ("lgh", 0.05, {"alpha": 0.1, "refresh_steps": 2}, 0.7)


def test_facts_of_a_history() -> None:
    def row(step: int, rho: float | None, act: float, mov: float) -> HistoryRow:
        return HistoryRow(step, 4 * step, 1.0 / step, 0.5, 0.1, rho, act, mov, 1e-3, 2.0, 8.0)

    facts = training_facts([row(1, 0.5, 1, 0.1), row(2, None, 1, 0.1), row(4, -0.25, 1, 0.07)], 4)
    assert facts["mean_rho"] == pytest.approx(0.125)
    assert facts["conflict_share"] == pytest.approx(0.5)
    assert facts["mean_lambda"] == pytest.approx(0.09)
    assert facts["last_loss_behaviour"] == pytest.approx(1.75 / 3)
    assert (facts["clips"], facts["training_s"]) == (16, 1.5)
    assert training_facts([row(1, 0.5, 0.9, 0.1)], 4)["mean_lambda"] is None
