from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import storage.queries
from storage import Store
from storage.catalog import Catalog, StorePin, pin_or_check
from storage.errors import CameraDayLeftOutWarning, ObjectLeftOutWarning, QueryError, StoreNotFoundError
from storage.filesystem import LocalFilesystem, StoreFilesystem
from storage.layout import detections_path, table_path, video_id_of
from storage.reading import selection


@pytest.fixture
def store(written_fs: StoreFilesystem) -> Store:
    """The filled store on a local disk and on S3, not to be changed."""
    return Store(written_fs.uri)


def bouts(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    return [(row.individual_id, row.behaviour, f"{row.start_time:%d %H:%M}") for row in frame.itertuples()]


def test_events_are_in_order_with_their_local_date(store: Store) -> None:
    frame = store.events()
    assert bouts(frame) == [
        ("a", "feeding", "03 15:50"),
        ("a", "vigilance", "03 15:56"),
        ("a", "feeding", "03 16:06"),
        ("b", "flight", "03 16:10"),
        ("c", "feeding", "04 00:00"),
        ("d", "vigilance", "03 09:00"),
    ]
    assert frame["site"].tolist() == ["lake"] * 5 + ["étang 1/2"]
    assert [f"{date:%d}" for date in frame["date"]] == ["03", "03", "04", "04", "04", "03"]
    assert frame.columns[:2].tolist() == ["site", "date"]
    assert str(frame["start_time"].dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2025-11-03", ["03 15:50", "03 15:56", "03 09:00"]),
        ("2025-11-04", ["03 16:06", "03 16:10", "04 00:00"]),
        (dt.date(2025, 11, 5), []),
        (("2025-11-02", "2025-11-03"), ["03 15:50", "03 15:56", "03 09:00"]),
        (("2025-11-04", dt.date(2026, 1, 1)), ["03 16:06", "03 16:10", "04 00:00"]),
    ],
)
def test_a_date_is_that_of_the_event_not_of_the_recording(
    store: Store, date: Any, expected: list[str]
) -> None:
    assert [start for _, _, start in bouts(store.events(date=date))] == expected


def test_filters(store: Store) -> None:
    assert len(store.events(site="lake")) == 5
    assert len(store.events(site=["lake", "étang 1/2"])) == 6
    assert len(store.events(site="nowhere")) == 0
    assert bouts(store.events(camera="_süd %41")) == [("d", "vigilance", "03 09:00")]
    assert bouts(store.events(behaviour="flight")) == [("b", "flight", "03 16:10")]
    assert len(store.events(behaviour=("flight", "vigilance"), site="lake")) == 2
    assert bouts(store.events(individual="b")) == [("b", "flight", "03 16:10")]
    assert len(store.events(individual=("a", "b"), behaviour="feeding")) == 2


def test_states_are_shown_when_asked_for(store: Store) -> None:
    assert set(store.events()["behaviour"]) == {"feeding", "vigilance", "flight"}
    assert len(store.events(states=True)) == 9
    assert bouts(store.events(behaviour="not_visible")) == [("a", "not_visible", "03 16:04")]


def test_questions_that_are_refused(store: Store) -> None:
    with pytest.raises(QueryError, match="no behaviour feding; it has feeding, vigilance, flight, unscored"):
        store.events(behaviour="feding")
    with pytest.raises(QueryError, match="'3 Nov' is no date"):
        store.events(date="3 Nov")
    with pytest.raises(QueryError, match="20251103 is no date; write it as 2025-11-03"):
        store.events(date=20251103)  # type: ignore[arg-type]
    for pair in (["2025-11-04", "2025-11-03"], ("2025-11-03",), ["2025-11-03"] * 3):
        with pytest.raises(QueryError, match="is no pair of dates; give the first and the last"):
            store.events(date=pair)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot divide a budget by"):
        store.time_budget(by=("minute",))
    with pytest.raises(QueryError, match="evnts"):
        store.sql("SELECT * FROM evnts")


def test_individuals(store: Store) -> None:
    assert store.individuals()["individual_id"].tolist() == ["a", "b", "c", "d"]
    assert store.individuals(others=True)["individual_id"].tolist() == ["a", "deer", "b", "c", "d"]
    assert store.individuals(date="2025-11-04")["individual_id"].tolist() == ["b", "c"]


