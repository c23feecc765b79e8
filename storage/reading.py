"""Which objects answer a question, and their rows: the machinery below ``storage.queries``."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as ds

from storage.errors import CameraDayLeftOutWarning, ObjectLeftOutWarning, QueryError
from storage.filesystem import ObjectEntry, StoreFilesystem
from storage.layout import (
    CAMERA_DAY_TABLES,
    DETECTIONS,
    CameraDay,
    ObjectPath,
    parse_or_none,
    parse_path,
    quote,
)
from storage.parquet import Footer, find_footers, read_table
from storage.schema import SCHEMA_VERSION, schema_of

DateLike = str | dt.date
DateFilter = DateLike | tuple[DateLike, DateLike] | list[str] | list[dt.date] | None
NameFilter = str | Collection[str] | None
_ONE_DAY: Final = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which camera-days a question is about."""

    sites: frozenset[str] | None
    cameras: frozenset[str] | None
    first: dt.date
    last: dt.date

    def has(self, day: CameraDay) -> bool:
        """Whether a camera-day belongs to it."""
        return (
            (self.sites is None or day.site in self.sites)
            and (self.cameras is None or day.camera in self.cameras)
            and self.first <= day.date <= self.last
        )

    def with_days_before(self) -> Selection:
        """The same and two days before: a recording that starts before midnight has events after it, and lasts for
        up to 48 hours."""
        first = self.first if self.first <= dt.date.min + 2 * _ONE_DAY else self.first - 2 * _ONE_DAY
        return Selection(self.sites, self.cameras, first, self.last)

    def day_after(self) -> Selection:
        """The day after its last one alone."""
        return Selection(self.sites, self.cameras, self.last + _ONE_DAY, self.last + _ONE_DAY)


def selection(site: NameFilter, camera: NameFilter, date: DateFilter) -> Selection:
    """What the arguments of a query mean.

    Raises:
        QueryError: a date is not written as 2025-11-03, or a pair of them is none.
    """
    first, last = dates_of(date)
    return Selection(names_of(site), names_of(camera), first, last)


def names_of(value: NameFilter) -> frozenset[str] | None:
    """One name or several as a set; None stays None, which is all."""
    if value is None:
        return None
    return frozenset({value}) if isinstance(value, str) else frozenset(value)


def dates_of(value: DateFilter) -> tuple[dt.date, dt.date]:
    """First and last date of a filter: one date, a pair with both ends included, or all."""
    if value is None:
        return dt.date.min, dt.date.max
    if isinstance(value, (tuple, list)):
        dates = [_date(part) for part in value]
        if len(dates) != 2 or dates[0] > dates[1]:
            raise QueryError(
                f"date={value!r} is no pair of dates; give the first and the last, in this order"
            )
        return dates[0], dates[1]
    return _date(value), _date(value)


def _date(value: DateLike) -> dt.date:
    if isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, dt.date):
        return value
    try:
        return dt.date.fromisoformat(value)
    except (ValueError, TypeError) as error:
        raise QueryError(f"{value!r} is no date; write it as 2025-11-03") from error


