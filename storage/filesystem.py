"""Whole objects on a local disk or an S3 store: read, published in one step, listed.

Credentials of S3 come from the provider chain (environment, profile, instance role), the address of another
S3 service from ``AWS_ENDPOINT_URL``; neither is ever part of a store's address.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow.fs

from storage.errors import ObjectReadError, ObjectWriteError, UnsupportedStoreError
from storage.layout import STAGING

STALE_STAGING_S: Final = 24 * 3600.0
"""A staged file older than this belongs to a process that is gone."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
DISK_ERRNOS: Final = _FULL | _FORBIDDEN
"""What only a person can mend: a full disk, a missing right."""


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object of a listing."""

    path: str
    """Relative to the store's root, with forward slashes."""
    size_bytes: int
    version: str
    """Changes whenever the object is replaced."""
    changed_at: dt.datetime
    """When it was written (UTC)."""


class StoreFilesystem(Protocol):
    """Objects under one root. Paths are relative to it, with forward slashes.

    What cannot be read for another reason than that it is not there raises a ``StorageError`` that says what to do:
    ``ObjectReadError`` on a local disk, ``StoreAccessError`` and ``StoreUnavailableError`` on S3.
    """

    @property
    def uri(self) -> str:
        """Where the root is."""

    @property
    def reads_at_once(self) -> int:
        """Small reads side by side that pay off."""

    def read_bytes(self, path: str) -> bytes:
        """The whole object; raises ``FileNotFoundError``."""

    def read_tail(self, path: str, size_bytes: int) -> bytes:
        """The end of an object, about ``size_bytes`` of it, or all where it is shorter."""

    def write_atomic(self, path: str, data: bytes) -> None:
        """Publish an object in one step: readers see the old one or the new one, never a part.

        Raises:
            ObjectWriteError: it could not be written; what was there before is untouched.
            StoreAccessError: the same on S3, where trying again does not help.
            StoreUnavailableError: the same on S3, after all attempts.
        """

    def read_versioned(self, path: str) -> tuple[bytes, str] | None:
        """A small object and its version, for ``write_if``; None where there is none."""

    def write_if(self, path: str, data: bytes, version: str | None) -> bool:
        """Publish an object if it is still of this version (None: not there); returns whether it was.

        An answer that was lost on the way may have written all the same: who needs to know reads it again.
        """

    def list(self, folder: str) -> list[ObjectEntry]:
        """All objects below a folder (``""``: the root), sorted by path; none where it does not exist."""

    def exists(self, path: str) -> bool:
        """Whether there is an object (or, on a local disk, a folder)."""

    def delete(self, path: str) -> None:
        """Remove an object; nothing happens where there is none."""

    def arrow_path(self, path: str) -> str:
        """The object's path for ``arrow_filesystem``."""

    def arrow_filesystem(self) -> Any:
        """The ``pyarrow.fs.FileSystem`` that reads the objects."""


def open_filesystem(uri: str | Path) -> StoreFilesystem:
    """The objects under a folder (``/data/store``, ``file:///data/store``) or ``s3://bucket/prefix``.

    Opens nothing and creates nothing yet.

    Raises:
        UnsupportedStoreError: another kind of address, or one with credentials in it.
    """
    text = str(uri)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return LocalFilesystem(Path(text).expanduser().absolute())
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise UnsupportedStoreError(
            f"{scheme}://...@...: credentials do not belong in a store's address; set AWS_PROFILE, or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in the environment"
        )
    if scheme == "file":
        return LocalFilesystem(Path(unquote(parts.path)))
    if scheme == "s3":
        from storage.remote import open_s3  # brings s3fs, which no local store needs

        return open_s3(text)
    raise UnsupportedStoreError(f"{text}: a store is a folder or s3://bucket/prefix, not {scheme}://")


