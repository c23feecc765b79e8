"""``aviaflow ablate`` and ``aviaflow sweep`` as a researcher meets them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flows.ablation.benchmark import Benchmark
from flows.ablation.cells import Cell, CellScores, Fact, read_cells, run_cells
from flows.cli import main

PLUMBING = "plumbing check, not a result"
CONFIG = "{clips: 6, batch_clips: 3, device: cpu, checkpoint_steps: 1}"
BEHAVIOURS = ("feeding", "walk")


@pytest.fixture
def config(tmp_path: Path, benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training of two steps, on tiny windows instead of simulated reserves."""
    monkeypatch.setattr("flows.ablation.run.prepare_benchmark", lambda *_, **__: benchmark)
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


def fill(out: Path, cells: list[Cell], precision: str = "bf16", **protocol: object) -> None:
    """A folder with these cells finished."""

    def train(cell: Cell) -> tuple[CellScores, dict[str, Fact]]:
        score = 0.5 + 0.1 * cell.seed + (0.02 if cell.variant == "lgh" else 0.0)
        facts: dict[str, Fact] = {"mean_rho": -0.2, "mean_lambda": 0.096, "conflict_share": 0.6}
        facts |= {"training_s": 60.0, "precision": precision}
        return CellScores(score, dict.fromkeys(BEHAVIOURS, score), (score - 0.1, score + 0.1)), facts

    run_cells(cells, train, out / "cells", {"table": "weightings", "quick": False, "every": 2, **protocol})


