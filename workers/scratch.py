"""Local copies of videos that lie on S3: fetched once, within a bound, and removed when they are done with.

One folder serves all runs and all processes of a machine. Whoever reads a copy holds a shared ``flock`` on it, whoever
fetches one an exclusive ``flock`` on its unfinished file; the kernel lets both go when a process dies, so that what
nobody holds can always be removed. Each process holds one copy at a time, hence waiting for room comes to an end.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from storage.errors import ObjectReadError, ObjectWriteError
from workers.errors import ChangedVideoError, FetchError, ScratchFullError, ScratchTooSmallError
from workers.fingerprint import file_fingerprint
from workers.messages import ArchiveFile

POLL_S: Final = 0.2
"""Pause before looking again whether there is room, or whether another process has fetched the file."""
SCRATCH_FOLDER: Final = "aviaflow-scratch"
"""Made in the folder that a person names for copies."""
_PART: Final = ".part"
_COPY: Final = re.compile(r"[0-9a-f]{16}-[0-9a-z]+-\d+(\..*)?")
"""Video, fingerprint and size, as `_copy_of` names a copy."""
_ROOM: Final = "room.lock"

Fetch = Callable[[ArchiveFile, Path], None]


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where copies are kept, and how much they may take together."""

    folder: Path
    limit_bytes: int


def default_folder() -> Path:
    """A folder of this user in the system's place for temporary files."""
    return Path(tempfile.gettempdir()) / f"{SCRATCH_FOLDER}-{os.getuid()}"


def is_remote(file: ArchiveFile) -> bool:
    """Whether the file must be fetched before it can be opened."""
    return file.path.startswith("s3://")


def fetch_object(file: ArchiveFile, target: Path) -> None:
    """Download one file of an archive on S3."""
    from storage.remote import open_s3  # brings s3fs, which no local archive needs

    open_s3(file.path.removesuffix(f"/{file.uri}")).fetch(file.uri, target)


