from __future__ import annotations

import dataclasses
import datetime as dt
import typing
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import records
from storage.errors import SchemaMismatchError
from storage.records import DetectionColumns, EventRecord, IndividualRecord, VideoRecord
from storage.schema import (
    CAMERA_DAY_RECORDS,
    CAMERA_DAY_SCHEMAS,
    EVENTS,
    INDIVIDUALS,
    VIDEOS,
    behaviours_of,
    detections_from_table,
    detections_schema,
    records_from_table,
    schema_of,
    table_from_detections,
    table_from_records,
)

PYTHON_TYPES = {
    str: pa.types.is_string,
    int: pa.types.is_integer,
    float: pa.types.is_floating,
    dt.datetime: lambda kind: kind == pa.timestamp("us", tz="UTC"),
}
NAN_WHERE_UNKNOWN = {
    "individuals": {"p_other"},
    "events": {"score_mean", "score_peak", "p_dynamic", "x1", "y1", "x2", "y2"},
}


def test_every_record_type_agrees_with_its_schema() -> None:
    described = {
        kind
        for kind in vars(records).values()
        if dataclasses.is_dataclass(kind) and kind is not DetectionColumns
    }
    assert described == set(CAMERA_DAY_RECORDS.values())
    assert CAMERA_DAY_RECORDS.keys() == CAMERA_DAY_SCHEMAS.keys()
    for table, record_type in CAMERA_DAY_RECORDS.items():
        schema = CAMERA_DAY_SCHEMAS[table]
        hints = typing.get_type_hints(record_type)
        assert [field.name for field in dataclasses.fields(record_type)] == schema.names
        for field in schema:
            assert PYTHON_TYPES[hints[field.name]](field.type), (table, field)
            assert field.nullable == (field.name in NAN_WHERE_UNKNOWN.get(table, set())), (table, field)


@pytest.mark.parametrize("table", ["detections", *CAMERA_DAY_SCHEMAS])
def test_partition_keys_are_never_columns(table: str) -> None:
    keys = {"site", "date", "camera"} if table == "detections" else {"site", "date"}
    assert keys.isdisjoint(schema_of(table, ("feeding",)).names)


def test_detections_schema_has_a_probability_per_behaviour_in_order() -> None:
    schema = detections_schema(("walk", "feeding", "other_one"))
    names = schema.names
    assert names[:8] == ["video_id", "frame", "time_s", "x1", "y1", "x2", "y2", "box_score"]
    assert names[8:] == ["p_walk", "p_feeding", "p_other_one", "p_other", "p_dynamic", "embedding"]
    assert behaviours_of(schema) == ("walk", "feeding", "other_one")


def test_unknown_table() -> None:
    with pytest.raises(SchemaMismatchError, match="no table 'event'"):
        schema_of("event", ())


names = st.text(st.characters(codec="utf-8"), max_size=8)
times = st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC))
float32s = st.floats(width=32, allow_nan=False)
individuals = st.builds(
    IndividualRecord,
    individual_id=names,
    camera=names,
    kind=st.sampled_from(["subject", "other"]),
    first_seen=times,
    last_seen=times,
    visible_s=st.floats(allow_nan=False),
    boxes=st.integers(0, 2**31 - 1),
    track_quality=float32s,
    p_other=float32s,
)


@given(st.lists(individuals, max_size=5))
def test_records_round_trip(rows: list[IndividualRecord]) -> None:
    assert records_from_table(table_from_records(rows, INDIVIDUALS), IndividualRecord) == rows


def test_unknown_scores_are_null_in_a_file_and_nan_in_memory(reserve: Any) -> None:
    table = table_from_records([reserve.event("a", "unscored", "2025-11-03T00:00:00", 7)], EVENTS)
    assert table["score_mean"].null_count == 1
    assert table["p_dynamic"].null_count == 0
    (back,) = records_from_table(table, EventRecord)
    assert np.isnan(back.score_mean)
    assert back.p_dynamic == 0.25


def test_times_become_utc(reserve: Any) -> None:
    local = dt.datetime(2025, 11, 3, 8, tzinfo=dt.timezone(dt.timedelta(hours=8)))
    row = dataclasses.replace(reserve.video("a.mp4", "2025-01-01T00:00:00"), start_time=local)
    (back,) = records_from_table(table_from_records([row], VIDEOS), VideoRecord)
    assert back.start_time == dt.datetime(2025, 11, 3, tzinfo=dt.UTC)
    assert back.start_time.utcoffset() == dt.timedelta(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start_time": dt.datetime(2025, 11, 3)}, "start_time: times need a time zone"),
        ({"width": 2**40}, "width"),
        ({"uri": None}, "uri: a value is missing in row 1"),
        ({"codec": 7}, "codec"),
    ],
)
def test_values_that_do_not_fit_are_refused(reserve: Any, change: dict[str, Any], message: str) -> None:
    good = reserve.video("a.mp4", "2025-01-01T00:00:00")
    with pytest.raises(SchemaMismatchError, match=message):
        table_from_records([good, dataclasses.replace(good, **change)], VIDEOS)


def test_records_need_their_own_columns() -> None:
    with pytest.raises(SchemaMismatchError, match="rows need the columns"):
        records_from_table(VIDEOS.empty_table(), IndividualRecord)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_detections_round_trip(reserve: Any, rows: int) -> None:
    given_columns = reserve.detections("0123456789abcdef", rows)
    table = table_from_detections(given_columns, reserve.behaviours)
    assert table.num_rows == rows
    assert table.schema.equals(detections_schema(reserve.behaviours))
    back = detections_from_table(table, "0123456789abcdef")
    for field in dataclasses.fields(DetectionColumns):
        want, got = getattr(given_columns, field.name), getattr(back, field.name)
        if field.name != "video_id":
            assert got.dtype == want.dtype, field.name
        np.testing.assert_array_equal(got, want, err_msg=field.name)


def test_detections_keep_columns_apart(reserve: Any) -> None:
    columns = reserve.detections("0123456789abcdef", 4)
    table = table_from_detections(columns, reserve.behaviours)
    np.testing.assert_array_equal(table["y1"].to_numpy(), columns.xyxy[:, 1])
    np.testing.assert_array_equal(table["p_vigilance"].to_numpy(), columns.p_behaviour[:, 1])
    assert table["p_flight"].null_count == 2
    assert table["embedding"][3].as_py() == columns.embedding[3].tolist()


def test_detections_of_another_ethogram_are_refused(reserve: Any) -> None:
    columns = reserve.detections("0123456789abcdef", 4)
    with pytest.raises(SchemaMismatchError, match=r"p_behaviour must have shape \(4, 2\), got \(4, 3\)"):
        table_from_detections(columns, ("feeding", "walk"))
