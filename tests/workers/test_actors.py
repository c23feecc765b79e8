"""What the tasks do with a video on S3, without a cluster: the same as with the file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from storage.errors import StoreUnavailableError
from tests.s3_server import Fault, S3Server
from workers.actors import (
    PROBE_S,
    DecodeLimits,
    DecodeReport,
    build_plates,
    clear_scratch,
    decode_segment,
    probe_file,
    survey_recording,
)
from workers.archive import list_archive, place_recording
from workers.messages import Presence, Probe, Quarantined, Recording
from workers.probe import probe_video
from workers.scratch import Scratch
from workers.segments import plan_segments
from workers.survey import whole_video

pytestmark = pytest.mark.s3
SIZE = (48, 80)


@pytest.fixture
def archive(tmp_path: Path, write_video: Callable[..., Path], s3_prefix: str) -> tuple[str, str]:
    """An archive of one video of 2 s in a folder, and the same on S3."""
    path = write_video(tmp_path / "archive" / "lake" / "north" / "north_20251103T155000Z.mp4")
    fsspec.filesystem("s3").pipe_file(f"{s3_prefix}/lake/north/{path.name}", path.read_bytes())
    return str(tmp_path / "archive"), s3_prefix


def call(task: Any, *arguments: object) -> Any:
    """The body of a task in this process."""
    return task._function(*arguments)


def through_all_stages(root: str, scratch: Scratch) -> list[Any]:
    """Times, plates, presence and frames of the one video of an archive."""
    (file,) = list_archive(root)
    probe = call(probe_file, file, scratch)
    assert isinstance(probe, Probe)
    recording: Recording = place_recording(file, probe)
    plates = call(build_plates, [recording], SIZE, scratch)
    presence, _ = call(survey_recording, recording, SIZE, plates, None, 2.5, scratch)
    (segment,) = plan_segments(recording, whole_video(recording, "all of it"), 300.0)
    *chunks, report = call(decode_segment, segment, SIZE, DecodeLimits(2**33, 60.0, scratch))
    assert isinstance(report, DecodeReport)
    frames = np.concatenate([chunk.frames for chunk in chunks])
    seen = [plate.plate_id for plate in plates]
    return [probe.times_s, seen, presence.spans_s, frames, report.frames_decoded]


def test_every_stage_sees_the_same_and_the_video_is_fetched_once(
    archive: tuple[str, str], tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("limit_address_space", "limit_open_files"):  # for good, and this process is the tests'
        monkeypatch.setattr(f"workers.actors.{limit}", lambda count: None)
    scratch = Scratch(tmp_path / "scratch", 2**20)
    here = through_all_stages(archive[0], scratch)
    assert not scratch.folder.exists()
    list_archive(archive[1])
    listed = len(s3_server.requests)
    list_archive(archive[1])
    requests_of_a_listing = len(s3_server.requests) - listed
    before = len(s3_server.requests)
    there = through_all_stages(archive[1], scratch)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(s3_server.requests) - before == requests_of_a_listing + 1
    assert call(clear_scratch, scratch) == 1


@pytest.mark.parametrize("name", ["counted.avi", "one_iframe.ts"])
def test_frames_before_a_late_span_are_progress(
    name: str, write_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarts: list[float] = []
    monkeypatch.setattr("workers.actors.restart_limit", restarts.append)
    for limit in ("limit_address_space", "limit_open_files"):
        monkeypatch.setattr(f"workers.actors.{limit}", lambda count: None)
    options = {"bf": "2"} if name == "counted.avi" else {"g": "1000"}
    path = write_video(tmp_path / "archive" / "lake" / "north" / name, 90, rate=15, options=options)
    (file,) = list_archive(str(tmp_path / "archive"))
    recording = place_recording(file, probe_video(path))
    late = Presence(np.array([[4.0, 5.0]]), "spans", "late")
    (segment,) = plan_segments(recording, late)
    task = call(
        decode_segment, segment, SIZE, DecodeLimits(2**33, 60.0, Scratch(tmp_path / "scratch", 2**20))
    )
    next(task)
    assert restarts == [60.0] * len(restarts)
    assert len(restarts) >= segment.frames.first
    task.close()


def test_a_probe_may_take_as_long_as_packets_come(
    archive: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarts: list[float] = []
    monkeypatch.setattr("workers.actors.restart_limit", restarts.append)
    (file,) = list_archive(archive[0])
    probe = call(probe_file, file, Scratch(tmp_path / "scratch", 2**20))
    assert restarts[: probe.frame_count] == [PROBE_S] * 60


def test_a_video_that_has_no_room_is_quarantined_with_the_setting(
    archive: tuple[str, str], tmp_path: Path
) -> None:
    (file,) = list_archive(archive[1])
    found = call(probe_file, file, Scratch(tmp_path / "scratch", 100))
    assert isinstance(found, Quarantined)
    assert "raise archive.scratch_gib" in found.reason


def test_a_store_that_does_not_answer_is_no_fault_of_the_video(
    archive: tuple[str, str],
    tmp_path: Path,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0.0
    )
    (file,) = list_archive(archive[1])
    with (
        s3_server.failing(lambda method, path: Fault(status=503)),
        pytest.raises(StoreUnavailableError, match="SlowDown"),
    ):
        call(probe_file, file, Scratch(tmp_path / "scratch", 2**20))


def test_a_process_of_a_task_starts_without_torch() -> None:
    """A decode process lives for one segment, and torch takes seconds to load."""
    code = "import sys, workers.actors, workers.decode, workers.derive; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