@dataclass(slots=True)
class Reader:
    """Finds and reads objects; remembers the footers of objects that have not been replaced since."""

    fs: StoreFilesystem
    _footers: dict[tuple[str, str], Footer | None] = field(default_factory=dict)
    """None: cannot be used."""
    _damaged: dict[str, str] = field(default_factory=dict)
    """Why, by path."""

    def detections(self, wanted: Selection) -> list[str]:
        """Paths of the detections of the selected camera-days.

        Warns:
            ObjectLeftOutWarning: for each object that cannot be used.
        """
        entries = [entry for entry, found in self._listed(DETECTIONS, wanted) if wanted.has(found.day)]
        self._learn_footers(entries)
        for entry in entries:
            if self._footers[entry.path, entry.version] is None:
                warnings.warn(
                    f"{self._damaged[entry.path]}; it is left out, and `aviaflow run` makes it again where the archive "
                    "still has its video",
                    ObjectLeftOutWarning,
                    stacklevel=4,
                )
        return [entry.path for entry in entries if self._footers[entry.path, entry.version] is not None]

    def camera_days(self, table: str, wanted: Selection) -> list[str]:
        """Paths of a table's objects of the selected camera-days that are complete and of one revision.

        Warns:
            CameraDayLeftOutWarning: for each camera-day that is not.
        """
        entries: dict[CameraDay, dict[str, ObjectEntry]] = {}
        for name in CAMERA_DAY_TABLES:
            for entry, found in self._listed(name, wanted):
                if wanted.has(found.day):
                    entries.setdefault(found.day, {})[name] = entry
        self._learn_footers([entry for tables in entries.values() for entry in tables.values()])
        paths = []
        for day in sorted(entries):
            problem = self._problem(entries[day])
            if problem:
                warnings.warn(
                    f"{self.fs.uri}: {day} is left out: {problem}; `aviaflow events` makes its tables again",
                    CameraDayLeftOutWarning,
                    stacklevel=4,
                )
            else:
                paths.append(entries[day][table].path)
        return paths

    def dataset(self, table: str, paths: Sequence[str], behaviours: Sequence[str]) -> Any:
        """A ``pyarrow.dataset.Dataset`` of objects of one table, with the partition keys as first columns.

        Objects of an earlier schema version are converted in memory.
        """
        keys = [pa.field("site", pa.string()), pa.field("date", pa.date32())]
        if table == DETECTIONS:
            keys.insert(1, pa.field("camera", pa.string()))
        schema = pa.schema([*keys, *schema_of(table, behaviours)])
        earlier = {
            path
            for (path, _), footer in self._footers.items()
            if footer is not None and footer.schema_version < SCHEMA_VERSION
        }.intersection(paths)
        if earlier:
            rows = pa.concat_tables([self._converted(path, schema) for path in sorted(earlier)])
            rest = self.dataset(table, [path for path in paths if path not in earlier], behaviours)
            return ds.dataset([rest, ds.dataset(rows)])
        if not paths:
            return ds.dataset(schema.empty_table())
        return ds.dataset(
            [self.fs.arrow_path(path) for path in paths],
            schema=schema,
            format="parquet",
            partitioning=ds.partitioning(pa.schema(keys), flavor="hive"),
            partition_base_dir=self.fs.arrow_path(""),
            filesystem=self.fs.arrow_filesystem(),
        )

    def _converted(self, path: str, schema: pa.Schema) -> pa.Table:
        """The rows of one object of an earlier version, with its partition keys."""
        rows, day = read_table(self.fs, path), parse_path(path).day
        keys = {"site": day.site, "camera": day.camera, "date": day.date}
        columns = [
            rows[field.name]
            if field.name in rows.column_names
            else pa.repeat(pa.scalar(keys[field.name], field.type), rows.num_rows)
            for field in schema
        ]
        return pa.table(columns, schema=schema)

    def _listed(self, table: str, wanted: Selection) -> list[tuple[ObjectEntry, ObjectPath]]:
        folder = table
        if wanted.sites is not None and len(wanted.sites) == 1:
            folder = f"{table}/site={quote(next(iter(wanted.sites)))}"
        pairs = ((entry, parse_or_none(entry.path)) for entry in self.fs.list(folder))
        return [(entry, found) for entry, found in pairs if found is not None]

    def _learn_footers(self, entries: Sequence[ObjectEntry]) -> None:
        new = [entry for entry in entries if (entry.path, entry.version) not in self._footers]
        found = find_footers(self.fs, [entry.path for entry in new], self._damaged)
        for entry, footer in zip(new, found, strict=True):
            self._footers[entry.path, entry.version] = footer
            if footer is None:
                self._damaged.setdefault(entry.path, f"{self.fs.uri}/{entry.path}: removed a moment ago")

    def _problem(self, tables: dict[str, ObjectEntry]) -> str:
        missing = [name for name in CAMERA_DAY_TABLES if name not in tables]
        if missing:
            return f"it has no {' and no '.join(missing)}"
        footers = {name: self._footers[entry.path, entry.version] for name, entry in tables.items()}
        unreadable = [name for name, footer in footers.items() if footer is None]
        if unreadable:
            reasons = "; ".join(self._damaged[tables[name].path] for name in unreadable)
            return f"its {' and '.join(unreadable)} cannot be read ({reasons})"
        revisions = {name: footer.revision for name, footer in footers.items() if footer is not None}
        if len(set(revisions.values())) > 1:
            return f"its tables are of different runs ({', '.join(f'{k} {v}' for k, v in revisions.items())})"
        return ""
