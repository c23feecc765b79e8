"""Where, when and how long the videos of an archive are, from names and headers: no packet is read."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import av

from flows.errors import NothingToReadError
from storage.errors import ObjectReadError
from workers.archive import list_archive, place_file
from workers.containers import HEAD_BYTES, sniff_head
from workers.errors import UnreadableVideoError
from workers.messages import ArchiveFile
from workers.probe import creation_time, open_container, video_stream

MICROSECONDS = 1_000_000
FETCHED_BYTES = 1 << 18
"""Of an object on S3, at once."""
THREADS = 16
"""Headers on S3 that are read at once."""
Header: TypeAlias = "tuple[float, dt.datetime | None]"
"""Seconds, and when the video was made."""


@dataclass(frozen=True, slots=True)
class ArchiveOutline:
    """What a plan knows of an archive."""

    videos: Sequence[tuple[str, dt.date, float]]
    """Site and camera, local date and seconds of each video."""
    files: int
    left_out: Mapping[str, str]
    """Files without a length in their header, and why."""

    @property
    def video_s(self) -> float:
        """Seconds of all videos."""
        return sum(seconds for _, _, seconds in self.videos)


def outline_archive(root: str, pattern: str, zones: Mapping[str, str], site: str) -> ArchiveOutline:
    """Look at the headers of an archive's files.

    Args:
        root: folder of videos, or prefix on S3.
        pattern: of the paths, as in ``archive.path_pattern``.
        zones: IANA time zone by site.
        site: of files whose path does not say one.

    Raises:
        StorageError: S3 refuses or does not answer.
        NothingToReadError: no file has a header that tells its length.
    """
    videos, left_out = [], {}
    files = list_archive(root)
    opened = opener(root)
    with ThreadPoolExecutor(THREADS if root.startswith("s3://") else 1) as pool:
        for file, header in zip(files, pool.map(lambda file: _header(file, opened), files), strict=True):
            if isinstance(header, str):
                left_out[file.uri] = header
            else:
                videos.append(_placed(file, header[1], header[0], pattern, zones, site))
    if not videos:
        raise NothingToReadError(f"{root}: no file in it has a header that tells its length")
    return ArchiveOutline(tuple(videos), len(files), left_out)


def _placed(
    file: ArchiveFile,
    start: dt.datetime | None,
    seconds: float,
    pattern: str,
    zones: Mapping[str, str],
    site: str,
) -> tuple[str, dt.date, float]:
    place = place_file(file, start, pattern, "UTC", site)
    if zones.get(place.site, "UTC") != "UTC":
        place = place_file(file, start, pattern, zones[place.site], site)
    return f"{place.site}/{place.camera}", place.date, seconds


def opener(root: str) -> Callable[[ArchiveFile], BinaryIO]:
    """How files of an archive are opened: on S3 only the parts that are read are fetched."""
    if not root.startswith("s3://"):
        return lambda file: Path(file.path).open("rb")
    from storage.remote import open_s3
    from workers.remote_archive import ObjectReader

    fs = open_s3(root)
    return lambda file: io.BufferedReader(ObjectReader(fs, file.uri, file.size_bytes), FETCHED_BYTES)


def _header(file: ArchiveFile, opened: Callable[[ArchiveFile], BinaryIO]) -> Header | str:
    """What a header tells, or why it tells nothing, in words."""
    try:
        with opened(file) as source:
            return read_header(source, Path(file.uri))
    except (UnreadableVideoError, ObjectReadError, av.error.FFmpegError, OSError) as error:
        return getattr(error, "reason", None) or str(error)


def read_header(source: BinaryIO, path: Path) -> Header:
    """Seconds of a video, and when its container says that it was made.

    Args:
        source: the file, at its start.
        path: what it is called.

    Raises:
        UnreadableVideoError: it is no video that is read here.
        av.error.FFmpegError: its header cannot be read.
        OSError: it cannot be read, or its header tells no length.
    """
    container_name = sniff_head(source.read(HEAD_BYTES), path)
    source.seek(0)
    with open_container(source, container_name) as container:
        stream = video_stream(container, path)
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            seconds = container.duration / MICROSECONDS
        else:
            raise OSError("its header tells no length")
        return seconds, creation_time(container, stream)
