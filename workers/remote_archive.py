"""An archive on S3: the same files, ids and fingerprints as if its objects lay in a folder."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any, Final

from storage.errors import ObjectReadError
from storage.filesystem import ObjectEntry
from storage.layout import video_id_of
from storage.remote import RemoteFilesystem, open_s3
from workers.archive import OTHER_SUFFIXES, VIDEO_SUFFIXES
from workers.containers import HEAD_BYTES, starts_like_video
from workers.errors import ArchiveError
from workers.fingerprint import SAMPLE_BYTES, UNREADABLE, fingerprint
from workers.messages import ArchiveFile

THREADS: Final = 16
"""Samples of so many objects are asked for at once."""


def list_remote_archive(root: str) -> list[ArchiveFile]:
    """List the objects under ``s3://bucket/prefix`` as ``list_archive`` lists a folder.

    Raises:
        ArchiveError: there is no object under this prefix.
        StorageError: S3 refuses or does not answer.
    """
    fs = open_s3(root)
    entries = [entry for entry in fs.list("") if entry.path and not entry.path.endswith("/")]
    if not entries:
        raise ArchiveError(f"{root}: there is no object under this prefix; an archive is a folder of videos")
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda entry: _archive_file(fs, entry), entries))
    return sorted((file for file in found if file is not None), key=lambda file: file.uri)


class ObjectReader(io.RawIOBase):
    """An object on S3 as a file of which only what is read is fetched; wrap it into a buffer."""

    def __init__(self, fs: RemoteFilesystem, path: str, size_bytes: int) -> None:
        super().__init__()
        self._fs, self._path, self._size, self._at = fs, path, size_bytes, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, which may lie behind the end."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the object reaches.

        Raises:
            StorageError: S3 refuses or does not answer.
        """
        count = min(len(buffer), max(0, self._size - self._at))
        data = self._fs.read_range(self._path, self._at, count) if count else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _archive_file(fs: RemoteFilesystem, entry: ObjectEntry) -> ArchiveFile | None:
    suffix = PurePosixPath(entry.path).suffix.lower()
    is_hidden = any(part.startswith(".") for part in entry.path.split("/"))
    if is_hidden or suffix in OTHER_SUFFIXES:
        return None
    try:
        if suffix not in VIDEO_SUFFIXES and not starts_like_video(fs.read_range(entry.path, 0, HEAD_BYTES)):
            return None
        digest = _fingerprint(fs, entry)
    except FileNotFoundError:
        return None
    except ObjectReadError:
        # Listed all the same: fetching it says why it cannot be read.
        digest = UNREADABLE
    return ArchiveFile(
        video_id=video_id_of(entry.path),
        uri=entry.path,
        path=f"{fs.uri}/{entry.path}",
        size_bytes=entry.size_bytes,
        fingerprint=digest,
        file_time=entry.changed_at,
    )


def _fingerprint(fs: RemoteFilesystem, entry: ObjectEntry) -> str:
    if entry.size_bytes > 3 * SAMPLE_BYTES:
        return fingerprint(entry.size_bytes, lambda start, count: fs.read_range(entry.path, start, count))
    data = fs.read_range(entry.path, 0, entry.size_bytes) if entry.size_bytes else b""
    return fingerprint(entry.size_bytes, lambda start, count: data[start : start + count])
