"""What a table is trained and tested on has to be of one ethogram, and of something to learn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.ablation.benchmark import prepare_benchmark
from flows.errors import SettingsError, TrainingError
from flows.settings import CONFIGS, load_ethogram
from flows.training.settings import TrainSettings
from workers.simulate.archive import simulate_archive


def prepare(root: Path, out: Path) -> None:
    settings = TrainSettings(clips=8, data=root, test=root, frame_height=108)
    ethogram = load_ethogram(CONFIGS / "ethogram_crane.yaml")
    prepare_benchmark(settings, out, ethogram, quick=False, workers=1, progress=lambda _: None)


def test_annotations_of_other_behaviours_and_of_none_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "reserve"
    simulate_archive(root, videos=1, seconds=3, seed=5, videos_per_camera=1, workers=1)
    said = root / "truth" / "reserve.json"
    simulated = json.loads(said.read_text())
    said.write_text(json.dumps({**simulated, "behaviours": ["peck", "doze", "soar"]}))
    with pytest.raises(
        SettingsError, match=r"annotated for peck, doze, soar, but the ethogram '.*' has feeding"
    ):
        prepare(root, tmp_path / "table")
    said.write_text(json.dumps(simulated))
    boxes = root / "truth" / "boxes.csv"
    rows = [line.split(",") for line in boxes.read_text().splitlines()]
    boxes.write_text("".join(",".join([*row[:9], "1.0", *row[10:]]) + "\n" for row in rows))
    with pytest.raises(TrainingError, match="no box has a behaviour that could be learned"):
        prepare(root, tmp_path / "table")
