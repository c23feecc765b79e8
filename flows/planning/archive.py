"""Where, when and how long the videos of an archive are, from names and headers: no packet is read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from flows.errors import NothingToReadError, PlanError
from workers.archive import list_archive, place_file
from workers.containers import sniff_format
from workers.errors import UnreadableVideoError
from workers.messages import ArchiveFile
from workers.probe import creation_time, open_container, video_stream

MICROSECONDS = 1_000_000


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
        root: folder of videos.
        pattern: of the paths, as in ``archive.path_pattern``.
        zones: IANA time zone by site.
        site: of files whose path does not say one.

    Raises:
        PlanError: the archive is on S3.
        NothingToReadError: no file has a header that tells its length.
    """
    if root.startswith("s3://"):
        raise PlanError(
            f"{root}: headers are read from files, not from S3; plan with a folder of the same videos, or part of it"
        )
    videos, left_out = [], {}
    files = list_archive(root)
    for file in files:
        try:
            seconds, start = read_header(Path(file.path))
        except (UnreadableVideoError, av.error.FFmpegError, OSError) as error:
            left_out[file.uri] = getattr(error, "reason", None) or str(error)
            continue
        videos.append(_placed(file, start, seconds, pattern, zones, site))
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


def read_header(path: Path) -> tuple[float, dt.datetime | None]:
    """Seconds of a video, and when its container says that it was made.

    Raises:
        UnreadableVideoError: it is no video that is read here.
        av.error.FFmpegError: its header cannot be read.
        OSError: it cannot be opened, or its header tells no length.
    """
    with open_container(path, sniff_format(path)) as container:
        stream = video_stream(container, path)
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            seconds = container.duration / MICROSECONDS
        else:
            raise OSError("its header tells no length")
        return seconds, creation_time(container, stream)
