"""What is in a store: what it was begun with, which objects are finished, and how rows get in and out.

What is done is read from the objects' footers, and from nothing else.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage.errors import CorruptObjectError, PathValueError, PinnedValueError
from storage.filesystem import LocalFilesystem, StoreFilesystem
from storage.layout import (
    CAMERA_DAY_TABLES,
    DETECTIONS,
    STORE_JSON,
    TABLES,
    CameraDay,
    ObjectPath,
    detections_folder,
    detections_path,
    parse_or_none,
    parse_path,
    plates_path,
    table_path,
)
from storage.parquet import Footer, find_footers, read_table, write_table
from storage.plates import PlateRecord, plates_from_bytes, plates_to_bytes
from storage.records import DetectionColumns, VideoRecord
from storage.schema import (
    CAMERA_DAY_RECORDS,
    CAMERA_DAY_SCHEMAS,
    SCHEMA_VERSION,
    detections_from_table,
    records_from_table,
    table_from_detections,
    table_from_records,
)
from storage.versions import check_version


@dataclass(frozen=True, slots=True)
class StorePin:
    """What one store holds to from its first run on."""

    behaviours: tuple[str, ...]
    """The ethogram's behaviours, in order."""
    path_pattern: str
    """How site, camera and start time are read from the archive's paths."""
    zones: Mapping[str, str]
    """IANA time zone by site; a new site may be added, the zone of a known one never changes."""
    schema_version: int = SCHEMA_VERSION


