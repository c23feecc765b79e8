"""``aviaflow train`` on Ray: killed and started again, and with two workers, it draws the same loss curve."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.checkpoint import load_checkpoint
from workers.simulate.archive import simulate_archive

CONFIG = """
clips: 48
batch_clips: 4
checkpoint_steps: 2
frame_height: 108
threads: 1
device: cpu
optimizer: {warmup_steps: 2}
"""
STEPS = 12
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    simulate_archive(folder / "reserve", videos=2, seconds=8, seed=3)
    (folder / "tiny.yaml").write_text(CONFIG)
    return folder


def start(data: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.cli", "train", "--config", str(data / "tiny.yaml"), "--json"]
    return subprocess.Popen(
        [*command, "--data", str(data / "reserve"), "--out", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def history(out: Path) -> list[dict[str, float]]:
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [
        {name: float(value) for name, value in row.items() if value and name != "clips_per_s"} for row in rows
    ]


@pytest.fixture(scope="module")
def undisturbed(data: Path) -> Path:
    out = data / "undisturbed"
    process = start(data, out)
    told, _ = process.communicate()
    assert process.returncode == 0
    summary = json.loads(told)
    assert summary["steps"] == STEPS
    return out


def test_a_training_leaves_weights_history_logs_and_plots(undisturbed: Path) -> None:
    network, info = load_checkpoint(undisturbed / "weights.safetensors")
    assert info.trained_on == "trained on simulated birds"
    assert network.behaviours[0] == "feeding"
    rows = history(undisturbed)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(-1 <= row["rho"] <= 1 and 0.08 <= row["weight_mov"] <= 0.1 for row in rows)
    for name in ("losses.png", "losses.csv", "rho.png", "rho.csv", "summary.json"):
        assert (undisturbed / name).stat().st_size > 100
    assert list((undisturbed / "tensorboard").glob("events*"))


@pytest.mark.chaos
def test_killed_and_started_again_it_draws_the_same_loss_curve(data: Path, undisturbed: Path) -> None:
    out = data / "killed"
    process = start(data, out)
    while len(list(out.glob("checkpoints/checkpoint_*/training.pt"))) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "weights.safetensors").exists()
    again = start(data, out)
    told, _ = again.communicate()
    assert again.returncode == 0
    assert json.loads(told)["steps"] == STEPS
    for row, other in zip(history(out), history(undisturbed), strict=True):
        assert row == pytest.approx(other, rel=1e-6)


def test_two_workers_draw_the_loss_curve_of_one(data: Path) -> None:
    """In small steps of single precision: what rounding tips at a maximum or a ReLU grows from step to step, in rho
    first."""
    sgd = CONFIG.replace(
        "optimizer: {", "mixed_precision: false\noptimizer: {name: sgd, learning_rate: 0.001, "
    )
    (data / "tiny.yaml").write_text(sgd)
    for workers in ("1", "2"):
        process = start(data, data / f"workers{workers}", "--workers", workers)
        process.communicate()
        assert process.returncode == 0
    two, one = history(data / "workers2"), history(data / "workers1")
    assert two[0] == pytest.approx(one[0], rel=1e-3)
    assert len(two) == len(one) == STEPS
    for name in ("loss_behaviour", "loss_motion", "loss_other", "learning_rate"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=5e-3), name


def test_what_no_new_beginning_helps_ends_at_once_with_its_reason(data: Path, undisturbed: Path) -> None:
    (data / "tiny.yaml").write_text(CONFIG.replace("warmup_steps: 2", "warmup_steps: 3"))
    process = start(data, undisturbed)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "is of a training with another recipe" in said
    rising = CONFIG.replace("warmup_steps: 2", "warmup_steps: 2, learning_rate: 1.0e+30")
    (data / "tiny.yaml").write_text(rising)
    process = start(data, data / "diverged")
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("aviaflow: the training stopped: the gradient is not finite")
    assert len(list((data / "diverged" / "tensorboard").glob("events*"))) == 1
