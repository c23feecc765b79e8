"""Where objects lie: paths relative to a store's root, in hive style, and back. Pure, no input or output."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote as percent_encode
from urllib.parse import unquote

from storage.errors import PathValueError

STORE_JSON: Final = "store.json"
"""What the store was begun with."""
LEASE_JSON: Final = "lease.json"
"""Who is at work on the store."""
STAGING: Final = ".staging"
"""Folder of half-written files on a local disk, outside every table."""
DETECTIONS: Final = "detections"
PLATES: Final = "plates"
CAMERA_DAY_TABLES: Final = ("videos", "tracks", "individuals", "effort", "events")
"""Tables with one object per camera-day, in the order in which they are written."""
TABLES: Final = (DETECTIONS, *CAMERA_DAY_TABLES)

NAME_BYTES: Final = 240
"""File systems take names of 255 bytes: with ``camera=`` before it and ``~12`` after it, this much is left."""

_HIDING_PREFIXES = ("_", ".")
_VIDEO_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, order=True)
class CameraDay:
    """All recordings of one camera that start on one local date."""

    site: str
    camera: str
    date: dt.date

    def __str__(self) -> str:
        return f"site {self.site}, camera {self.camera}, {self.date.isoformat()}"


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """What an object's path says about it."""

    table: str
    """One of ``TABLES``, or ``plates``."""
    day: CameraDay
    video_id: str | None = None
    """For detections only."""


def video_id_of(uri: str) -> str:
    """16 hex digits that name a video: BLAKE2b of its path relative to the archive, with forward slashes."""
    return hashlib.blake2b(uri.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def detections_path(day: CameraDay, video_id: str) -> str:
    """Path of one video's detections; raises ``PathValueError`` for an id that is not 16 hex digits."""
    if not _VIDEO_ID.fullmatch(video_id):
        raise PathValueError(f"a video id is 16 hex digits, got {video_id!r}")
    return f"{detections_folder(day)}/{video_id}.parquet"


def detections_folder(day: CameraDay) -> str:
    """Folder of the detections of one camera-day."""
    return f"{DETECTIONS}/site={quote(day.site)}/camera={quote(day.camera)}/date={day.date.isoformat()}"


def table_path(table: str, day: CameraDay) -> str:
    """Path of a camera-day's object of one of ``CAMERA_DAY_TABLES``."""
    if table not in CAMERA_DAY_TABLES:
        raise PathValueError(f"{table!r} has no object per camera-day; those that have: {CAMERA_DAY_TABLES}")
    return f"{table}/site={quote(day.site)}/date={day.date.isoformat()}/{quote(day.camera)}.parquet"


def plates_path(day: CameraDay) -> str:
    """Path of a camera-day's background plates."""
    return f"{PLATES}/site={quote(day.site)}/camera={quote(day.camera)}/date={day.date.isoformat()}.npz"


def parse_path(path: str) -> ObjectPath:
    """The parts of a path made by one of the functions above.

    Raises:
        PathValueError: it is no path of a store; the message has the path.
    """
    parts = path.split("/")
    try:
        if parts[0] == DETECTIONS:
            _, site, camera, date, name = parts
            return ObjectPath(DETECTIONS, _day(site, camera, date), _stem(name, ".parquet"))
        if parts[0] == PLATES:
            _, site, camera, date = parts
            return ObjectPath(PLATES, _day(site, camera, _stem(date, ".npz")))
        if parts[0] in CAMERA_DAY_TABLES:
            table, site, date, name = parts
            return ObjectPath(table, _day(site, f"camera={_stem(name, '.parquet')}", date))
    except ValueError as error:
        raise PathValueError(f"{path!r} is no object of a store: {error}") from error
    raise PathValueError(f"{path!r} is no object of a store")


def parse_or_none(path: str) -> ObjectPath | None:
    """``parse_path``, with None for a file that has no place in a store, as a desktop's ``.DS_Store``."""
    try:
        return parse_path(path)
    except PathValueError:
        return None


def quote(value: str) -> str:
    """A value as it appears in a path: percent-encoded UTF-8, which pyarrow, pandas and DuckDB decode.

    A leading dot or underscore is encoded too, since pyarrow skips files that begin with one.

    Raises:
        PathValueError: the value is empty or not valid text.
    """
    if not value:
        raise PathValueError("a site or camera must not be empty")
    try:
        encoded = percent_encode(value, safe="")
    except UnicodeEncodeError as error:
        raise PathValueError(f"{value!r} is not valid text: rename the file or folder") from error
    if encoded.startswith(_HIDING_PREFIXES):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    return encoded


def shorten(value: str) -> str:
    """A site or camera whose quoted form is part of a file's name: one that is too long loses its end to a hash
    of the whole. A letter that is not ASCII takes 6 to 12 bytes.
    """
    if len(quote(value)) <= NAME_BYTES:
        return value
    mark = f"-{hashlib.blake2b(value.encode(), digest_size=4).hexdigest()}"
    kept = value
    while len(quote(kept)) > NAME_BYTES - len(mark):
        kept = kept[:-1]
    return kept + mark


def _day(site: str, camera: str, date: str) -> CameraDay:
    return CameraDay(_key("site", site), _key("camera", camera), dt.date.fromisoformat(_key("date", date)))


def _key(name: str, part: str) -> str:
    key, separator, value = part.partition("=")
    if key != name or not separator or not value:
        raise ValueError(f"expected {name}=..., got {part!r}")
    return unquote(value, errors="strict")


def _stem(name: str, suffix: str) -> str:
    if not name.endswith(suffix) or name.startswith(_HIDING_PREFIXES):
        raise ValueError(f"expected a file that ends in {suffix}, got {name!r}")
    return name.removesuffix(suffix)