def test_effort(store: Store) -> None:
    frame = store.effort(site="lake", date="2025-11-04")
    assert frame["recorded_min"].tolist() == [20.0, 30.0]
    assert frame["max_individuals"].tolist() == [2, 1]


def test_the_hour_after_midnight_is_one_row_of_two_camera_days(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording that goes on past midnight has the rest of it in the table of the day before."""
    whole = store.effort(site="lake", date="2025-11-04")
    parts = pd.concat([whole, whole.iloc[:1].assign(recorded_min=7.0, max_individuals=5)])
    monkeypatch.setattr(Store, "_timed", lambda *_: parts)
    merged = store.effort()
    assert list(merged) == list(whole)
    assert merged["hour_start"].tolist() == whole["hour_start"].tolist()
    assert merged["recorded_min"].tolist() == [27.0, 30.0]
    assert merged["max_individuals"].tolist() == [5, 1]


@pytest.fixture
def long_stay(filled_fs: StoreFilesystem, reserve: Any) -> Store:
    """A bird that rests through two midnights, a deer that is hidden for a while, a bird that was one for a day."""
    catalog = Catalog(filled_fs)
    for number, kind in ((5, "other"), (6, "subject"), (7, "subject")):
        day = dataclasses.replace(reserve.north_1, date=dt.date(2025, 11, number))
        start = f"2025-11-{number - 1:02d}T20:00:00"
        rows = reserve.tables(
            individuals=[
                reserve.individual("resting", start, 100 * number),
                reserve.individual("changed", start, 50, kind=kind),
            ],
            events=[
                reserve.event("resting", "vigilance", start, 10),
                reserve.event("changed", "feeding" if kind == "subject" else "other", start, 20),
                reserve.event("changed", "not_visible", start.replace("T20", "T21"), 30),
            ],
        )
        catalog.write_camera_day(day, rows, reserve.footer())
    return Store(filled_fs.uri)


def test_a_bird_that_stays_is_one_individual_whatever_dates_are_asked_for(long_stay: Store) -> None:
    everything = long_stay.individuals(camera="north").query("individual_id == 'resting'")
    assert everything[["visible_s", "boxes"]].values.tolist() == [[1800.0, 21]]
    assert [f"{time:%d %H:%M:%S}" for time in everything["last_seen"]] == ["06 20:11:40"]
    (came,) = everything["date"]
    asked = long_stay.individuals(camera="north", date=came.date()).query("individual_id == 'resting'")
    pd.testing.assert_frame_equal(asked.reset_index(drop=True), everything.reset_index(drop=True))
    pair = [dt.date(2025, 11, 6), dt.date(2025, 11, 9)]
    later = long_stay.individuals(date=(pair[0], pair[1]))
    assert later.equals(long_stay.individuals(date=pair))
    assert "resting" not in later["individual_id"].tolist()


def test_what_is_not_of_the_taxon_is_in_no_budget_hidden_or_not(long_stay: Store) -> None:
    budget = long_stay.time_budget(by=("individual_id", "date"), camera="north")
    changed = budget[(budget["individual_id"] == "changed") & (budget["behaviour"] == "feeding")]
    assert [(f"{date:%d}", seconds) for date, seconds in changed[["date", "seconds"]].values] == [
        ("06", 20.0),
        ("07", 20.0),
    ]
    assert "deer" not in set(budget["individual_id"])
    assert set(long_stay.time_budget(by=("individual_id",), individual="changed")["seconds"]) == {0.0, 40.0}


def test_a_date_has_what_a_recording_of_two_days_before_leaves_in_it() -> None:
    chosen = selection(None, None, "2025-11-04").with_days_before()
    assert chosen.first == dt.date(2025, 11, 2)
    assert selection(None, None, None).with_days_before() == selection(None, None, None)


def test_videos_are_by_the_date_of_the_recording(store: Store) -> None:
    assert store.videos(date="2025-11-03", site="lake")["uri"].tolist() == ["lake/north/1.mp4", "x.txt"]
    assert store.videos(date="2025-11-04")["uri"].tolist() == ["lake/north/2.mp4"]
    quarantined = store.videos().query("status == 'quarantined'")
    assert quarantined["reason"].tolist() == ["no video"]


def test_tracks(store: Store) -> None:
    assert store.tracks()["row"].tolist() == [0, 1, 2, 3]
    assert len(store.tracks(date="2025-11-04")) == 0


def test_detections(store: Store) -> None:
    frame = store.detections(site="lake")
    assert len(frame) == 5
    assert "embedding" not in frame
    assert frame["p_feeding"].isna().tolist() == [True, False, False, True, False]
    assert set(frame["camera"]) == {"north"}
    one = store.detections(camera="_süd %41", embedding=True)
    assert [len(value) for value in one["embedding"]] == [64, 64, 64]
    assert len(store.detections(video=one["video_id"][0])) == 3
    assert len(store.detections(date="2025-11-04")) == 0


def test_time_budget(store: Store) -> None:
    frame = store.time_budget()
    assert frame["behaviour"].tolist() == ["feeding", "vigilance", "flight"]
    assert frame["seconds"].tolist() == [640.0, 520.0, 60.0]
    assert frame["bouts"].tolist() == [3, 2, 1]
    assert frame["scored_s"].tolist() == [1220.0] * 3
    assert frame["visible_s"].tolist() == [1280.0] * 3
    assert frame["share"].tolist() == pytest.approx([640 / 1220, 520 / 1220, 60 / 1220])


def test_time_budget_of_a_date_cuts_bouts_at_midnight(store: Store) -> None:
    seconds = {
        date: store.time_budget(by=("individual_id",), site="lake", date=date)
        .query("individual_id == 'a'")
        .set_index("behaviour")[["seconds", "bouts"]]
        .T.to_dict("list")
        for date in ("2025-11-03", "2025-11-04")
    }
    assert seconds["2025-11-03"] == {"feeding": [300, 1], "vigilance": [240, 1], "flight": [0, 0]}
    assert seconds["2025-11-04"] == {"feeding": [240, 1], "vigilance": [240, 0], "flight": [0, 0]}


def test_time_budget_by_hour_of_the_local_clock(store: Store) -> None:
    frame = store.time_budget(by=("site", "hour")).query("behaviour == 'vigilance'")
    assert list(zip(frame["site"], frame["hour"], frame["seconds"], strict=True)) == [
        ("lake", 0, 240.0),
        ("lake", 8, 0.0),
        ("lake", 23, 240.0),
        ("étang 1/2", 10, 40.0),
    ]
    assert store.time_budget(by=("hour",), individual="c")["hour"].tolist() == [8, 8, 8]


def test_sql_has_every_table_with_its_partition_keys(store: Store) -> None:
    assert store.sql("SELECT count(*) AS n FROM Events")["n"].tolist() == [9]
    frame = store.sql("SELECT site, date, camera, count(*) AS n FROM detections GROUP BY ALL ORDER BY n DESC")
    assert frame["site"].tolist() == ["lake", "étang 1/2"]
    assert frame["camera"].tolist() == ["north", "_süd %41"]
    assert frame["date"].tolist() == [pd.Timestamp("2025-11-03")] * 2
    assert sorted(store.sql("SHOW TABLES")["name"]) == [
        "detections",
        "effort",
        "events",
        "individuals",
        "tracks",
        "videos",
    ]


def test_sql_joins_filters_and_converts(store: Store) -> None:
    frame = store.sql(
        """
        SELECT individual_id, strftime(start_time AT TIME ZONE 'Asia/Shanghai', '%H:%M') AS clock
        FROM events JOIN individuals USING (individual_id, site, date)
        WHERE kind = 'subject' AND behaviour = 'feeding' AND start_time > '2025-11-03 16:00+00'
          AND date = '2025-11-03'
        """
    )
    assert frame.values.tolist() == [["a", "00:06"]]
    mean = store.sql("SELECT avg(score_mean) AS mean FROM events")["mean"][0]
    assert mean == 0.75


def test_sql_opens_only_the_tables_that_it_names(
    filled_fs: StoreFilesystem, reserve: Any, recwarn: pytest.WarningsRecorder
) -> None:
    store = Store(filled_fs.uri)
    filled_fs.write_atomic(table_path("effort", reserve.north_1), b"damaged")
    assert store.sql("SELECT count(*) AS my_events FROM detections")["my_events"].tolist() == [8]
    assert len(recwarn) == 0
    store.sql("SELECT count(*) FROM videos")
    assert [warning.category for warning in recwarn] == [CameraDayLeftOutWarning]


def test_tables_of_different_runs_are_left_out_with_a_warning(
    filled_fs: StoreFilesystem, reserve: Any
) -> None:
    store = Store(filled_fs.uri)
    kept = filled_fs.read_bytes(table_path("individuals", reserve.north_1))
    Catalog(filled_fs).write_camera_day(reserve.north_1, reserve.tables(), reserve.footer(revision="r1b"))
    filled_fs.write_atomic(table_path("individuals", reserve.north_1), kept)
    message = "site lake, camera north, 2025-11-03 is left out: its tables are of different runs"
    for ask in (store.events, store.individuals, store.effort, store.videos, store.tracks, store.time_budget):
        with pytest.warns(CameraDayLeftOutWarning, match=message):
            frame = ask(site="lake")
        assert set(frame.get("individual_id", ["c"])) <= {"c"}
    with pytest.warns(CameraDayLeftOutWarning, match=message):
        assert store.sql("SELECT DISTINCT date FROM events WHERE site = 'lake'")["date"].tolist() == [
            pd.Timestamp("2025-11-04")
        ]


def test_a_missing_or_damaged_table_is_named(filled_fs: StoreFilesystem, reserve: Any) -> None:
    store = Store(filled_fs.uri)
    filled_fs.delete(table_path("effort", reserve.north_1))
    with pytest.warns(CameraDayLeftOutWarning, match="2025-11-03 is left out: it has no effort"):
        assert len(store.events(site="lake")) == 1
    filled_fs.write_atomic(table_path("effort", reserve.north_1), b"damaged")
    with pytest.warns(CameraDayLeftOutWarning, match="its effort cannot be read"):
        assert len(store.events(site="lake")) == 1


def test_damaged_detections_are_left_out_and_named(filled_fs: StoreFilesystem, reserve: Any) -> None:
    store = Store(filled_fs.uri)
    path = detections_path(reserve.pond, video_id_of("pond/1.mp4"))
    filled_fs.write_atomic(path, filled_fs.read_bytes(path)[:-5])
    for ask in (store.detections, lambda: store.sql("SELECT * FROM detections")):
        with pytest.warns(
            ObjectLeftOutWarning, match="cut off; it is left out, and `aviaflow run` makes it again where"
        ) as said:
            assert set(ask()["site"]) == {"lake"}
        assert f"{filled_fs.uri}/{path}" in str(said[0].message)


def test_a_store_that_stays_open_sees_the_next_night(filled_fs: StoreFilesystem, reserve: Any) -> None:
    store = Store(filled_fs.uri)
    assert len(store.events(site="lake")) == 5
    rows = reserve.tables(events=[reserve.event("new", "flight", "2025-11-03T01:00:00", 4)])
    Catalog(filled_fs).write_camera_day(reserve.north_1, rows, reserve.footer(revision="later"))
    assert bouts(store.events(site="lake", date="2025-11-03")) == [("new", "flight", "03 01:00")]


def test_an_empty_store_has_the_same_columns_and_types(
    tmp_path: Path, filled: Catalog, local: LocalFilesystem, reserve: Any
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    pin_or_check(LocalFilesystem(folder), StorePin(reserve.behaviours, "pattern", reserve.zones))
    empty, full = Store(folder), Store(local.root)
    by = ("site", "date", "camera", "individual_id", "hour")
    for ask in (
        lambda store: store.events(),
        lambda store: store.events(date="2025-11-03"),
        lambda store: store.individuals(),
        lambda store: store.effort(),
        lambda store: store.videos(),
        lambda store: store.tracks(),
        lambda store: store.detections(embedding=True),
        lambda store: store.time_budget(),
        lambda store: store.time_budget(by=by),
        lambda store: store.sql("SELECT * FROM events"),
    ):
        nothing, something = ask(empty), ask(full)
        assert len(nothing) == 0 < len(something)
        pd.testing.assert_series_equal(nothing.dtypes, something.dtypes)


def test_an_empty_folder_is_an_empty_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.behaviours == ()
    assert len(store.events()) == len(store.detections()) == len(store.time_budget()) == 0


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="missing: there is no store here"):
        Store(tmp_path / "missing")
    (tmp_path / "letter.txt").write_text("hello")
    with pytest.raises(StoreNotFoundError, match=r"no store\.json"):
        Store(tmp_path)


def test_importing_storage_does_no_work() -> None:
    code = "import sys, storage; print(sorted({'pandas', 'duckdb', 'pyarrow'} & set(sys.modules)))"
    root = Path(storage.queries.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Stor'"):
        storage.Stor  # noqa: B018
