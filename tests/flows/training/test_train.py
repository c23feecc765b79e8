"""What ``aviaflow train`` makes sure of before it trains, and what it leaves; Ray has tests of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cluster import Node
from flows.errors import TrainingError
from flows.settings import load_train_settings
from flows.training import train
from flows.training.ray_job import Job, Resources
from flows.training.trainer import HistoryRow, Trainer
from model.checkpoint import load_checkpoint
from workers.clips import open_windows
from workers.simulate.archive import simulate_archive

Rows = Callable[[list[HistoryRow]], None]
BASE = {"clips": 2, "batch_clips": 1, "frame_height": 108, "threads": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def reserve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("train") / "reserve"
    simulate_archive(root, videos=3, seconds=3, seed=5, videos_per_camera=1, workers=1)
    return root


@pytest.fixture
def copy(reserve: Path, tmp_path: Path) -> Path:
    """A truth that a test may change, of the same videos."""
    root = tmp_path / "copy"
    (root / "truth").mkdir(parents=True)
    for path in (reserve / "truth").iterdir():
        (root / "truth" / path.name).write_bytes(path.read_bytes())
    (root / "archive").symlink_to(reserve / "archive")
    return root


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Train in this process; the jobs that were given to Ray."""
    jobs = []

    def run_job(job: Job, resources: Resources, log: Rows) -> tuple[dict[str, Any], list[HistoryRow]]:
        del resources, log
        jobs.append(job)
        trainer = Trainer(open_windows(job.windows), job.behaviours, job.recipe)
        rows = [trainer.advance() for _ in range(job.recipe.total_steps)]
        return trainer.state(), rows

    @contextmanager
    def ray_cluster(address: str | None) -> Iterator[int]:
        del address
        yield 1

    monkeypatch.setattr(train, "run_job", run_job)
    monkeypatch.setattr(train, "ray_cluster", ray_cluster)
    monkeypatch.setattr(train, "nodes", lambda: [Node(2, 0)])
    return jobs


def start(tmp_path: Path, data: Path, **settings: Any) -> dict[str, Any]:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({**BASE, "optimizer": {"warmup_steps": 0}, **settings}))
    options = {"data": str(data), "out": str(tmp_path / "RUN")}
    return train.train_archive(load_train_settings(path, options))


def videos_of(root: Path) -> list[str]:
    return sorted(
        {line.partition(",")[0] for line in (root / "truth" / "boxes.csv").read_text().splitlines()}
    )


def write_split(root: Path, *parts: str) -> None:
    rows = (f"{video},{part},0" for video, part in zip(videos_of(root), parts, strict=True))
    (root / "split.csv").write_text("\n".join(["video_id,part,boxes", *rows]) + "\n")


def test_what_is_scored_afterwards_is_looked_at_before(
    tmp_path: Path, reserve: Path, copy: Path, trained: list[Job]
) -> None:
    with pytest.raises(TrainingError, match=r"nowhere/archive: not there"):
        start(tmp_path, reserve, test=str(tmp_path / "nowhere"))
    boxes = copy / "truth" / "boxes.csv"
    labelled = [line.split(",") for line in boxes.read_text().splitlines()]
    boxes.write_text("".join(",".join([*row[:6], "9", *row[7:]]) + "\n" for row in labelled))
    with pytest.raises(TrainingError, match=r"copy/truth/boxes.csv: label 9, but the ethogram"):
        start(tmp_path, reserve, test=str(copy))
    assert not trained


def test_a_split_without_a_validation_part_is_scored_on_its_test_part(
    tmp_path: Path, copy: Path, trained: list[Job]
) -> None:
    write_split(copy, "train", "train", "test")
    summary = start(tmp_path, copy)
    assert len(trained) == 1
    assert (summary["videos"], summary["validation"]) == (2, None)
    assert sum(summary["scores"]["instances"].values()) > 0


def test_a_training_part_without_anything_to_learn_is_refused(
    tmp_path: Path, copy: Path, trained: list[Job]
) -> None:
    write_split(copy, "train", "test", "test")
    boxes, first = copy / "truth" / "boxes.csv", videos_of(copy)[0]
    rows = [line.split(",") for line in boxes.read_text().splitlines()]
    hidden = [[*row[:9], "1.0", *row[10:]] if row[0] == first else row for row in rows]
    boxes.write_text("".join(",".join(row) + "\n" for row in hidden))
    with pytest.raises(TrainingError, match="no box in the part 'train' of the split has a behaviour"):
        start(tmp_path, copy)
    assert not trained


def test_a_learning_rate_that_would_only_rise_is_refused(
    tmp_path: Path, reserve: Path, trained: list[Job]
) -> None:
    with pytest.raises(TrainingError, match="rise through all 2 steps, 2 of them warm-up"):
        start(tmp_path, reserve, optimizer={"warmup_steps": 2})
    assert not trained


@pytest.mark.parametrize("name", ["single_task", "lgh"])
def test_weights_say_that_the_motion_task_had_no_weight(
    tmp_path: Path, reserve: Path, trained: list[Job], name: str
) -> None:
    summary = start(tmp_path, reserve, weighting={"name": name})
    assert [job.recipe.weighting for job in trained] == [name]
    _, info = load_checkpoint(Path(summary["weights"]))
    assert info.trained_on == "trained on simulated birds" + (
        ", without the motion task" if name == "single_task" else ""
    )


def test_what_cannot_be_scored_is_null_in_the_summary(tmp_path: Path, copy: Path, trained: list[Job]) -> None:
    write_split(copy, "train", "train", "test")
    boxes, last = copy / "truth" / "boxes.csv", videos_of(copy)[-1]
    rows = [line.split(",") for line in boxes.read_text().splitlines()]
    hidden = [[*row[:9], "1.0", *row[10:]] if row[0] == last else row for row in rows]
    boxes.write_text("".join(",".join(row) + "\n" for row in hidden))
    start(tmp_path, copy)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    told = json.loads((tmp_path / "RUN" / "summary.json").read_text(), parse_constant=refuse)
    assert told["scores"]["motion_accuracy"] is None
    assert told["scores"]["mean_average_precision"]["all"] is None
    assert len(trained) == 1
