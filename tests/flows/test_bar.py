from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.bar import LINE_EVERY_S, Bar, clock
from flows.nightly.progress import Progress
from flows.training.log import TrainingLog
from flows.training.trainer import HistoryRow


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Clock:
    now = Clock()
    monkeypatch.setattr("flows.bar.time", SimpleNamespace(monotonic=now))
    return now


def test_a_log_gets_a_line_a_minute_and_the_time_that_is_left(
    now: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Bar("starting") as bar:
        for step in range(1, 301):
            now.now_s += 1
            bar.show("training", step, 900, f"{step} of 900 steps")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "training: 60 of 900 steps, 0:14:00 left",
        "training: 120 of 900 steps, 0:13:00 left",
        "training: 180 of 900 steps, 0:12:00 left",
        "training: 240 of 900 steps, 0:11:00 left",
        "training: 300 of 900 steps, 0:10:00 left",
    ]


def test_files_that_take_minutes_have_a_time_left(now: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.begin(4 * 3600.0)
        for _ in range(3):
            now.now_s += 300
            progress.advance(3600.0)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" of ")[0] for line in lines] == [
        "scoring: 1:00:00",
        "scoring: 2:00:00",
        "scoring: 3:00:00",
    ]
    assert lines[0].endswith("x real time, time left unknown")
    assert lines[2].endswith("x real time, 0:05:00 left")


def test_a_terminal_gets_the_bar_and_no_lines(
    now: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Bar("starting") as bar:
        now.now_s += 2 * LINE_EVERY_S
        bar.show("training", 1, 2, "1 of 2 steps")
    assert "training: " not in capsys.readouterr().err


def test_a_training_says_its_losses(now: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = HistoryRow(
        step=7, clips=28, loss_behaviour=0.5, loss_motion=0.25, loss_other=0.1, weight_act=1.0, weight_mov=0.1,
        rho=-0.5, learning_rate=0.001, gradient_norm=1.0, clips_per_s=8.0,
    )  # fmt: skip
    with TrainingLog(tmp_path) as log:
        now.now_s += LINE_EVERY_S
        log.write([row], 10)
    assert capsys.readouterr().err == (
        "training: 7 of 10 steps, loss 0.500 + 0.250, rho -0.50, 8.0 clips/s, time left unknown\n"
    )
    assert list(tmp_path.glob("events*"))


def test_hours_minutes_and_seconds() -> None:
    assert [clock(seconds) for seconds in (0.4, 61, 36_000)] == ["0:00:00", "0:01:01", "10:00:00"]