@contextmanager
def on_disk(
    file: ArchiveFile,
    scratch: Scratch,
    fetch: Fetch = fetch_object,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[ArchiveFile]:
    """The file with a ``path`` that can be opened here, for as long as the body runs.

    Args:
        file: of a local archive (given back as it is) or of one on S3.
        scratch: where copies are kept; waits while others need all of it.
        fetch: downloads the file.
        sleep: waits so many seconds.

    Raises:
        ScratchTooSmallError: the file is larger than all of the scratch space.
        ScratchFullError: the disk has less room than the scratch space may take, and nobody who would make some.
        ChangedVideoError: the object is not the one that was listed.
        FetchError: the object is gone, or archived where it cannot be read.
        StorageError: S3 refuses or does not answer.
    """
    if not is_remote(file):
        yield file
        return
    if file.size_bytes > scratch.limit_bytes:
        raise ScratchTooSmallError(
            f"the file has {file.size_bytes / 2**30:.2f} GiB and the scratch space {scratch.limit_bytes / 2**30:g}: "
            "raise archive.scratch_gib, or split the file",
            file.uri,
        )
    descriptor, path = _acquire(file, scratch, fetch, sleep)
    try:
        yield dataclasses.replace(file, path=str(path))
    finally:
        os.close(descriptor)


def forget(file: ArchiveFile, scratch: Scratch) -> None:
    """Remove this machine's copy of a file that is done with, unless somebody reads it."""
    path = _copy_of(file, scratch)
    if is_remote(file) and path.exists():
        with _room(scratch.folder):
            _remove_unused(path)


def clear(scratch: Scratch) -> int:
    """Remove all copies that nobody reads, those of killed runs among them; returns how many."""
    if not scratch.folder.is_dir():
        return 0
    with _room(scratch.folder):
        return sum(_remove_unused(path) for path in _copies(scratch.folder))


def _acquire(
    file: ArchiveFile, scratch: Scratch, fetch: Fetch, sleep: Callable[[float], None]
) -> tuple[int, Path]:
    """A descriptor that holds the finished copy, and its path."""
    path = _copy_of(file, scratch)
    part = path.with_name(path.name + _PART)
    scratch.folder.mkdir(parents=True, exist_ok=True)
    while True:
        with _room(scratch.folder):
            with suppress(FileNotFoundError):
                return _hold(path, fcntl.LOCK_SH), path
            _remove_unused(part)
            descriptor = None if part.exists() else _reserve(part, scratch)
        if descriptor is None:
            sleep(POLL_S)
            continue
        try:
            _fill(file, part, fetch)
            with _room(scratch.folder):  # a lock that is exchanged for a weaker one is let go for a moment
                part.rename(path)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
        except BaseException:
            with _room(scratch.folder):
                part.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return descriptor, path


def _fill(file: ArchiveFile, part: Path, fetch: Fetch) -> None:
    try:
        fetch(file, part)
    except FileNotFoundError as error:
        raise FetchError("the object was removed while the run was on; run again", file.uri) from error
    except ObjectReadError as error:
        raise FetchError(str(error), file.uri) from error
    except ObjectWriteError as error:
        raise ScratchFullError(f"{error}; or name another folder as archive.scratch") from error
    if file_fingerprint(part, part.stat().st_size) != file.fingerprint:
        raise ChangedVideoError("the object was replaced while the run was on; run again", file.uri)


def _reserve(part: Path, scratch: Scratch) -> int | None:
    """A file of this name, exclusively held, or None where there is no room for it now."""
    copies = _copies(scratch.folder)
    # The latest first: what a plan looked at first is also what is worked on first.
    candidates = sorted(copies, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    while (lack := _lack(part, copies, scratch)) is not None:
        if not _remove_first(candidates, copies):
            if copies:
                return None
            raise ScratchFullError(
                f"{scratch.folder}: {lack}; make room there, or name another folder as archive.scratch"
            )
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _lack(part: Path, copies: list[Path], scratch: Scratch) -> str | None:
    """Why there is no room for one more file, or None where there is."""
    wanted = _reserved(part)
    if sum(map(_reserved, copies)) + wanted > scratch.limit_bytes:
        return "the scratch space is used up"
    still_coming = sum(_reserved(copy) - copy.stat().st_size for copy in copies)
    free = shutil.disk_usage(scratch.folder).free - still_coming
    if free < wanted:
        return f"a video needs {wanted / 2**30:.2f} GiB, {max(0, free) / 2**30:.2f} GiB are free on this disk"
    return None


def _remove_first(candidates: list[Path], others: list[Path]) -> bool:
    """Remove the first copy that nobody holds, from the disk and from both lists."""
    while candidates:
        path = candidates.pop(0)
        if _remove_unused(path):
            others.remove(path)
            return True
    return False


def _remove_unused(path: Path) -> bool:
    """Remove a copy unless somebody reads or fetches it; to be called with the room's lock."""
    try:
        descriptor = _hold(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return False
    path.unlink()
    os.close(descriptor)
    return True


def _hold(path: Path, how: int) -> int:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, how)
        os.utime(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """The lock under which copies appear, are taken and go; held for moments, never while a file is fetched."""
    descriptor = os.open(folder / _ROOM, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _copy_of(file: ArchiveFile, scratch: Scratch) -> Path:
    suffix = PurePosixPath(file.uri).suffix
    return scratch.folder / f"{file.video_id}-{file.fingerprint}-{file.size_bytes}{suffix}"


def _reserved(copy: Path) -> int:
    """Bytes that a copy has or, while it is fetched, will have: part of its name."""
    return int(copy.name.split("-")[2].partition(".")[0])


def _copies(folder: Path) -> list[Path]:
    """What was fetched into the folder, finished or not; whatever else lies there is not ours."""
    return [path for path in folder.iterdir() if _COPY.fullmatch(path.name)]
