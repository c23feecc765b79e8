"""The whole job from an archive on S3 into a store on S3: the same rows as on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from flows.settings import Settings, load_settings
from storage import Store
from tests.s3_server import S3Server

pytestmark = pytest.mark.s3
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def remote_archive(reserve: Path, s3_bucket: Callable[[str], str]) -> str:
    """The videos of the reserve in a bucket of their own."""
    root, s3 = s3_bucket("archive"), fsspec.filesystem("s3")
    for path in (reserve / "archive").rglob("*.mp4"):
        s3.pipe_file(f"{root}/night/{path.relative_to(reserve / 'archive').as_posix()}", path.read_bytes())
    return f"{root}/night"


@pytest.fixture
def settings(reserve: Path, tmp_path: Path) -> Settings:
    """Scratch space for one and a half of the two videos, so that room has to be made."""
    largest = max(path.stat().st_size for path in (reserve / "archive").rglob("*.mp4"))
    archive = {"scratch": str(tmp_path / "scratch"), "scratch_gib": 1.5 * largest / 2**30}
    return load_settings(None, {"archive": archive})


def test_from_s3_to_s3_gives_the_rows_of_the_disk(
    first_run: tuple[Path, dict[str, Any]],
    remote_archive: str,
    s3_server: S3Server,
    settings: Settings,
    run: Run,
    same_results: Callable[[Path, Path], None],
    tmp_path: Path,
) -> None:
    store = remote_archive.replace("/night", "/behaviour")
    summary = run(remote_archive, store, settings)
    assert {video["status"] for video in summary["videos"]} == {"done"}
    fsspec.filesystem("s3").get(f"{store}/", f"{tmp_path / 'copy'}/", recursive=True)
    same_results(first_run[0], tmp_path / "copy")
    here, there = Store(first_run[0]).videos(), Store(store).videos()
    for column in ("video_id", "uri", "fingerprint", "start_time", "status"):
        assert there[column].tolist() == here[column].tolist()
    assert list((tmp_path / "scratch").glob("*.mp4*")) == []
    start = len(s3_server.requests)
    again = run(remote_archive, store, settings)
    assert (again["frames_decoded"], again["camera_days"]) == (0, 0)
    assert {method for method, _ in s3_server.requests[start:]} <= {"GET", "HEAD"}