def test_ablate_trains_what_is_missing_with_the_control_among_it(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table"
    command = ["ablate", "--config", str(config), "--out", str(out), "--weightings", "lgh", "--json"]
    assert main([*command, "--seeds", "3", "--every", "1", "--threads", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(row["variant"], row["score"]["seeds"]) for row in told["rows"]] == [
        ("fixed_lambda", 1),
        ("lgh", 1),
    ]
    assert (told["complete"], told["note"], told["protocol"]["lambda_base"]) == (True, None, 0.1)
    assert told["cells"][0]["facts"]["steps"] == 2
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}
    assert main([*command, "--seeds", "3", "4", "--every", "1", "--threads", "1"]) == 0
    said = capsys.readouterr()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "cell 4 of 4, lgh with seed 4: training" in said.err
    assert [row["difference"]["seeds"] for row in json.loads(said.out)["rows"] if row["difference"]] == [2]
    assert main([*command, "--seeds", "3", "--every", "2"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "this table was begun with every 1, now it is 2" in lines[0]


def test_a_table_that_is_not_finished_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, [Cell("lgh", 1), Cell("fixed_lambda", 1), Cell("lgh", 2)])
    command = ["ablate", "--table", "--out", str(tmp_path), "--weightings", "lgh", "--seeds", "1", "2"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "Not finished: fixed_lambda-seed2;" in text
    assert PLUMBING not in text
    rows = [line for line in text.splitlines() if line.startswith(("| fixed_lambda", "| lgh"))]
    assert [row.split()[1] for row in rows] == ["fixed_lambda", "lgh"] * 3
    assert rows[1].split("|")[7].strip() == "+2.00"
    with (tmp_path / "table.csv").open() as file:
        control, lgh = csv.DictReader(file)
    assert (control["map_seeds"], control["minus_control"]) == ("1", "")
    assert float(lgh["map"]) == pytest.approx(0.67)
    assert float(lgh["minus_control"]) == pytest.approx(0.02)
    assert (tmp_path / "table.png").read_bytes()[1:4] == b"PNG"
    assert (tmp_path / "table.md").read_text().strip() in text
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 4


def test_a_table_says_in_which_precisions_its_cells_were_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, [Cell("lgh", 1), Cell("fixed_lambda", 1)])
    fill(tmp_path, [Cell("lgh", 2)], precision="float32")
    assert main(["ablate", "--table", "--out", str(tmp_path)]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith("Computed on")]
    assert (line.count("in bf16"), line.count("in float32")) == (1, 1)


def test_without_the_control_there_are_no_differences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, [Cell("lgh", 1)])
    assert main(["ablate", "--table", "--out", str(tmp_path)]) == 0
    assert "The control fixed_lambda has no finished cell yet" in capsys.readouterr().out


def test_a_quick_table_says_everywhere_that_it_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, [Cell("lgh", 1), Cell("fixed_lambda", 1)], quick=True)
    assert main(["ablate", "--table", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"**{PLUMBING}**")
    assert f"**{PLUMBING}**" in lines[1:]
    assert main(["ablate", "--table", "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["note"] == PLUMBING
    for name in ("table.csv", "cells.csv"):
        assert (tmp_path / name).read_text().count(PLUMBING) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ablate",), "--out"),
        (("ablate", "--out", "t", "--weightings", "lhg"), "invalid choice: 'lhg'"),
        (("ablate", "--out", "t", "--seeds", "-1"), "must not be negative, got -1"),
        (("ablate", "--out", "t", "--data", "d"), "--data is named without --test"),
        (("ablate", "--out", "t", "--data", "d", "--test", "d"), "d/archive: there is no such file"),
        (("ablate", "--out", "t", "--table"), "no table was begun"),
        (("ablate", "--out", "t", "--config", "missing.yaml"), "missing.yaml"),
        (("sweep", "--out", "t", "--alphas", "1.5"), "must be between 0 and 1, got 1.5"),
        (("sweep", "--out", "t", "--lambdas", "nan"), "not negative, got nan"),
        (("sweep", "--out", "w", "--table"), "holds a table of weightings, not of grid"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "w", [Cell("lgh", 1)])
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code
    captured = capsys.readouterr()
    assert (status, captured.out) == (1, "")
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("aviaflow: ")
    assert said in lines[0]


@pytest.mark.slow
def test_a_sweep_trains_a_trial_for_each_point_that_is_not_finished(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--config", str(config), "--every", "1", "--seeds", "3", "--threads", "1"]
    out = tmp_path / "grid"
    command = ["sweep", *common, "--out", str(out), "--lambdas", "0.1", "--json"]
    assert main([*command, "--alphas", "0.2"]) == 0
    (alone,) = json.loads(capsys.readouterr().out)["rows"]
    assert main([*command, "--alphas", "0", "0.2"]) == 0
    said = capsys.readouterr()
    assert "1 of 2 cells are finished, 1 to train" in said.err
    assert "cell 2 of 2, alpha=0,lambda_base=0.1-seed3: mAP" in said.err
    told = json.loads(said.out)
    assert [row["variant"] for row in told["rows"]] == [
        "alpha=0,lambda_base=0.1",
        "alpha=0.2,lambda_base=0.1",
    ]
    assert told["rows"][1] == alone
    # The same training in this process comes to the same scores.
    assert main(["ablate", *common, "--out", str(tmp_path / "table"), "--weightings", "lgh"]) == 0
    (lgh,) = [cell for cell in read_cells(tmp_path / "table" / "cells") if cell.variant == "lgh"]
    (point,) = [cell for cell in read_cells(out / "cells") if cell.variant == "alpha=0.2,lambda_base=0.1"]
    assert point.scores == lgh.scores
    capsys.readouterr()
    (out / "cells" / "alpha=0.4,lambda_base=0.1-seed3.partial.pt").write_bytes(b"no checkpoint")
    assert main([*command, "--alphas", "0.4"]) == 1
    assert "a trial failed: " in (last := capsys.readouterr().err.splitlines()[-1])
    assert "no checkpoint of a cell" in last


@pytest.mark.slow
def test_an_interrupted_sweep_shows_no_table(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text("{clips: 60000, batch_clips: 3, device: cpu, checkpoint_steps: 1}")

    def interrupt() -> None:
        while not list((tmp_path / "cells").glob("*.partial.pt")):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        command = ["sweep", "--config", str(config), "--out", str(tmp_path), "--seeds", "3"]
        assert main([*command, "--alphas", "0.2", "--lambdas", "0.1", "--threads", "1"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ablate_quick_from_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.cli", "ablate", "--quick", "--out", str(tmp_path)]
    options = ["--weightings", "lgh", "--seeds", "1", "--threads", "1"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"**{PLUMBING}**")
    protocol = json.loads((tmp_path / "cells" / "protocol.json").read_text())
    assert (protocol["quick"], protocol["simulated"], protocol["training_videos"]) == (True, True, 2)
    assert {cell.variant for cell in read_cells(tmp_path / "cells")} == {"fixed_lambda", "lgh"}
    again = subprocess.run([*command, *options, "--json"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "training" not in again.stderr
    assert json.loads(again.stdout)["note"] == PLUMBING
