"""A seeded share of ``make chaos``: a job is killed at commits and in between, and leaves what it would have left."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest

from storage.filesystem import open_filesystem
from tests.chaos.campaign import (
    Job,
    Tally,
    compare,
    disturbed,
    expected_rows,
    object_paths,
    rows_of,
    undisturbed,
)
from tests.chaos.nodes import failing_nodes
from tests.chaos.reader import Readers


def test_a_killed_job_that_is_started_again_leaves_the_rows_of_an_undisturbed_one(
    reserve: Path, first_run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    whole, tally = open_filesystem(first_run[0]), Tally()
    job = Job(str(reserve / "archive"), str(tmp_path / "store"), tmp_path / "notes", is_stub=False)
    store = open_filesystem(job.store)
    with Readers(store, expected_rows(whole)) as readers:
        disturbed(job, random.Random(4), 4, len(object_paths(whole)), tally, mean_s=2.0)
    assert compare(whole, store) == (0, 0)
    assert readers.errors == []
    assert tally.kills["commit point"] == 2
    assert tally.kills.total() >= 3
    assert tally.left_behind == 0


@pytest.mark.chaos
def test_a_night_outlives_its_worker_nodes(
    reserve: Path, first_run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    whole, killed = open_filesystem(first_run[0]), tmp_path / "killed"
    killed.touch()
    job = Job(str(reserve / "archive"), str(tmp_path / "store"), tmp_path / "notes", is_stub=False)
    store = open_filesystem(job.store)
    with (
        Readers(store, expected_rows(whole)) as readers,
        failing_nodes(5, 10.0, killed, job.environment) as address,
    ):
        undisturbed(dataclasses.replace(job, address=address))
    assert compare(whole, store) == (0, 0)
    assert readers.errors == []
    assert killed.read_text() != ""


def test_a_row_too_few_or_too_many_is_counted(first_run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    whole = open_filesystem(first_run[0])
    detections = [path for path in object_paths(whole) if path.startswith("detections/")]
    part = open_filesystem(tmp_path / "part")
    for path in object_paths(whole):
        if path != detections[0]:
            part.write_atomic(path, whole.read_bytes(path))
    lost = len(rows_of(whole, "detections")) - len(rows_of(part, "detections"))
    assert lost > 0
    assert compare(whole, part) == (lost, 0)
    assert compare(part, whole) == (0, lost)
