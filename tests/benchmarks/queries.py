"""What a notebook asks of a store: of camera-days with all their rows, and of a year of ten cameras' events."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.settings import Settings, load_ethogram
from storage import Store
from storage.catalog import Catalog, StorePin, pin_or_check
from storage.filesystem import open_filesystem
from storage.layout import CAMERA_DAY_TABLES, CameraDay, table_path
from storage.parquet import Footer, write_table
from storage.records import EffortRecord, EventRecord, IndividualRecord, TrackRecord, VideoRecord
from storage.schema import CAMERA_DAY_SCHEMAS, table_from_records
from tests.benchmarks.rows import Row, at_most
from tests.benchmarks.sizes import SEED, Bench, timed
from tests.benchmarks.synthetic import footer_of, video_at, wandering, write_detections

CAMERAS, YEAR_CAMERAS = 3, 10
VIDEOS, VIDEO_S, BIRDS = 4, 1800.0, 1
"""Of a camera-day of the smaller store: some 27,000 boxes."""
INDIVIDUALS = 60
FIRST = dt.date(2025, 11, 1)
YEAR_GOAL_S = 2.0


def queries_rows(bench: Bench) -> Iterator[Row]:
    """Seconds of each query, the store opened anew for each."""
    names = load_ethogram(Settings().ethogram).names
    sizes = bench.sizes
    days = days_of(sizes.query_days, CAMERAS)
    store = bench.root / "queried"
    write_days(store, days, sizes.events_a_day, names)
    at = days[0]
    queries: dict[str, Callable[[Store], Any]] = {
        "events of one date": lambda s: s.events(date=str(at.date)),
        "all events": lambda s: s.events(),
        "events of one behaviour": lambda s: s.events(behaviour=names[0]),
        "time budget": lambda s: s.time_budget(),
        "time budget of each individual": lambda s: s.time_budget(by=["individual_id"]),
        "time budget of each hour": lambda s: s.time_budget(by=["hour"]),
        "individuals": lambda s: s.individuals(),
        "effort": lambda s: s.effort(),
        "detections of one camera and date": lambda s: s.detections(camera=at.camera, date=str(at.date)),
        "events counted in SQL": lambda s: s.sql("SELECT behaviour, count(*) FROM events GROUP BY behaviour"),
        "boxes of each individual in SQL": lambda s: s.sql(BOXES),
    }
    for name, ask in queries.items():
        yield Row(f"{name}, {len(days)} camera-days", median_s(store, ask, sizes.query_rounds), "s")
    if sizes.year_days:
        yield from year_rows(bench, names)


BOXES = """SELECT tracks.individual_id, count(*), avg(y2 - y1) FROM tracks JOIN (SELECT *, row_number() OVER
(PARTITION BY video_id) - 1 AS row FROM detections) AS boxes USING (video_id, row) GROUP BY 1"""


def year_rows(bench: Bench, names: Sequence[str]) -> Iterator[Row]:
    """The hourly time budget of a year."""
    sizes, store = bench.sizes, bench.root / "year"
    days = days_of(sizes.year_days, YEAR_CAMERAS)
    write_year(store, days, sizes.events_a_day, names)
    what = f"{len(days)} camera-days, {len(days) * sizes.events_a_day / 1e6:.1f} million events"
    budget_s = median_s(store, lambda s: s.time_budget(by=["hour"]), sizes.query_rounds)
    yield Row(f"time budget of each hour, {what}", budget_s, "s", at_most(YEAR_GOAL_S))
    date = str(days[0].date)
    yield Row(f"events of one date, {what}", median_s(store, lambda s: s.events(date=date), 1), "s")


def median_s(store: Path, ask: Callable[[Store], Any], rounds: int) -> float:
    """Seconds of a query, opening the store included."""
    return float(np.median([timed(lambda: ask(Store(store))) for _ in range(rounds)]))


def days_of(count: int, cameras: int) -> list[CameraDay]:
    """Camera-days, all cameras of a date before the next one."""
    return [
        CameraDay("bench", f"camera{number % cameras}", FIRST + dt.timedelta(days=number // cameras))
        for number in range(count)
    ]


def write_days(root: Path, days: Sequence[CameraDay], events: int, names: Sequence[str]) -> None:
    """A store with all tables, through the catalog."""
    catalog = begin(root, names)
    for number, day in enumerate(days):
        videos = [video_at(day, place, VIDEO_S) for place in range(VIDEOS)]
        rows = wandering(videos, BIRDS, len(names), SEED + number)
        footer = footer_of("synthetic", names)
        write_detections(catalog, day, videos, rows, footer)
        people = individuals_of(day)
        tracks = [
            TrackRecord(columns.video_id, row, frame, people[place * len(people) // VIDEOS].individual_id)
            for place, columns in enumerate(rows)
            for row, frame in enumerate(columns.frame.tolist())
        ]
        tables = tables_of(day, videos, people, tracks, events_of(day, videos[0], people, events, names))
        catalog.write_camera_day(day, tables, dataclasses.replace(footer, revision="synthetic"))


def write_year(root: Path, days: Sequence[CameraDay], events: int, names: Sequence[str]) -> None:
    """A store of events: the rows of the first camera-day at all others, the other tables short."""
    catalog = begin(root, names)
    videos, people = [video_at(days[0], 0, VIDEO_S)], individuals_of(days[0])
    rows = tables_of(days[0], videos, people, [], events_of(days[0], videos[0], people, events, names))
    tables = {name: table_from_records(rows[name], CAMERA_DAY_SCHEMAS[name]) for name in CAMERA_DAY_TABLES}
    footer = dataclasses.replace(footer_of("synthetic", names), revision="synthetic")
    for day in days:
        write_shifted(catalog, day, tables, footer, day.date - days[0].date)


def write_shifted(
    catalog: Catalog, day: CameraDay, tables: dict[str, pa.Table], footer: Footer, later: dt.timedelta
) -> None:
    """The tables of a camera-day, each time in them so much later."""
    for name, table in tables.items():
        shifted = table
        for index, field in enumerate(table.schema):
            if pa.types.is_timestamp(field.type):
                moved = pc.add(table.column(index), pa.scalar(later, pa.duration("us")))
                shifted = shifted.set_column(index, field, moved.cast(field.type))
            elif field.name == "camera":
                shifted = shifted.set_column(index, field, pa.repeat(day.camera, table.num_rows))
        write_table(catalog.fs, table_path(name, day), shifted, dataclasses.replace(footer, table=name))


def begin(root: Path, names: Sequence[str]) -> Catalog:
    """An empty store."""
    catalog = Catalog(open_filesystem(str(root)))
    pin_or_check(catalog.fs, StorePin(tuple(names), Settings().archive.path_pattern, {"bench": "UTC"}))
    return catalog


def tables_of(
    day: CameraDay,
    videos: Sequence[VideoRecord],
    people: Sequence[IndividualRecord],
    tracks: Sequence[TrackRecord],
    events: Sequence[EventRecord],
) -> dict[str, Sequence[Any]]:
    """All tables of a camera-day."""
    midnight = dt.datetime.combine(day.date, dt.time(), dt.UTC)
    hours = [
        EffortRecord(day.camera, midnight + dt.timedelta(hours=hour), 60.0, 60.0, 60.0, 12.0, 12.0, 3)
        for hour in range(24)
    ]
    return {"videos": videos, "tracks": tracks, "individuals": people, "effort": hours, "events": events}


def individuals_of(day: CameraDay) -> list[IndividualRecord]:
    """Individuals, one after the other through the day."""
    midnight = dt.datetime.combine(day.date, dt.time(), dt.UTC)
    stay = dt.timedelta(days=1) / INDIVIDUALS
    return [
        IndividualRecord(
            individual_id=f"{day.camera}-{day.date}-{number}",
            camera=day.camera,
            kind="subject",
            first_seen=midnight + number * stay,
            last_seen=midnight + (number + 1) * stay,
            visible_s=stay.total_seconds(),
            boxes=450,
            track_quality=0.9,
            p_other=0.05,
        )
        for number in range(INDIVIDUALS)
    ]


def events_of(
    day: CameraDay, video: VideoRecord, people: Sequence[IndividualRecord], count: int, names: Sequence[str]
) -> list[EventRecord]:
    """Bouts that follow each other through the day, the individuals taking turns."""
    rng = np.random.default_rng(SEED)
    midnight = dt.datetime.combine(day.date, dt.time(), dt.UTC)
    step_s = 86_400 / max(1, count)
    doing = rng.integers(0, len(names), count).tolist()
    return [
        EventRecord(
            event_id=f"{day.camera}-{day.date}-{number}",
            camera=day.camera,
            video_id=video.video_id,
            individual_id=people[number * len(people) // count].individual_id,
            behaviour=names[doing[number]],
            start_time=midnight + dt.timedelta(seconds=number * step_s),
            end_time=midnight + dt.timedelta(seconds=(number + 0.9) * step_s),
            start_s=number * step_s,
            end_s=(number + 0.9) * step_s,
            start_frame=number,
            end_frame=number + 1,
            duration_s=0.9 * step_s,
            score_mean=0.8,
            score_peak=0.9,
            motion="static",
            p_dynamic=0.2,
            x1=0.1,
            y1=0.2,
            x2=0.3,
            y2=0.4,
            observations=12,
            model_digest="synthetic",
            config_digest="synthetic",
        )
        for number in range(count)
    ]