def read_pin(fs: StoreFilesystem) -> StorePin | None:
    """What the store was begun with, or None where nothing was ever written.

    Raises:
        CorruptObjectError: ``store.json`` is there but not understood.
        NewerSchemaError: a newer version wrote the store.
    """
    try:
        data = fs.read_bytes(STORE_JSON)
    except FileNotFoundError:
        return None
    try:
        values = json.loads(data)
        check_version(int(values["schema_version"]), fs.uri)
        return StorePin(
            behaviours=tuple(values["behaviours"]),
            path_pattern=str(values["path_pattern"]),
            zones=dict(values["zones"]),
            schema_version=int(values["schema_version"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptObjectError(f"{fs.uri}/{STORE_JSON}: not understood: {error}") from error


def check_pin(fs: StoreFilesystem, wanted: StorePin) -> StorePin | None:
    """Check that a run fits the store that is there, if there is one; returns what is pinned, writes nothing.

    Raises:
        PinnedValueError: the run wants another ethogram, path pattern, time zone or schema version.
    """
    pinned = read_pin(fs)
    if pinned is not None:
        _refuse_other_values(fs.uri, pinned, wanted)
    return pinned


def pin_or_check(fs: StoreFilesystem, wanted: StorePin) -> StorePin:
    """Begin a store, or check that a run fits the one that is there; returns what is pinned now.

    Raises:
        PinnedValueError: the run wants another ethogram, path pattern, time zone or schema version.
    """
    if isinstance(fs, LocalFilesystem):
        fs.clear_staging()
    pinned = check_pin(fs, wanted)
    if pinned is None:
        merged = wanted
    else:
        merged = dataclasses.replace(pinned, zones={**pinned.zones, **wanted.zones})
    if pinned is None or dict(pinned.zones) != merged.zones:
        write_pin(fs, merged)
    return merged


def write_pin(fs: StoreFilesystem, pin: StorePin) -> None:
    """Publish what the store holds to from now on."""
    values = {**dataclasses.asdict(pin), "zones": dict(pin.zones)}
    fs.write_atomic(STORE_JSON, (json.dumps(values, indent=2, sort_keys=True) + "\n").encode())


def _refuse_other_values(uri: str, pinned: StorePin, wanted: StorePin) -> None:
    if pinned.schema_version < wanted.schema_version:
        raise PinnedValueError(
            f"{uri}: schema version {pinned.schema_version}, this Aviaflow writes {wanted.schema_version}; "
            f"`aviaflow upgrade {uri}` brings the store up to date"
        )
    pairs: list[tuple[str, Any, Any]] = [
        ("behaviours", ", ".join(pinned.behaviours), ", ".join(wanted.behaviours)),
        ("path pattern", pinned.path_pattern, wanted.path_pattern),
    ]
    for site, zone in sorted(wanted.zones.items()):
        pairs.append((f"time zone of site {site}", pinned.zones.get(site, zone), zone))
    for what, old, new in pairs:
        if old != new:
            raise PinnedValueError(
                f"{uri}: this store was begun with {what} {old!r}, this run wants {new!r}; "
                "use the first, or another --out"
            )


@dataclass(frozen=True, slots=True)
class Catalog:
    """The objects of one store, by camera-day."""

    fs: StoreFilesystem
    damaged: dict[str, str] = field(default_factory=dict, compare=False)
    """Objects that were looked at and cannot be used, by path, with the reason; a run makes them again where it can."""

    def camera_days(self) -> list[CameraDay]:
        """Camera-days that have detections or tables, sorted."""
        return sorted({found.day for table in TABLES for found in self._listed(table).values()})

    def snapshot(self) -> Snapshot:
        """All footers of the store, each read once, and all of them in parallel."""
        places = {path: found for table in TABLES for path, found in self._listed(table).items()}
        detections: dict[CameraDay, dict[str, Footer]] = {place.day: {} for place in places.values()}
        tables: dict[CameraDay, dict[str, Footer]] = {day: {} for day in detections}
        for place, footer in self._usable(places):
            if place.video_id is None:
                tables[place.day][place.table] = footer
            else:
                detections[place.day][place.video_id] = footer
        return Snapshot(self, detections, tables)

    def finished_detections(self, day: CameraDay) -> dict[str, Footer]:
        """Footers of the detections of one camera-day, by video id. Objects that cannot be used are left out, so that
        they are made again, and noted in ``damaged``.
        """
        usable = self._usable(self._listed(detections_folder(day)))
        return {str(place.video_id): footer for place, footer in usable}

    def _listed(self, folder: str) -> dict[str, ObjectPath]:
        listed = [entry.path for entry in self.fs.list(folder)]
        return {path: found for path in listed if (found := parse_or_none(path)) is not None}

    def _usable(self, places: Mapping[str, ObjectPath]) -> Iterator[tuple[ObjectPath, Footer]]:
        """Objects that can be used, with their footers; the others are noted in ``damaged``."""
        for path, footer in zip(places, find_footers(self.fs, list(places), self.damaged), strict=True):
            if footer is None:
                continue
            video_id = places[path].video_id
            if video_id is not None and (problem := _problem_of(footer, video_id)):
                self.damaged[path] = f"{self.fs.uri}/{path}: {problem}"
            else:
                yield places[path], footer

    def camera_day_footers(self, day: CameraDay) -> dict[str, Footer]:
        """Footers of a camera-day's tables, by table; those absent or unreadable are left out."""
        paths = [table_path(table, day) for table in CAMERA_DAY_TABLES]
        found = zip(CAMERA_DAY_TABLES, find_footers(self.fs, paths, self.damaged), strict=True)
        return {table: footer for table, footer in found if footer is not None}

    def damaged_detections(self) -> dict[str, ObjectPath]:
        """The detections among ``damaged``, by path: only their video can give them again."""
        places = {path: parse_path(path) for path in self.damaged}
        return {path: place for path, place in places.items() if place.table == DETECTIONS}

    def write_detections(self, day: CameraDay, columns: DetectionColumns, footer: Footer) -> Footer:
        """Publish one video's boxes (none: an object with no rows, which says that it was looked at)."""
        table = table_from_detections(columns, footer.behaviours)
        return write_table(self.fs, detections_path(day, columns.video_id), table, footer)

    def delete_detections(self, day: CameraDay, video_id: str) -> None:
        """Remove one video's boxes; nothing happens where there are none."""
        self.fs.delete(detections_path(day, video_id))

    def read_detections(self, day: CameraDay, video_id: str) -> DetectionColumns:
        """The boxes of one video, in the order in which they were written."""
        return detections_from_table(read_table(self.fs, detections_path(day, video_id)), video_id)

    def write_camera_day(
        self, day: CameraDay, rows: Mapping[str, Sequence[Any]], footer: Footer
    ) -> dict[str, Footer]:
        """Publish all tables of one camera-day under one revision.

        Args:
            day: site, camera and date.
            rows: records by table, one entry for each of ``CAMERA_DAY_TABLES``.
            footer: of every table but for ``table`` and ``rows``, which are filled in here.

        Raises:
            PathValueError: a table is missing or unknown.
            SchemaMismatchError: a record does not fit its table; nothing was written.
        """
        if set(rows) != set(CAMERA_DAY_TABLES):
            raise PathValueError(f"a camera-day needs the tables {CAMERA_DAY_TABLES}, got {tuple(rows)}")
        tables = {
            name: table_from_records(rows[name], CAMERA_DAY_SCHEMAS[name]) for name in CAMERA_DAY_TABLES
        }
        return {
            name: write_table(self.fs, table_path(name, day), table, dataclasses.replace(footer, table=name))
            for name, table in tables.items()
        }

    def read_records(self, table: str, day: CameraDay) -> list[Any]:
        """Records of one table of a camera-day, for example ``list[EventRecord]`` for ``events``."""
        return records_from_table(read_table(self.fs, table_path(table, day)), CAMERA_DAY_RECORDS[table])

    def write_plates(self, day: CameraDay, plates: Sequence[PlateRecord]) -> None:
        """Publish the background plates of a camera-day (none: it was surveyed, and has no plate)."""
        self.fs.write_atomic(plates_path(day), plates_to_bytes(plates))

    def read_plates(self, day: CameraDay) -> tuple[PlateRecord, ...] | None:
        """The plates of a camera-day, or None where it was never surveyed."""
        path = plates_path(day)
        try:
            data = self.fs.read_bytes(path)
        except FileNotFoundError:
            return None
        return plates_from_bytes(data, f"{self.fs.uri}/{path}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a store held at one moment, for those who look at all of it."""

    catalog: Catalog
    detections: Mapping[CameraDay, Mapping[str, Footer]]
    """Footers of the detections that can be used, by camera-day and video id."""
    tables: Mapping[CameraDay, Mapping[str, Footer]]
    """Footers of the tables that can be used, by camera-day and table."""

    def camera_days(self) -> list[CameraDay]:
        """As ``Catalog.camera_days``."""
        return sorted(self.detections)

    def finished_detections(self, day: CameraDay) -> Mapping[str, Footer]:
        """As ``Catalog.finished_detections``."""
        return self.detections.get(day, {})

    def camera_day_footers(self, day: CameraDay) -> Mapping[str, Footer]:
        """As ``Catalog.camera_day_footers``."""
        return self.tables.get(day, {})

    def read_records(self, table: str, day: CameraDay) -> list[Any]:
        """As ``Catalog.read_records``; the rows are read now."""
        return self.catalog.read_records(table, day)


def video_details(record: VideoRecord, spans_s: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """What the footer of a video's detections says about the video, as JSON values."""
    values = dataclasses.asdict(record)
    return {
        "video": {**values, "start_time": record.start_time.isoformat()},
        "spans_s": [[float(start), float(end)] for start, end in spans_s],
    }


def video_of(footer: Footer) -> VideoRecord:
    """The video that a detections object was made from.

    Raises:
        CorruptObjectError: the footer does not describe a video.
    """
    try:
        values = dict(footer.details["video"])
        return VideoRecord(**{**values, "start_time": dt.datetime.fromisoformat(values["start_time"])})
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptObjectError(
            f"the footer of a detections object does not describe a video: {error}"
        ) from error


def _problem_of(footer: Footer, video_id: str) -> str:
    """Why an object cannot be the detections of a video; empty where it can."""
    try:
        video = video_of(footer)
        [(float(start), float(end)) for start, end in footer.details["spans_s"]]
    except (CorruptObjectError, KeyError, TypeError, ValueError) as error:
        return f"its footer does not describe a video and where it was looked at ({error})"
    return "" if video.video_id == video_id else f"it is of another video, {video.video_id} ({video.uri})"
