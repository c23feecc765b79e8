"""An archive on S3 is what the same files in a folder are."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from storage.errors import StoreAccessError
from tests.s3_server import Fault, S3Server
from workers.archive import list_archive
from workers.errors import ArchiveError
from workers.remote_archive import list_remote_archive
from workers.scratch import Scratch, on_disk

pytestmark = pytest.mark.s3
MP4 = b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) * 1600
"""The head of a container and 400 KiB, so that its three samples are different ones."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "lake/north/north_20251103T155000Z.mp4": MP4,
        "lake/north/with space & ünder#score.MP4": MP4[:90_000],
        "lake/no_suffix": MP4[:300],
        "lake/letter": b"Dear cranes",
        "lake/empty.avi": b"",
        "lake/notes.txt": b"cranes at dawn",
        "lake/.hidden/x.mp4": MP4[:200],
        ".trash.mp4": MP4[:200],
        "top.mkv": MP4[:196_609],
    }
    for uri, content in files.items():
        (tmp_path / "archive" / uri).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "archive" / uri).write_bytes(content)
    return tmp_path / "archive"


@pytest.fixture
def bucket(folder: Path, s3_prefix: str) -> str:
    """The same files on S3, and the mark of a folder that some browsers of buckets leave."""
    s3 = fsspec.filesystem("s3")
    for path in folder.rglob("*"):
        if path.is_file():
            s3.pipe_file(f"{s3_prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    s3.pipe_file(f"{s3_prefix}/lake/", b"")
    return s3_prefix


def test_ids_sizes_and_fingerprints_are_those_of_the_folder(folder: Path, bucket: str) -> None:
    here, there = list_archive(str(folder)), list_archive(f"{bucket}/")
    assert len(here) == 5
    assert [(f.uri, f.video_id, f.size_bytes, f.fingerprint) for f in there] == [
        (f.uri, f.video_id, f.size_bytes, f.fingerprint) for f in here
    ]
    assert {f.path for f in there} == {f"{bucket}/{f.uri}" for f in here}
    assert all(f.file_time.tzinfo is not None and f.file_time.year > 2000 for f in there)


def test_only_samples_of_a_large_file_are_read(bucket: str, s3_server: S3Server, tmp_path: Path) -> None:
    (file,) = (f for f in list_remote_archive(bucket) if f.uri.startswith("lake/north/north"))
    start = len(s3_server.requests)
    list_remote_archive(bucket)
    key = f"/{file.path.removeprefix('s3://')}"
    assert s3_server.requests[start:].count(("GET", key)) == 3
    with on_disk(file, Scratch(tmp_path / "scratch", 2**20)) as copy:
        assert Path(copy.path).read_bytes() == MP4


def test_a_download_that_breaks_off_goes_on(bucket: str, s3_server: S3Server, tmp_path: Path) -> None:
    (file,) = (f for f in list_remote_archive(bucket) if f.uri == "top.mkv")
    with (
        s3_server.failing_first(Fault(cut=True), method="GET", path="top") as left,
        on_disk(file, Scratch(tmp_path / "scratch", 2**20)) as copy,
    ):
        assert Path(copy.path).read_bytes() == MP4[:196_609]
    assert left == []


def test_what_is_not_there_is_one_line(s3_prefix: str) -> None:
    with pytest.raises(ArchiveError, match="there is no object under this prefix"):
        list_archive(s3_prefix)
    with pytest.raises(StoreAccessError, match=r"there is no bucket no-such-bucket; create it, or correct"):
        list_archive("s3://no-such-bucket/archive")
