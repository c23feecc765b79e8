from __future__ import annotations

from pathlib import Path

import pytest

from flows.errors import TrainingError
from flows.training.simulated import SimulatedReserve, simulate_once


def test_a_reserve_is_simulated_once_and_another_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, float, int]] = []

    def simulate(root: Path, *, videos: int, seconds: float, seed: int, **rest: object) -> None:
        assert (rest["videos_per_camera"], rest["social_boost"], rest["workers"]) == (1, 3.0, 2)
        root.mkdir()
        asked.append((videos, seconds, seed))

    monkeypatch.setattr("flows.training.simulated.simulate_archive", simulate)
    plan = SimulatedReserve(7, cameras=4, seconds=9, social_boost=3.0)
    for _ in range(2):
        simulate_once(tmp_path / "reserve", plan, 2, lambda _: None)
    assert asked == [(4, 9, 7)]
    with pytest.raises(TrainingError, match=r'"seed": 7.*now wanted with.*"seed": 8'):
        simulate_once(tmp_path / "reserve", SimulatedReserve(8, 4, 9, 3.0), 2, lambda _: None)
    assert len(asked) == 1


def test_a_simulation_that_was_stopped_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []

    def stopped(root: Path, **_: object) -> None:
        root.mkdir(exist_ok=True)
        calls.append(root)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("flows.training.simulated.simulate_archive", stopped)
    plan = SimulatedReserve(7, cameras=4)
    with pytest.raises(KeyboardInterrupt):
        simulate_once(tmp_path / "reserve", plan, 1, lambda _: None)
    simulate_once(tmp_path / "reserve", plan, 1, lambda _: None)
    assert len(calls) == 2
