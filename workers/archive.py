"""The archive: which files there are, and where and when each of them was recorded."""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal
from zoneinfo import ZoneInfo

from storage import layout
from workers.containers import looks_like_video
from workers.errors import ArchiveError
from workers.fingerprint import UNREADABLE, file_fingerprint
from workers.messages import FIRST_YEAR, ArchiveFile, Probe, Recording

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".divx", ".asf", ".wmv", ".ts", ".mts", ".m2ts"}
    | {".mpg", ".mpeg", ".flv", ".h264", ".264", ".h265", ".265", ".dav"}
)
OTHER_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".png",
        ".gif",
        ".tif",
        ".tiff",
        ".thm",
        ".txt",
        ".csv",
        ".json",
        ".yaml",
        ".yml",
        ".xml",
    }
    | {
        ".md",
        ".log",
        ".srt",
        ".pdf",
        ".zip",
        ".wav",
        ".mp3",
        ".parquet",
        ".html",
        ".py",
        ".ipynb",
        ".db",
        ".ini",
    }
)
"""Companions of videos that are never opened."""
DEFAULT_PATTERN = (
    r"(?:.*/)?(?P<site>[^/]+)/(?P<camera>[^/]+)/(?P=camera)_(?P<time>\d{8}T\d{6}Z?)\.[A-Za-z0-9]+"
)
"""``<site>/<camera>/<camera>_<YYYYmmddTHHMMSSZ>.mp4``."""
OVERLAP_SLACK_S = 2.0
"""Names of files tell the start to a second, and cameras often write a moment twice."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class CameraDay:
    """All recordings of one camera that start on one local date."""

    site: str
    camera: str
    date: dt.date
    recordings: tuple[Recording, ...]
    """Sorted by start."""
    note: str = ""
    """Why these recordings are not with others of their camera, in words; else empty."""

    @property
    def key(self) -> layout.CameraDay:
        """Where its objects lie in a store."""
        return layout.CameraDay(self.site, self.camera, self.date)


def list_archive(root: str) -> list[ArchiveFile]:
    """List the files of an archive (a folder, or ``s3://bucket/prefix``) that are videos or are named as if they
    were, sorted by path.

    Hidden files are skipped. A link to a file inside the archive is skipped, for that file is listed itself;
    a link that leads out of the archive is listed, so that it is reported, and is not opened.

    Raises:
        ArchiveError: there is no such folder.
        StorageError: S3 refuses or does not answer.
    """
    if root.startswith("s3://"):
        from workers.remote_archive import list_remote_archive  # brings s3fs, which no local archive needs

        return list_remote_archive(root)
    if "://" in root:
        raise ArchiveError(f"{root}: an archive is a folder or s3://bucket/prefix; mount or copy it first")
    folder = Path(root).resolve()
    if not folder.is_dir():
        raise ArchiveError(f"{root}: there is no such folder; an archive is a folder of videos")
    files = [file for path in _walk(folder) if (file := _archive_file(folder, path)) is not None]
    return sorted(files, key=lambda file: file.uri)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_warn):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (Path(parent) / name).is_symlink():
                log.warning("%s/%s is a link to a folder and is not followed", parent, name)
        yield from (Path(parent) / name for name in names if not name.startswith("."))


def _warn(error: OSError) -> None:
    log.warning(
        "%s cannot be listed (%s): this run does not see what is in it; what is stored of it stays",
        error.filename,
        error.strerror,
    )


def _archive_file(folder: Path, path: Path) -> ArchiveFile | None:
    name = path.relative_to(folder).as_posix()
    suffix = path.suffix.lower()
    if suffix in OTHER_SUFFIXES:
        return None
    is_link = path.is_symlink()
    if is_link and path.resolve().is_relative_to(folder) and path.exists():
        return None
    is_openable = path.is_file() and not is_link
    if suffix not in VIDEO_SUFFIXES and not (is_openable and _is_video(path)):
        return None
    try:
        status = path.lstat()
        fingerprint = file_fingerprint(path, status.st_size) if is_openable else UNREADABLE
    except FileNotFoundError:
        return None
    except OSError:
        # Listed all the same: the probe says why it cannot be opened.
        status, fingerprint = path.lstat(), UNREADABLE
    return ArchiveFile(
        video_id=layout.video_id_of(name),
        uri=_as_text(name),
        path=str(path),
        size_bytes=status.st_size,
        fingerprint=fingerprint,
        file_time=dt.datetime.fromtimestamp(status.st_mtime, dt.UTC),
    )


def _is_video(path: Path) -> bool:
    """Whether a file of an unknown suffix is a video; one that cannot be opened, or is gone, is taken for none."""
    try:
        return looks_like_video(path)
    except OSError:
        return False


def _as_text(name: str) -> str:
    """A path with the bytes that are no valid text written out, as ``\\xff``: tables hold text only."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Place:
    """Where and when a file was recorded."""

    site: str
    camera: str
    start_time: dt.datetime
    """UTC."""
    start_source: Literal["path", "container", "file_time"]
    date: dt.date
    """Local date of the start."""


def place_file(
    file: ArchiveFile,
    container_start: dt.datetime | None = None,
    pattern: str = DEFAULT_PATTERN,
    zone: str = "UTC",
    site: str = "site",
) -> Place:
    """Find out where and when a file was recorded.

    Args:
        file: the file.
        container_start: when its container says that it was made (UTC), if it does.
        pattern: regular expression over the whole archive-relative path with the named groups ``site``,
            ``camera`` and ``time`` (14 digits, or 12 without seconds, with anything between; a ``Z`` at
            the end says UTC, otherwise it is the zone's clock, of a repeated hour the first).
        zone: IANA time zone of the site.
        site: site of files whose path does not say one.

    Without a match the file is a camera of its own, named by its path. The start comes from the path, else
    from the container, else from the file's own time, which ``start_source`` marks as an estimate. A path or
    container that says a year before ``FIRST_YEAR`` says nothing: the camera's clock was never set.
    """
    local = ZoneInfo(zone)
    match = re.fullmatch(pattern, file.uri)
    groups = match.groupdict() if match else {}
    start, source = _start_time(groups.get("time"), local, file, container_start)
    return Place(
        site=layout.shorten(groups.get("site") or site),
        camera=layout.shorten(groups.get("camera") or _own_camera(file.uri)),
        start_time=start,
        start_source=source,
        date=start.astimezone(local).date(),
    )


def place_recording(
    file: ArchiveFile, probe: Probe, pattern: str = DEFAULT_PATTERN, zone: str = "UTC", site: str = "site"
) -> Recording:
    """A readable video with its place (see ``place_file``)."""
    place = place_file(file, probe.container_start, pattern, zone, site)
    return Recording(
        file=file,
        probe=probe,
        site=place.site,
        camera=place.camera,
        start_time=place.start_time,
        start_source=place.start_source,
        date=place.date,
    )


def _own_camera(uri: str) -> str:
    path = PurePosixPath(uri)
    return ".".join((*path.parts[:-1], path.stem))


def _start_time(
    text: str | None, zone: ZoneInfo, file: ArchiveFile, container_start: dt.datetime | None
) -> tuple[dt.datetime, Literal["path", "container", "file_time"]]:
    moment = _parse_time(text, zone) if text else None
    if moment is not None:
        return moment, "path"
    if container_start is not None:
        return container_start.astimezone(dt.UTC), "container"
    return file.file_time, "file_time"


def _parse_time(text: str, zone: ZoneInfo) -> dt.datetime | None:
    digits = re.sub(r"\D", "", text)
    form = {12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(digits))
    if form is None:
        return None
    try:
        clock = dt.datetime.strptime(digits, form)
    except ValueError:
        return None
    if clock.year < FIRST_YEAR:
        return None
    is_utc = text.rstrip().upper().endswith("Z")
    return clock.replace(tzinfo=dt.UTC if is_utc else zone).astimezone(dt.UTC)


def group_camera_days(recordings: Iterable[Recording]) -> list[CameraDay]:
    """Group recordings by camera and local date, sorted by site, camera and date.

    Recordings of one camera that overlap in time or differ in displayed size cannot show one scene: they are
    split into cameras of their own, ``camera~2`` and so on past cameras that are named so, and ``note`` says why.
    """
    groups: dict[tuple[str, str, dt.date], list[Recording]] = defaultdict(list)
    for recording in recordings:
        groups[recording.site, recording.camera, recording.date].append(recording)
    days = [day for group in groups.values() for day in _split(group, groups.keys())]
    return sorted(days, key=lambda day: day.key)


def _split(group: list[Recording], taken: Collection[tuple[str, str, dt.date]]) -> Iterator[CameraDay]:
    lanes: list[list[Recording]] = []
    notes: list[str] = []
    for recording in sorted(group, key=lambda recording: (recording.start_time, recording.file.uri)):
        conflicts = [_conflict(lane, recording) for lane in lanes]
        if "" in conflicts:
            lanes[conflicts.index("")].append(recording)
        else:
            lanes.append([recording])
            notes.append(conflicts[0] if conflicts else "")
    site, camera, date = group[0].site, group[0].camera, group[0].date
    split = (f"{camera}~{number}" for number in itertools.count(2))
    free = (name for name in split if (site, name, date) not in taken)
    for name, lane, note in zip(itertools.chain([camera], free), lanes, notes, strict=False):
        placed = tuple(replace(recording, camera=name) for recording in lane)
        yield CameraDay(site, name, date, placed, note)


def _conflict(lane: list[Recording], recording: Recording) -> str:
    """Why a recording cannot be of the same scene as those before it; empty if it can."""
    last = lane[-1]
    mine, theirs = recording.probe, last.probe
    if (mine.width, mine.height) != (theirs.width, theirs.height):
        return (
            f"{recording.file.uri} is {mine.width}x{mine.height} and {last.file.uri} is "
            f"{theirs.width}x{theirs.height}: taken as two cameras"
        )
    overlap_s = (last.end_time - recording.start_time).total_seconds()
    if overlap_s > OVERLAP_SLACK_S:
        return f"{recording.file.uri} overlaps {last.file.uri} by {overlap_s:.0f} s: taken as two cameras"
    return ""
