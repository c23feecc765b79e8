"""Copies of videos on S3: fetched once, within the bound, and gone when nobody reads them."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
from collections import namedtuple
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from storage.errors import ObjectReadError, ObjectWriteError, StoreUnavailableError
from storage.layout import video_id_of
from workers.errors import ChangedVideoError, FetchError, ScratchFullError, ScratchTooSmallError
from workers.fingerprint import fingerprint
from workers.messages import ArchiveFile
from workers.scratch import Scratch, clear, forget, on_disk

CONTENT = {"a.mp4": b"aaaaaa", "b.mp4": b"bbbbbb", "c.mp4": b"cccccc"}
Usage = namedtuple("Usage", "total used free")


def listed(uri: str, content: bytes | None = None) -> ArchiveFile:
    data = CONTENT[uri] if content is None else content
    digest = fingerprint(len(data), lambda start, count: data[start : start + count])
    return ArchiveFile(
        video_id_of(uri),
        uri,
        f"s3://bucket/x/{uri}",
        len(data),
        digest,
        dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
    )


class Store:
    """Counts what is fetched from it."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    def __call__(self, file: ArchiveFile, target: Path) -> None:
        self.fetched.append(file.uri)
        target.write_bytes(CONTENT[file.uri])


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    """Room for two files of six bytes."""
    return Scratch(tmp_path / "scratch", 12)


@pytest.fixture
def store() -> Store:
    return Store()


def copies(scratch: Scratch) -> list[Path]:
    return sorted(path for path in scratch.folder.iterdir() if path.name != "room.lock")


def never(seconds: float) -> None:
    raise AssertionError("waits, and there is nothing to wait for")


def test_a_local_file_is_given_back_as_it_is(scratch: Scratch) -> None:
    file = ArchiveFile("0" * 16, "a.mp4", "/archive/a.mp4", 99, "", dt.datetime(2025, 1, 1, tzinfo=dt.UTC))
    with on_disk(file, scratch) as same:
        assert same is file
    forget(file, scratch)
    assert not scratch.folder.exists()


def test_a_video_is_fetched_once_and_removed_when_done(scratch: Scratch, store: Store) -> None:
    file = listed("a.mp4")
    with on_disk(file, scratch, store, never) as one, on_disk(file, scratch, store, never) as other:
        assert one.path == other.path
        assert one.path.endswith(".mp4")
        assert Path(one.path).read_bytes() == b"aaaaaa"
        assert (one.uri, one.video_id, one.fingerprint) == (file.uri, file.video_id, file.fingerprint)
        forget(file, scratch)
        assert Path(one.path).exists(), "somebody reads it"
    with on_disk(file, scratch, store, never):
        pass
    assert store.fetched == ["a.mp4"]
    forget(file, scratch)
    assert copies(scratch) == []


def test_what_others_keep_in_the_folder_is_neither_counted_nor_removed(
    scratch: Scratch, store: Store
) -> None:
    (scratch.folder / "lost+found").mkdir(parents=True)
    for name in ("notes.txt", "a-holiday-2024.mp4x", "backup-of-2025-11-03.tar"):
        (scratch.folder / name).write_bytes(b"x" * 100)
    with on_disk(listed("a.mp4"), scratch, store, never):
        pass
    assert clear(scratch) == 1
    left = sorted(path.name for path in scratch.folder.iterdir())
    assert left == ["a-holiday-2024.mp4x", "backup-of-2025-11-03.tar", "lost+found", "notes.txt", "room.lock"]


def test_where_all_room_is_in_use_one_waits_for_the_others(scratch: Scratch, store: Store) -> None:
    waited: list[float] = []
    with ExitStack() as first:
        first.enter_context(on_disk(listed("a.mp4"), scratch, store, never))
        with on_disk(listed("b.mp4"), scratch, store, never):

            def finish_the_first(seconds: float) -> None:
                assert len(copies(scratch)) == 2
                waited.append(seconds)
                first.close()

            with on_disk(listed("c.mp4"), scratch, store, finish_the_first):
                names = {Path(path).read_bytes() for path in copies(scratch)}
                assert names == {b"bbbbbb", b"cccccc"}
    assert len(waited) == 1


def test_what_nobody_reads_makes_room_the_latest_first(scratch: Scratch, store: Store) -> None:
    for number, uri in enumerate(("a.mp4", "b.mp4")):
        with on_disk(listed(uri), scratch, store, never) as copy:
            os.utime(copy.path, (number, number))
    with on_disk(listed("c.mp4"), scratch, store, never):
        assert {path.read_bytes() for path in copies(scratch)} == {b"aaaaaa", b"cccccc"}


