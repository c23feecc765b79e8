from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.errors import ObjectWriteError, UnsupportedStoreError
from storage.filesystem import (
    STALE_STAGING_S,
    LocalFilesystem,
    StoreFilesystem,
    open_filesystem,
)
from storage.layout import STAGING
from storage.remote import RemoteFilesystem


def test_objects_are_read_back_listed_and_deleted(fs: StoreFilesystem) -> None:
    fs.write_atomic("events/site=b/x.parquet", b"later")
    fs.write_atomic("events/site=a/y%20z.parquet", b"abc")
    fs.write_atomic("videos/site=a/y.parquet", b"")
    assert fs.read_bytes("events/site=a/y%20z.parquet") == b"abc"
    assert fs.exists("events/site=a/y%20z.parquet")
    listed = [(entry.path, entry.size_bytes) for entry in fs.list("events")]
    assert listed == [("events/site=a/y%20z.parquet", 3), ("events/site=b/x.parquet", 5)]
    assert [entry.path for entry in fs.list("")][-1] == "videos/site=a/y.parquet"
    fs.delete("events/site=b/x.parquet")
    fs.delete("events/site=b/x.parquet")
    assert not fs.exists("events/site=b/x.parquet")
    assert len(fs.list("events")) == 1


def test_what_is_not_there(fs: StoreFilesystem) -> None:
    assert fs.list("events") == []
    assert fs.list("") == []
    assert not fs.exists("events/a")
    with pytest.raises(FileNotFoundError):
        fs.read_bytes("events/a")
    with pytest.raises(FileNotFoundError):
        fs.read_tail("events/a", 8)


@pytest.mark.parametrize("size", [0, 3, 8, 20])
def test_tail(fs: StoreFilesystem, size: int) -> None:
    data = bytes(range(size))
    fs.write_atomic("a", data)
    assert fs.read_tail("a", 8) == data[-8:]


def test_a_replaced_object_has_another_version(fs: StoreFilesystem) -> None:
    fs.write_atomic("a/b", b"one")
    (first,) = fs.list("a")
    assert fs.list("a") == [first]
    fs.write_atomic("a/b", b"two")
    (second,) = fs.list("a")
    assert fs.read_bytes("a/b") == b"two"
    assert second.version != first.version


def test_arrow_reads_the_same_object(fs: StoreFilesystem) -> None:
    fs.write_atomic("a/b", b"words")
    with fs.arrow_filesystem().open_input_stream(fs.arrow_path("a/b")) as stream:
        assert stream.read() == b"words"


def test_nothing_is_made_before_the_first_write(local: LocalFilesystem) -> None:
    open_filesystem(local.root)
    assert not local.root.exists()


def test_nothing_is_visible_when_publishing_fails(
    local: LocalFilesystem, fail_before_publishing: Callable[[], None]
) -> None:
    local.write_atomic("events/old", b"old")
    before = local.list("")
    fail_before_publishing()
    for path in ("events/old", "events/new"):
        with pytest.raises(ObjectWriteError, match=rf"{path}: could not be written: No space left on device"):
            local.write_atomic(path, b"new")
    assert local.read_bytes("events/old") == b"old"
    assert local.list("") == before
    assert [path for path in local.root.rglob("*") if path.is_file()] == [local.root / "events/old"]


def test_a_killed_writer_leaves_only_a_staged_file(
    local: LocalFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def look(descriptor: int) -> None:
        files = [path.relative_to(local.root).parts[0] for path in local.root.rglob("*") if path.is_file()]
        seen.append(files)
        monkeypatch.undo()

    monkeypatch.setattr("storage.filesystem.os.fsync", lambda descriptor: None)
    local.write_atomic("events/other/old", b"")
    monkeypatch.setattr("storage.filesystem.os.fsync", look)
    local.write_atomic("events/other/new", b"bytes")
    assert [sorted(files) for files in seen] == [[".staging", "events"]]


def test_content_reaches_the_disk_before_the_name(
    local: LocalFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write_atomic("events/old", b"")
    steps: list[str] = []
    replace, fsync = os.replace, os.fsync

    def logged_fsync(descriptor: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    def logged_replace(source: Path, target: Path) -> None:
        steps.append("replace")
        replace(source, target)

    monkeypatch.setattr("storage.filesystem.os.fsync", logged_fsync)
    monkeypatch.setattr("storage.filesystem.os.replace", logged_replace)
    local.write_atomic("events/new", b"bytes")
    assert steps == ["sync file", "replace", "sync folder"]


def test_others_may_read_what_is_written(local: LocalFilesystem) -> None:
    old = os.umask(0o022)
    try:
        local.write_atomic("a", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((local.root / "a").stat().st_mode) == 0o644


def test_a_group_that_shares_a_store_shares_its_lock(local: LocalFilesystem) -> None:
    guard = local.root / STAGING / "a.lock"
    old = os.umask(0o002)
    try:
        local.write_if("a", b"x", None)
    finally:
        os.umask(old)
    assert stat.S_IMODE(guard.stat().st_mode) == 0o664
    guard.unlink()
    guard.mkdir()
    with pytest.raises(ObjectWriteError, match=rf"^{guard}: could not be written"):
        local.write_if("a", b"y", None)


def test_only_stale_staged_files_are_cleared(local: LocalFilesystem) -> None:
    local.write_atomic("a", b"x")
    for name, age_s in (("fresh", STALE_STAGING_S / 2), ("stale", STALE_STAGING_S * 2)):
        staged = local.root / ".staging" / name
        staged.write_bytes(b"half")
        os.utime(staged, (time.time() - age_s,) * 2)
    assert local.clear_staging() == 1
    assert [path.name for path in (local.root / ".staging").iterdir()] == ["fresh"]
    assert [entry.path for entry in local.list("")] == ["a"]


def test_addresses(tmp_path: Path) -> None:
    assert open_filesystem(tmp_path) == LocalFilesystem(tmp_path)
    assert open_filesystem(f"file://{tmp_path}/a%20b") == LocalFilesystem(tmp_path / "a b")
    remote = open_filesystem("s3://bucket/some/prefix/")
    assert isinstance(remote, RemoteFilesystem)
    assert remote.arrow_path("events/x") == "bucket/some/prefix/events/x"


def test_relative_address_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened = open_filesystem("out")
    monkeypatch.chdir("/")
    opened.write_atomic("a", b"x")
    assert (tmp_path / "out" / "a").read_bytes() == b"x"


def test_addresses_that_are_refused() -> None:
    with pytest.raises(UnsupportedStoreError, match=r"gs://bucket: a store is a folder or s3://"):
        open_filesystem("gs://bucket")
    with pytest.raises(UnsupportedStoreError) as caught:
        open_filesystem("s3://key:hunter2@bucket/prefix")
    assert "hunter2" not in str(caught.value)


def test_a_conditional_write_needs_the_version_that_is_there(fs: StoreFilesystem) -> None:
    assert fs.read_versioned("a") is None
    assert not fs.write_if("a", b"one", "some version")
    assert fs.write_if("a", b"one", None)
    assert not fs.write_if("a", b"two", None)
    found = fs.read_versioned("a")
    assert found is not None
    assert found[0] == b"one"
    assert fs.write_if("a", b"three", found[1])
    assert not fs.write_if("a", b"four", found[1])
    assert fs.read_bytes("a") == b"three"