@dataclass(frozen=True, slots=True)
class LocalFilesystem:
    """A folder on a local disk, with temporary files in ``.staging`` below it, outside every table."""

    root: Path

    @property
    def uri(self) -> str:
        """Path of the root."""
        return str(self.root)

    @property
    def reads_at_once(self) -> int:
        """A few, for disks on a network: on one of this machine threads wait for each other, not for the disk."""
        return 4

    def read_bytes(self, path: str) -> bytes:
        """The whole object."""
        with _explained(self.root / path):
            return (self.root / path).read_bytes()

    def read_tail(self, path: str, size_bytes: int) -> bytes:
        """The end of an object."""
        with _explained(self.root / path), (self.root / path).open("rb", buffering=0) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size_bytes))
            return file.read()

    def write_atomic(self, path: str, data: bytes) -> None:
        """Write to ``.staging``, fsync, move over the target, fsync the folder."""
        target = self.root / path
        # A name of its own instead of mkstemp, whose files only their owner may read.
        staged = self.root / STAGING / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            _make_folder(staged.parent)
            _make_folder(target.parent)
            try:
                with staged.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(staged, target)  # noqa: PTH105 - the one step that publishes, named as it is known
            finally:
                staged.unlink(missing_ok=True)
            _sync_folder(target.parent)
        except OSError as error:
            raise write_error(target, error) from error

    def read_versioned(self, path: str) -> tuple[bytes, str] | None:
        """An object and a digest of it, or None where there is none."""
        try:
            data = self.read_bytes(path)
        except FileNotFoundError:
            return None
        return data, hashlib.sha256(data).hexdigest()

    def write_if(self, path: str, data: bytes, version: str | None) -> bool:
        """Compare and replace under a ``flock``, which is held for the moment that this takes."""
        guard = self.root / STAGING / f"{path}.lock"
        try:
            _make_folder(guard.parent)
            descriptor = os.open(guard, os.O_RDWR | os.O_CREAT, 0o666)  # of a group, where the umask says so
            os.utime(descriptor)  # it is in use: ``clear_staging`` must not take it for a leftover
        except OSError as error:
            raise write_error(guard, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            now = self.read_versioned(path)
            if (None if now is None else now[1]) != version:
                return False
            self.write_atomic(path, data)
            return True
        finally:
            os.close(descriptor)

    def list(self, folder: str) -> list[ObjectEntry]:
        """All objects below a folder, without ``.staging``."""
        base, root = self.root / folder, f"{self.root}".rstrip("/") + "/"
        entries = [
            ObjectEntry(
                entry.path.removeprefix(root),
                stat.st_size,
                f"{stat.st_mtime_ns}-{stat.st_ino}-{stat.st_size}",
                dt.datetime.fromtimestamp(stat.st_mtime, dt.UTC),
            )
            for entry, stat in _walk(base)
        ]
        return sorted(entries, key=lambda entry: entry.path)

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        return (self.root / path).exists()

    def delete(self, path: str) -> None:
        """Remove a file."""
        try:
            (self.root / path).unlink(missing_ok=True)
        except OSError as error:
            raise write_error(self.root / path, error, "deleted") from error

    def arrow_path(self, path: str) -> str:
        """Absolute path."""
        return str(self.root / path)

    def arrow_filesystem(self) -> Any:
        """pyarrow's local filesystem."""
        return pyarrow.fs.LocalFileSystem()

    def clear_staging(self) -> int:
        """Remove files that processes killed more than a day ago left in ``.staging``; returns how many."""
        removed = 0
        for entry, stat in _walk(self.root / STAGING):
            if time.time() - stat.st_mtime > STALE_STAGING_S:
                # Who may not write here is told so by the first write.
                with suppress(OSError):
                    Path(entry.path).unlink()
                    removed += 1
        return removed


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ObjectReadError(f"{path}: could not be read: {error.strerror or error}") from error


def write_error(path: Path, error: OSError, done: str = "written") -> ObjectWriteError:
    """The failure to write a file as one line that says what to do."""
    if error.errno in _FULL:
        advice = "; make room there and run the same command again, what is finished is kept"
    elif error.errno in _FORBIDDEN:
        advice = "; let this user write there, or name another folder"
    else:
        advice = ""
    return ObjectWriteError(f"{path}: could not be {done}: {error.strerror or error}{advice}")


def _walk(folder: Path) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    try:
        with os.scandir(folder) as scan:
            entries = list(scan)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ObjectReadError(f"{folder}: could not be listed: {error.strerror or error}") from error
    for entry in entries:
        if entry.is_dir():
            if entry.name != STAGING:
                yield from _walk(Path(entry.path))
        else:
            # A file that another process moved away since the listing is simply not there any more.
            with suppress(FileNotFoundError):
                yield entry, entry.stat()


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, and make sure that they outlive a power cut."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