def test_a_video_larger_than_the_scratch_space_is_refused_with_the_setting(
    tmp_path: Path, store: Store
) -> None:
    with (
        pytest.raises(ScratchTooSmallError, match=r"raise archive\.scratch_gib") as error,
        on_disk(listed("a.mp4"), Scratch(tmp_path, 5), store, never),
    ):
        raise AssertionError
    assert "GiB" in error.value.reason
    assert store.fetched == []


def part_of(file: ArchiveFile, scratch: Scratch) -> Path:
    scratch.folder.mkdir(exist_ok=True)
    return scratch.folder / f"{file.video_id}-{file.fingerprint}-{file.size_bytes}.mp4.part"


def test_what_another_process_is_fetching_is_waited_for(scratch: Scratch, store: Store) -> None:
    part = part_of(listed("a.mp4"), scratch)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert clear(scratch) == 0

    def the_other_finishes(seconds: float) -> None:
        part.write_bytes(b"aaaaaa")
        part.rename(part.with_suffix(""))
        os.close(descriptor)

    with on_disk(listed("a.mp4"), scratch, store, the_other_finishes) as copy:
        assert Path(copy.path).read_bytes() == b"aaaaaa"
    assert store.fetched == []


def test_what_a_killed_process_left_half_fetched_is_fetched_anew(scratch: Scratch, store: Store) -> None:
    part_of(listed("a.mp4"), scratch).write_bytes(b"aa")
    with on_disk(listed("a.mp4"), scratch, store, never) as copy:
        assert Path(copy.path).read_bytes() == b"aaaaaa"
    part_of(listed("b.mp4"), scratch).write_bytes(b"bb")
    assert clear(scratch) == 2
    assert copies(scratch) == []


@pytest.mark.parametrize(
    ("failure", "error", "said"),
    [
        (FileNotFoundError("gone"), FetchError, "was removed while the run was on"),
        (ObjectReadError("in cold storage"), FetchError, "cold storage"),
        (StoreUnavailableError("503"), StoreUnavailableError, "503"),
        (
            ObjectWriteError("no space"),
            ScratchFullError,
            r"no space; or name another folder as archive\.scratch",
        ),
    ],
)
def test_a_failed_fetch_is_named_and_leaves_nothing(
    scratch: Scratch, failure: Exception, error: type[Exception], said: str
) -> None:
    def fetch(file: ArchiveFile, target: Path) -> None:
        target.write_bytes(b"aaa")
        raise failure

    with pytest.raises(error, match=said), on_disk(listed("a.mp4"), scratch, fetch, never):
        raise AssertionError
    assert copies(scratch) == []


def test_an_object_that_was_replaced_since_the_listing_is_not_taken(scratch: Scratch, store: Store) -> None:
    with (
        pytest.raises(ChangedVideoError, match="was replaced"),
        on_disk(listed("a.mp4", b"aaaaab"), scratch, store, never),
    ):
        raise AssertionError
    assert copies(scratch) == []


@pytest.fixture
def free_bytes(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the room that is free on the disk of the scratch folder."""

    def set_free(count: int) -> None:
        monkeypatch.setattr(
            "workers.scratch.shutil.disk_usage", lambda folder: Usage(100, 100 - count, count)
        )

    return set_free


def test_a_full_scratch_disk_is_one_line(
    scratch: Scratch, store: Store, free_bytes: Callable[[int], None]
) -> None:
    free_bytes(5)
    with (
        pytest.raises(ScratchFullError, match=r"GiB are free on this disk; make room there, or name another"),
        on_disk(listed("a.mp4"), scratch, store, never),
    ):
        raise AssertionError


def test_on_a_full_scratch_disk_one_waits_for_those_who_will_make_room(
    scratch: Scratch, store: Store, free_bytes: Callable[[int], None]
) -> None:
    with ExitStack() as first:
        first.enter_context(on_disk(listed("a.mp4"), scratch, store, never))
        free_bytes(5)

        def finish_the_first(seconds: float) -> None:
            first.close()
            free_bytes(11)

        with on_disk(listed("b.mp4"), scratch, store, finish_the_first) as copy:
            assert Path(copy.path).read_bytes() == b"bbbbbb"
