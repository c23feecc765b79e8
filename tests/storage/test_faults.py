"""A store that fails: what is tried again, what is said, and what readers see meanwhile."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import storage.remote
from storage import Store
from storage.catalog import Catalog, StorePin, pin_or_check
from storage.errors import (
    ObjectReadError,
    ObjectWriteError,
    StorageError,
    StoreAccessError,
    StoreUnavailableError,
)
from storage.filesystem import LocalFilesystem, StoreFilesystem, open_filesystem
from storage.layout import detections_path, video_id_of
from storage.remote import REQUEST_ATTEMPTS, TRANSFER_ATTEMPTS
from tests.readers import readers
from tests.s3_server import Fault, S3Server

SLOW_S = 1.0
PASSING = {
    "500": Fault(status=500),
    "503 SlowDown": Fault(status=503),
    "a dropped connection": Fault(drop=True),
    "an answer that is lost": Fault(lose=True),
    "an answer that breaks off": Fault(cut=True),
}


@pytest.mark.s3
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_what_may_pass_is_tried_again(
    s3: StoreFilesystem, s3_server: S3Server, no_backoff: None, fault: Fault
) -> None:
    requests: list[tuple[str, Callable[[], Any], Any]] = [
        ("PUT", lambda: s3.write_atomic("events/a", b"content"), None),
        ("GET", lambda: s3.read_bytes("events/a"), b"content"),
        ("GET", lambda: s3.read_tail("events/a", 4), b"tent"),
        ("GET", lambda: [entry.path for entry in s3.list("events")], ["events/a"]),
        ("DELETE", lambda: s3.delete("events/a"), None),
    ]
    for method, ask, answer in requests:
        faults = [] if fault.cut and method != "GET" else [fault, fault]  # these answers have no body
        with s3_server.failing_first(*faults, method=method) as left:
            assert ask() == answer
        assert left == []
    assert not s3.exists("events/a")


@pytest.mark.s3
def test_a_slow_answer_is_asked_for_again(
    s3_prefix: str, s3_server: S3Server, no_backoff: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.remote, "READ_TIMEOUT_S", SLOW_S / 4)
    fs = open_filesystem(s3_prefix)
    with s3_server.failing_first(Fault(delay_s=SLOW_S), method="PUT") as left:
        fs.write_atomic("events/a", b"content")
    assert left == []
    assert fs.read_bytes("events/a") == b"content"


@pytest.mark.s3
def test_a_store_that_keeps_failing_is_given_up_in_one_line(
    s3: StoreFilesystem, s3_server: S3Server, no_backoff: None
) -> None:
    s3.write_atomic("events/a", b"old")
    start = len(s3_server.requests)
    with (
        s3_server.failing(lambda method, path: Fault(status=503)),
        pytest.raises(
            StoreUnavailableError, match=r"events/a: the store does not answer as it should.*SlowDown"
        ) as e,
    ):
        s3.write_atomic("events/a", b"new")
    assert "run the same command again later" in str(e.value)
    assert "\n" not in str(e.value)
    assert len(s3_server.requests) - start == REQUEST_ATTEMPTS * TRANSFER_ATTEMPTS
    assert s3.read_bytes("events/a") == b"old"


@pytest.mark.s3
@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, r"refuses the credentials \(ExpiredToken.*renew them"),
        (403, r"access is denied \(AccessDenied.*PutObject"),
    ],
)
def test_what_no_retry_helps_is_said_at_once(
    s3: StoreFilesystem, s3_server: S3Server, status: int, said: str
) -> None:
    for ask in (
        lambda: s3.write_atomic("events/a", b""),
        lambda: s3.read_bytes("events/a"),
        lambda: s3.read_tail("events/a", 8),
        lambda: s3.list("events"),
        lambda: s3.read_versioned("events/a"),
        lambda: s3.write_if("events/a", b"", None),
    ):
        start = len(s3_server.requests)
        with (
            s3_server.failing(lambda method, path: Fault(status=status)),
            pytest.raises(StoreAccessError, match=f"s3://.*{said}") as error,
        ):
            ask()
        assert "\n" not in str(error.value)
        assert len(s3_server.requests) - start == 1


@pytest.mark.s3
def test_a_missing_bucket_is_no_empty_store(s3_server: S3Server) -> None:
    fs = open_filesystem("s3://no-such-bucket/store")
    for ask in (
        lambda: fs.list(""),
        lambda: fs.read_bytes("store.json"),
        lambda: fs.read_tail("a", 8),
        lambda: fs.read_versioned("a"),
        lambda: fs.write_atomic("a", b""),
        lambda: fs.write_if("a", b"", None),
    ):
        with pytest.raises(
            StoreAccessError, match="there is no bucket no-such-bucket; create it, or correct"
        ):
            ask()


@pytest.mark.s3
def test_no_credentials(s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    # With other settings it is another client, which remembers no credentials.
    monkeypatch.setattr(storage.remote, "READ_TIMEOUT_S", 30.0)
    with pytest.raises(StoreAccessError, match=r"no credentials for S3.*set AWS_PROFILE"):
        open_filesystem(s3_prefix).read_bytes("store.json")


STEPS = ("mkdir", "open", "fsync", "replace")
DISK = [
    (errno.ENOSPC, "make room there and run the same command again"),
    (errno.EROFS, "let this user write there, or name another folder"),
    (errno.EACCES, "let this user write there, or name another folder"),
    (errno.EIO, ""),
]


@pytest.mark.parametrize(("number", "advice"), DISK, ids=[errno.errorcode[number] for number, _ in DISK])
@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_fails_at_any_step_leaves_what_was_there(
    local: LocalFilesystem, monkeypatch: pytest.MonkeyPatch, step: str, number: int, advice: str
) -> None:
    local.write_atomic("events/old", b"old")
    before = local.list("")

    def fail(*given: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    path = "events/new" if step == "mkdir" else "events/old"
    target = {"mkdir": "Path.mkdir", "open": "Path.open", "fsync": "os.fsync", "replace": "os.replace"}[step]
    with monkeypatch.context() as patch:
        patch.setattr(f"storage.filesystem.{target}", fail)
        with pytest.raises(ObjectWriteError) as error:
            local.write_atomic(path, b"new")
    said = str(error.value)
    assert said.startswith(f"{local.root / path}: could not be written: {os.strerror(number)}")
    assert advice in said
    assert local.list("") == before
    assert local.read_bytes("events/old") == b"old"
    assert list((local.root / ".staging").iterdir()) == []


def test_a_limit_of_the_kernel_in_the_middle_of_a_write(local: LocalFilesystem) -> None:
    """The kernel itself breaks the write off, as on a full disk."""
    local.write_atomic("events/a", b"old")
    code = f"""
