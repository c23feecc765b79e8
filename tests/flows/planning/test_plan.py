"""The command on a tiny archive, with a profile that was made up."""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import fsspec
import numpy as np
import pytest

from flows.cli import main
from flows.planning.archive import outline_archive, read_header
from flows.settings import ArchiveSettings
from storage.filesystem import open_filesystem
from storage.runs import write_run
from tests.flows.planning.records import record
from workers.remote_archive import ObjectReader


def write_video(path: Path, frames: int) -> None:
    """Grey pictures, ten a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for _ in range(frames):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two cameras, one with two days; a file that is no video."""
    root = tmp_path / "archive"
    for camera, day, frames in (("north", 1, 30), ("north", 2, 50), ("south", 1, 20)):
        write_video(root / "lake" / camera / f"{camera}_2026030{day}T060000Z.mp4", frames)
    (root / "lake" / "south" / "south_20260302T060000Z.mp4").write_bytes(b"")
    return root


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    write_run(open_filesystem(str(store)), dt.datetime(2026, 3, 9, tzinfo=dt.UTC), record())
    return store


def plan(archive: object, profile: object, *options: str) -> int:
    return main(["plan", str(archive), "--profile", str(profile), *options])


def test_the_plan_names_time_limit_memory_and_what_it_takes_for_granted(
    archive: Path, profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(archive, profile, "--cpus", "4", "--gpus", "0", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["videos"], found["camera_days"]) == (3, 3)
    assert found["video_s"] == pytest.approx(10.0, abs=0.2)
    assert found["present_s"] == pytest.approx(5.0, abs=0.1)
    assert list(found["left_out"]) == ["lake/south/south_20260302T060000Z.mp4"]
    # Beside the phases the start of 12 s; two of the three days are derived, in 6 s, while the next is scored.
    assert found["wall_s"] == pytest.approx(sum(found["profile"]["phases_s"].values()) + 12 - 2 * 6, abs=0.5)
    assert found["limiting_stage"] in ("decode", "infer")
    assert found["memory_mb"]["decode processes"] == 2 * 700
    assert found["memory_mb"]["actors"] == 900
    assert found["profile"]["video_hours_per_day"] > 0
    assert plan(archive, profile, "--cpus", "4", "--gpus", "0") == 0
    text = capsys.readouterr().out
    assert found["profile"]["why"] in text
    assert "an actor has 4 CPU threads, as in the profile" in text
    assert "left out: lake/south/south_20260302T060000Z.mp4" in text


def test_presence_and_a_gpu_change_the_prediction(
    archive: Path, profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(archive, profile, "--cpus", "4", "--gpus", "0", "--presence", "1", "--json") == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["present_s"] == pytest.approx(whole["video_s"])
    gpu = ("--cpus", "4", "--gpus", "1", "--clips-per-s", "700", "--presence", "1", "--json")
    assert plan(archive, profile, *gpu) == 0
    faster = json.loads(capsys.readouterr().out)
    assert faster["wall_s"] < whole["wall_s"]
    assert [stage["stage"] for stage in faster["profile"]["stages"]] == ["decode", "infer"]


@pytest.mark.parametrize(
    ("archive_name", "options", "message"),
    [
        ("archive", ("--cpus", "4", "--gpus", "1"), "--clips-per-s"),
        ("archive", ("--cpus", "4", "--gpus", "1", "--clips-per-s", "9", "--actors", "2"), "each takes one"),
        ("store", ("--cpus", "4", "--gpus", "0"), "no file in it has a header"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(
    archive: Path,
    profile: Path,
    capsys: pytest.CaptureFixture[str],
    archive_name: str,
    options: tuple[str, ...],
    message: str,
) -> None:
    root = archive_name if "://" in archive_name else str(archive.parent / archive_name)
    assert plan(root, profile, *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_header_tells_the_length(archive: Path) -> None:
    path = archive / "lake" / "north" / "north_20260302T060000Z.mp4"
    with path.open("rb") as source:
        seconds, _ = read_header(source, path)
    assert seconds == pytest.approx(5.0, abs=0.1)


@pytest.mark.s3
def test_an_archive_on_s3_is_planned_as_the_folder_and_read_in_part(archive: Path, s3_prefix: str) -> None:
    s3 = fsspec.filesystem("s3")
    for path in archive.rglob("*.*"):
        s3.pipe_file(f"{s3_prefix}/{path.relative_to(archive).as_posix()}", path.read_bytes())
    pattern = ArchiveSettings().path_pattern
    here, there = (outline_archive(root, pattern, {}, "lake") for root in (str(archive), s3_prefix))
    assert sorted(there.videos) == sorted(here.videos)
    assert there.left_out.keys() == here.left_out.keys()


def test_only_what_is_read_of_an_object_is_fetched() -> None:
    content = bytes(range(256)) * 40
    fetched: list[tuple[int, int]] = []

    def read_range(path: str, start: int, count: int) -> bytes:
        fetched.append((start, count))
        return content[start : start + count]

    reader = io.BufferedReader(
        ObjectReader(SimpleNamespace(read_range=read_range), "a.mp4", len(content)), 64
    )
    assert reader.read(4) == content[:4]
    assert reader.seek(-8, io.SEEK_END) == len(content) - 8
    assert reader.read() == content[-8:]
    assert reader.seek(len(content) + 9) == len(content) + 9
    assert reader.read(1) == b""
    assert sum(count for _, count in fetched) < 200
