"""What a notebook imports: questions to a store, answered with tidy data frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.compute as pc

from storage.analysis.budget import (
    OTHER,
    STATES,
    budget_keys,
    cut_at_local_hours,
    of_subjects,
    time_budget,
)
from storage.analysis.individuals import one_row_each
from storage.analysis.localtime import LOCAL_TIME_TYPE, local_clock
from storage.catalog import StorePin, read_pin
from storage.errors import ObjectReadError, QueryError, StoreNotFoundError
from storage.filesystem import LocalFilesystem, open_filesystem
from storage.layout import DETECTIONS, LEASE_JSON, STAGING, STORE_JSON, TABLES
from storage.reading import DateFilter, NameFilter, Reader, Selection, names_of, selection
from storage.runs import read_runs
from storage.schema import detections_schema

READ_ATTEMPTS = 3
_RUN_COLUMNS = (
    *("ended_at", "wall_s", "video_s", "realtime_factor", "limiting_stage", "frames_decoded", "camera_days"),
    *("videos", "quarantined", "events", "individuals", "profile", "machine"),
)
_BUDGET_COLUMNS = ("site", "behaviour", "start_time", "end_time")


class Store:
    """The stored behaviour of a reserve.

    In every query, ``site``, ``camera`` and other names take one name or several; ``date`` takes a date
    (``"2025-11-03"``), or a pair of dates with both included. Times are UTC. A camera-day whose tables are
    incomplete or of different runs is left out, with a warning that names it.

    Args:
        uri: a folder or ``s3://bucket/prefix``.

    Raises:
        StoreNotFoundError: there is no store.
    """

    def __init__(self, uri: str | Path) -> None:
        self._fs = open_filesystem(uri)
        self._reader = Reader(self._fs)
        if read_pin(self._fs) is None and not self._is_empty_folder():
            raise StoreNotFoundError(
                f"{self._fs.uri}: there is no store here (no {STORE_JSON}); "
                f"`aviaflow run ARCHIVE --out {self._fs.uri}` makes one"
            )

    def __repr__(self) -> str:
        return f"Store({self._fs.uri!r})"

    @property
    def behaviours(self) -> tuple[str, ...]:
        """The ethogram's behaviours, in its order."""
        return self._pin().behaviours

    def events(
        self,
        site: NameFilter = None,
        date: DateFilter = None,
        camera: NameFilter = None,
        behaviour: NameFilter = None,
        individual: NameFilter = None,
        states: bool = False,
    ) -> pd.DataFrame:
        """Bouts, one per row. ``date`` is the local date on which a bout starts.

        Args:
            site: of these sites.
            date: that start on this local date.
            camera: of these cameras.
            behaviour: of these behaviours or states.
            individual: of these individuals.
            states: also show the rows in which an individual was ``unscored``, ``not_visible`` or ``other``.

        Raises:
            QueryError: a behaviour that the ethogram lacks, or a date that is none.
        """
        behaviours, individuals = names_of(behaviour), names_of(individual)
        condition = None
        if behaviours is not None:
            self._check_behaviours(behaviours)
            condition = pc.field("behaviour").isin(sorted(behaviours))
        elif not states:
            condition = ~pc.field("behaviour").isin(STATES)
        if individuals is not None:
            chosen = pc.field("individual_id").isin(sorted(individuals))
            condition = chosen if condition is None else condition & chosen
        return self._timed("events", "start_time", selection(site, camera, date), condition)

    def individuals(
        self,
        site: NameFilter = None,
        date: DateFilter = None,
        camera: NameFilter = None,
        others: bool = False,
    ) -> pd.DataFrame:
        """Individuals, one per row; ``date`` is the local date on which one was first seen.

        An identity is a track's, not an animal's: a bird that leaves and returns is a new one.

        Args:
            site: of these sites.
            date: first seen on this local date.
            camera: of these cameras.
            others: also show what moved and was not of the ethogram's taxon.
        """
        chosen = selection(site, camera, date)
        found = self._of_dates(one_row_each(self._carried_on(chosen)), "first_seen", chosen)
        return found if others else found[found["kind"] == "subject"].reset_index(drop=True)

    def effort(
        self, site: NameFilter = None, date: DateFilter = None, camera: NameFilter = None
    ) -> pd.DataFrame:
        """Minutes recorded, readable, surveyed, decoded and scored, one row per camera and local hour."""
        rows = self._timed("effort", "hour_start", selection(site, camera, date), None)
        # The hour after midnight has a row of each of the days of which recordings touch it.
        measures = {name: "sum" for name in rows if str(name).endswith("_min")} | {"max_individuals": "max"}
        keys = [name for name in rows if name not in measures]
        return rows.groupby(keys, as_index=False, sort=False).agg(measures)[list(rows)]

    def videos(
        self, site: NameFilter = None, date: DateFilter = None, camera: NameFilter = None
    ) -> pd.DataFrame:
        """Files of the archive, one per row; ``date`` is the local date on which a recording starts."""
        return self._read("videos", selection(site, camera, date))

    def runs(self) -> pd.DataFrame:
        """Runs that changed the store, one per row, the earliest first: what each did and how long it took."""
        records = pd.DataFrame(read_runs(self._fs)).reindex(columns=list(_RUN_COLUMNS))
        return records.assign(ended_at=pd.to_datetime(records["ended_at"], utc=True))

    def tracks(
        self, site: NameFilter = None, date: DateFilter = None, camera: NameFilter = None
    ) -> pd.DataFrame:
        """Which individual each detection belongs to: ``row`` counts within the video's detections."""
        return self._read("tracks", selection(site, camera, date))

    def detections(
        self,
        site: NameFilter = None,
        date: DateFilter = None,
        camera: NameFilter = None,
        video: NameFilter = None,
        embedding: bool = False,
    ) -> pd.DataFrame:
        """Boxes with their scores, one per row.

        Args:
            site: of these sites.
            date: of recordings that start on this local date.
            camera: of these cameras.
            video: of these video ids.
            embedding: with the appearance, 64 signed bytes a row.
        """
        videos = names_of(video)
        condition = None if videos is None else pc.field("video_id").isin(sorted(videos))
        columns = ["site", "camera", "date", *detections_schema(self.behaviours).names]
        if not embedding:
            columns.remove("embedding")
        return self._read(DETECTIONS, selection(site, camera, date), condition, columns)

    def time_budget(
        self,
        by: Sequence[str] = ("behaviour",),
        site: NameFilter = None,
        date: DateFilter = None,
        camera: NameFilter = None,
        individual: NameFilter = None,
    ) -> pd.DataFrame:
        """How the time of the individuals is divided among the behaviours.

        Args:
            by: what to divide by beside the behaviour: any of ``site``, ``date``, ``camera``,
                ``individual_id``, ``hour`` (of the local clock; bouts are cut where it strikes).
            site: of these sites.
            date: only the time within this local date.
            camera: of these cameras.
            individual: of these individuals.

        Returns:
            ``seconds``, ``bouts`` and ``share`` of scored time for each behaviour, with both totals of the
            group, ``visible_s`` and ``scored_s``, beside them.

        Raises:
            ValueError: ``by`` has a key that is not known.
        """
        keys = budget_keys(by)
        chosen, individuals = selection(site, camera, date), names_of(individual)
        condition = None if individuals is None else pc.field("individual_id").isin(sorted(individuals))
        stored = [key for key in keys if key in ("camera", "individual_id")]
        events = self._events_of_subjects(chosen.with_days_before(), condition, [*_BUDGET_COLUMNS, *stored])
        pin = self._pin()
        if date is not None or "date" in keys or "hour" in keys:
            events = _within(cut_at_local_hours(events, pin.zones), chosen)
        return time_budget(events, pin.behaviours, by)

    def sql(self, query: str) -> pd.DataFrame:
        """The answer to a DuckDB query.

        The tables are ``events``, ``individuals``, ``effort``, ``videos``, ``tracks`` and ``detections``.

        ``site`` and ``date`` are columns of each; here ``date`` is always that of the camera-day: the local
        date on which its recordings start. An individual that was there at midnight has a row of each of two
        camera-days, so join by ``individual_id``, ``site`` and ``date``.

        Raises:
            QueryError: DuckDB does not understand the query.
        """
        named = [table for table in TABLES if re.search(rf"\b{table}\b", query, re.IGNORECASE)]
        behaviours = self._pin().behaviours
        with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for table in named or TABLES:
                paths = self._paths(table, selection(None, None, None))
                connection.register(table, self._reader.dataset(table, paths, behaviours))
            try:
                answer = connection.execute(query)
                frame = answer.df()
            except duckdb.Error as error:
                raise QueryError(str(error)) from error
            if frame.empty:
                # DuckDB makes words of an answer with rows, but objects of one without.
                kinds = [column[1] for column in answer.description or []]
                words = [name for name, kind in zip(frame.columns, kinds, strict=True) if kind == "VARCHAR"]
                frame = frame.astype(dict.fromkeys(words, "str"))
            return frame

    def _pin(self) -> StorePin:
        return read_pin(self._fs) or StorePin((), "", {})

    def _is_empty_folder(self) -> bool:
        return (
            isinstance(self._fs, LocalFilesystem)
            and self._fs.root.is_dir()
            and all(path.name in (LEASE_JSON, STAGING) for path in self._fs.root.iterdir())
        )

    def _check_behaviours(self, names: frozenset[str]) -> None:
        known = (*self.behaviours, *STATES)
        unknown = sorted(names.difference(known))
        if unknown:
            raise QueryError(f"the store has no behaviour {', '.join(unknown)}; it has {', '.join(known)}")

    def _paths(self, table: str, chosen: Selection) -> list[str]:
        if table == DETECTIONS:
            return self._reader.detections(chosen)
        return self._reader.camera_days(table, chosen)

    def _read(
        self, table: str, chosen: Selection, condition: Any = None, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        behaviours = self._pin().behaviours

        def read() -> Any:
            dataset = self._reader.dataset(table, self._paths(table, chosen), behaviours)
            return dataset.to_table(filter=condition, columns=None if columns is None else list(columns))

        rows = self._read_again_if_replaced(read)
        frame: pd.DataFrame = rows.to_pandas(date_as_object=False)
        return frame.astype({"date": LOCAL_TIME_TYPE}) if "date" in frame else frame

    def _carried_on(self, chosen: Selection) -> pd.DataFrame:
        """Rows of individuals of the selected days, and of the days after for as long as one of them is carried on."""
        rows = self._read("individuals", chosen.with_days_before())
        there = set(rows.loc[rows["date"] == np.datetime64(chosen.last, "us"), "individual_id"])
        following = chosen
        while there:
            following = following.day_after()
            more = self._read("individuals", following, pc.field("individual_id").isin(sorted(there)))
            rows, there = pd.concat([rows, more], ignore_index=True), set(more["individual_id"])
        return rows

    def _events_of_subjects(self, chosen: Selection, condition: Any, columns: Sequence[str]) -> pd.DataFrame:
        """Events without those of what is not of the taxon, where it was hidden too.

        Of a large store names and dates are read of those alone of whom there is such an event.
        """
        keys = ["individual_id", "date"]
        others = self._read("events", chosen, pc.field("behaviour") == OTHER, keys)
        if others.empty:
            return self._read("events", chosen, condition, columns)
        named = pc.field("individual_id").isin(sorted(set(others["individual_id"])))
        both = ((named, list(dict.fromkeys((*columns, *keys)))), (~named, columns))
        doubtful, clear = (
            self._read("events", chosen, part if condition is None else part & condition, names)
            for part, names in both
        )
        return pd.concat([of_subjects(doubtful)[list(columns)], clear], ignore_index=True)

    def _read_again_if_replaced(self, read: Callable[[], Any]) -> Any:
        """What was listed may be replaced or removed by a run before it is read."""
        for _ in range(READ_ATTEMPTS - 1):
            with suppress(OSError):
                return read()
        try:
            return read()
        except OSError as error:
            said = " ".join(str(error).split())
            raise ObjectReadError(
                f"{self._fs.uri}: could not be read {READ_ATTEMPTS} times: {said}"
            ) from error

    def _timed(self, table: str, time_column: str, chosen: Selection, condition: Any) -> pd.DataFrame:
        """Rows by the local date of one of their times, in the order of that time."""
        return self._of_dates(self._read(table, chosen.with_days_before(), condition), time_column, chosen)

    def _of_dates(self, frame: pd.DataFrame, time_column: str, chosen: Selection) -> pd.DataFrame:
        clock = local_clock(frame[time_column], frame["site"], self._pin().zones)
        frame = _within(frame.assign(date=clock.dt.normalize()), chosen)
        return frame.sort_values(["site", "camera", time_column], kind="stable", ignore_index=True)


def _within(frame: pd.DataFrame, chosen: Selection) -> pd.DataFrame:
    first, last = (np.datetime64(date, "us") for date in (chosen.first, chosen.last))
    return frame[(frame["date"] >= first) & (frame["date"] <= last)]