import resource, signal
from storage.filesystem import LocalFilesystem
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    LocalFilesystem(Path({str(local.root)!r})).write_atomic("events/a", b"n" * 10000)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ObjectWriteError" in done.stdout
    assert "make room there" in done.stdout
    assert [path.name for path in local.root.rglob("*") if path.is_file()] == ["a"]
    assert local.read_bytes("events/a") == b"old"


def test_what_may_not_be_read_is_named(local: LocalFilesystem, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write_atomic("events/a", b"x")

    def refuse(*given: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("storage.filesystem.Path.read_bytes", refuse)
    monkeypatch.setattr("storage.filesystem.os.scandir", refuse)
    with pytest.raises(ObjectReadError, match=r"events/a: could not be read: Permission denied"):
        local.read_bytes("events/a")
    with pytest.raises(ObjectReadError, match=r"events: could not be listed: Permission denied"):
        local.list("events")


VIDEOS, ROWS, ROUNDS = 6, 40, 3


@pytest.fixture
def faults(
    fs: StoreFilesystem, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[None]:
    """Every fifth request fails, or every fifth step that publishes; the same ones in every run of one thread."""
    rng = random.Random(7)
    if isinstance(fs, LocalFilesystem):
        replace = os.replace

        def unreliable(source: Path, target: Path) -> None:
            if rng.random() < 0.2:
                raise OSError(errno.ENOSPC, "No space left on device")
            replace(source, target)

        monkeypatch.setattr("storage.filesystem.os.replace", unreliable)
        yield
        return
    server: S3Server = request.getfixturevalue("s3_server")
    request.getfixturevalue("no_backoff")
    kinds = [Fault(status=503), Fault(status=500), Fault(drop=True), Fault(lose=True)]
    with server.failing(lambda method, path: rng.choice(kinds) if rng.random() < 0.2 else None):
        yield


def test_readers_see_all_rows_of_a_video_or_none(fs: StoreFilesystem, reserve: Any, faults: None) -> None:
    """While one process writes and writes again, and the store fails now and then."""
    catalog = Catalog(fs)
    ids = [video_id_of(f"{number}.mp4") for number in range(VIDEOS)]

    def insist(write: Callable[[], object]) -> None:
        while True:
            try:
                write()
            except StorageError:
                continue
            return

    def store(video_id: str) -> None:
        rows = reserve.detections(video_id, ROWS, seed=3)
        insist(lambda: catalog.write_detections(reserve.north_1, rows, reserve.detections_footer(video_id)))

    insist(lambda: pin_or_check(fs, StorePin(reserve.behaviours, "pattern", reserve.zones)))
    store(ids[0])

    def write_all() -> None:
        for _ in range(ROUNDS):
            for video_id in ids:
                store(video_id)

    looks = 0
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write_all)
        while looks == 0 or not writer.done():
            for name, read in readers(fs).items():
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    counts = read().groupby("video_id").size()
                assert set(counts) == {ROWS}, name
                assert set(counts.index) <= set(ids), name
            looks += 1
        writer.result()
    assert len(Store(fs.uri).detections()) == VIDEOS * ROWS
    paths = [entry.path for entry in fs.list("")]
    assert paths == sorted([*(detections_path(reserve.north_1, v) for v in ids), "store.json"])
