"""Whole objects on a local disk or an S3 store: read, published in one step, listed.

Credentials of S3 come from the provider chain (environment, profile, instance role), the address of another
S3 service from ``AWS_ENDPOINT_URL``; neither is ever part of a store's address.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

import fsspec
import pyarrow.fs

from storage.errors import ObjectWriteError, UnsupportedStoreError
from storage.layout import STAGING

STALE_STAGING_S: Final = 24 * 3600.0
"""A staged file older than this belongs to a process that is gone."""
SINGLE_PUT_BYTES: Final = 2 * 2**30
"""Objects up to twice this size go to S3 as one PUT."""


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object of a listing."""

    path: str
    """Relative to the store's root, with forward slashes."""
    size_bytes: int
    version: str
    """Changes whenever the object is replaced."""


class StoreFilesystem(Protocol):
    """Objects under one root. Paths are relative to it, with forward slashes."""

    @property
    def uri(self) -> str:
        """Where the root is."""

    def read_bytes(self, path: str) -> bytes:
        """The whole object; raises ``FileNotFoundError``."""

    def read_tail(self, path: str, size_bytes: int) -> bytes:
        """The end of an object, about ``size_bytes`` of it, or all where it is shorter."""

    def write_atomic(self, path: str, data: bytes) -> None:
        """Publish an object in one step: readers see the old one or the new one, never a part.

        Raises:
            ObjectWriteError: it could not be written; what was there before is untouched.
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
        return RemoteFilesystem(fsspec.filesystem("s3", use_listings_cache=False), text.rstrip("/"))
    raise UnsupportedStoreError(f"{text}: a store is a folder or s3://bucket/prefix, not {scheme}://")


@dataclass(frozen=True, slots=True)
class LocalFilesystem:
    """A folder on a local disk, with temporary files in ``.staging`` below it, outside every table."""

    root: Path

    @property
    def uri(self) -> str:
        """Path of the root."""
        return str(self.root)

    def read_bytes(self, path: str) -> bytes:
        """The whole object."""
        return (self.root / path).read_bytes()

    def read_tail(self, path: str, size_bytes: int) -> bytes:
        """The end of an object."""
        with (self.root / path).open("rb", buffering=0) as file:
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
            raise ObjectWriteError(f"{target}: could not be written: {error.strerror or error}") from error

    def list(self, folder: str) -> list[ObjectEntry]:
        """All objects below a folder, without ``.staging``."""
        base = self.root / folder
        entries = [
            ObjectEntry(
                Path(entry.path).relative_to(self.root).as_posix(),
                stat.st_size,
                f"{stat.st_mtime_ns}-{stat.st_ino}-{stat.st_size}",
            )
            for entry, stat in _walk(base)
        ]
        return sorted(entries, key=lambda entry: entry.path)

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        return (self.root / path).exists()

    def delete(self, path: str) -> None:
        """Remove a file."""
        (self.root / path).unlink(missing_ok=True)

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
                Path(entry.path).unlink(missing_ok=True)
                removed += 1
        return removed


@dataclass(frozen=True, slots=True)
class RemoteFilesystem:
    """A prefix of an object store, through an fsspec filesystem."""

    fs: Any
    """For example ``fsspec.filesystem("s3")``; it must not cache listings."""
    uri: str
    """For example ``s3://bucket/prefix``."""

    def read_bytes(self, path: str) -> bytes:
        """The whole object."""
        return bytes(self.fs.cat_file(self.arrow_path(path)))

    def read_tail(self, path: str, size_bytes: int) -> bytes:
        """The end of an object, with one request."""
        return bytes(self.fs.cat_file(self.arrow_path(path), start=-size_bytes))

    def write_atomic(self, path: str, data: bytes) -> None:
        """One PUT of the finished bytes: an object store shows all of it or the old one."""
        try:
            self.fs.pipe_file(self.arrow_path(path), data, chunksize=SINGLE_PUT_BYTES)
        except OSError as error:
            raise ObjectWriteError(f"{self.uri}/{path}: could not be written: {error}") from error

    def list(self, folder: str) -> list[ObjectEntry]:
        """All objects below a folder."""
        root = self.arrow_path("")
        found = self.fs.find(self.arrow_path(folder), detail=True)
        return [
            ObjectEntry(path.removeprefix(root), int(info["size"]), _version(info))
            for path, info in sorted(found.items())
        ]

    def exists(self, path: str) -> bool:
        """Whether there is an object."""
        return bool(self.fs.isfile(self.arrow_path(path)))

    def delete(self, path: str) -> None:
        """Remove an object."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(self.arrow_path(path))

    def arrow_path(self, path: str) -> str:
        """Bucket and key."""
        return f"{self.fs._strip_protocol(self.uri)}/{path}"

    def arrow_filesystem(self) -> Any:
        """The fsspec filesystem as pyarrow sees it."""
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(self.fs))


def _version(info: dict[str, Any]) -> str:
    stamp = next((info[key] for key in ("ETag", "LastModified", "created") if key in info), "")
    return f"{stamp}-{info['size']}"


def _walk(folder: Path) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    try:
        with os.scandir(folder) as scan:
            entries = list(scan)
    except (FileNotFoundError, NotADirectoryError):
        return
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
