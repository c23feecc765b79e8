from __future__ import annotations

import datetime as dt
import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.errors import PathValueError
from storage.layout import (
    CAMERA_DAY_TABLES,
    CameraDay,
    ObjectPath,
    detections_path,
    parse_or_none,
    parse_path,
    plates_path,
    quote,
    shorten,
    table_path,
    video_id_of,
)

names = st.text(st.characters(codec="utf-8"), min_size=1)
days = st.builds(CameraDay, site=names, camera=names, date=st.dates())


@given(days, st.binary(min_size=8, max_size=8))
def test_paths_of_detections_round_trip(day: CameraDay, raw: bytes) -> None:
    path = detections_path(day, raw.hex())
    assert parse_path(path) == ObjectPath("detections", day, raw.hex())


@given(days, st.sampled_from(CAMERA_DAY_TABLES))
def test_paths_of_camera_days_round_trip(day: CameraDay, table: str) -> None:
    assert parse_path(table_path(table, day)) == ObjectPath(table, day)


@given(days)
def test_paths_of_plates_round_trip(day: CameraDay) -> None:
    assert parse_path(plates_path(day)) == ObjectPath("plates", day)


@given(st.lists(days, min_size=2, max_size=2, unique=True))
def test_two_camera_days_never_share_an_object(pair: list[CameraDay]) -> None:
    first, second = pair
    assert table_path("events", first) != table_path("events", second)
    assert plates_path(first) != plates_path(second)


@given(names)
@example("_hidden")
@example(".hidden")
@example("..")
def test_a_quoted_value_is_one_plain_part_of_a_path(value: str) -> None:
    quoted = quote(value)
    assert quoted.isascii()
    assert quoted.isprintable()
    assert not set(quoted) & set("/\\=*?[]: ")
    assert not quoted.startswith((".", "_"))


def test_paths_as_documented() -> None:
    day = CameraDay("Poyang Lake", "north/1", dt.date(2025, 11, 3))
    assert table_path("events", day) == "events/site=Poyang%20Lake/date=2025-11-03/north%2F1.parquet"
    assert (
        detections_path(day, "00ff00ff00ff00ff")
        == "detections/site=Poyang%20Lake/camera=north%2F1/date=2025-11-03/00ff00ff00ff00ff.parquet"
    )
    assert plates_path(day) == "plates/site=Poyang%20Lake/camera=north%2F1/date=2025-11-03.npz"


def test_video_id_is_a_hash_of_the_path_alone() -> None:
    expected = hashlib.blake2b(b"lake/north/a.mp4", digest_size=8).hexdigest()
    assert video_id_of("lake/north/a.mp4") == expected
    assert len(expected) == 16
    assert video_id_of("lake/north/b.mp4") != expected


def test_video_id_of_a_name_that_is_no_text() -> None:
    assert video_id_of("a\udcff.mp4") == hashlib.blake2b(b"a\xff.mp4", digest_size=8).hexdigest()


@pytest.mark.parametrize(("value", "message"), [("", "must not be empty"), ("a\udcff", "not valid text")])
def test_values_that_cannot_be_part_of_a_path(value: str, message: str) -> None:
    with pytest.raises(PathValueError, match=message):
        table_path("events", CameraDay(value, "c", dt.date(2025, 1, 2)))


def test_unknown_table_and_bad_video_id() -> None:
    day = CameraDay("s", "c", dt.date(2025, 1, 2))
    with pytest.raises(PathValueError, match="'detections' has no object per camera-day"):
        table_path("detections", day)
    with pytest.raises(PathValueError, match=r"16 hex digits, got '\.\./etc'"):
        detections_path(day, "../etc")


@pytest.mark.parametrize(
    "path",
    [
        "events/site=s/date=2025-01-02/c.parquet.tmp",
        "events/site=s/date=2025-01-02/.c.parquet",
        "events/site=s/date=yesterday/c.parquet",
        "events/site=s/camera=c/date=2025-01-02/c.parquet",
        "events/date=2025-01-02/site=s/c.parquet",
        "events/site=/date=2025-01-02/c.parquet",
        "other/site=s/date=2025-01-02/c.parquet",
        "store.json",
        "",
    ],
)
def test_other_files_have_no_place(path: str) -> None:
    with pytest.raises(PathValueError, match="is no object of a store"):
        parse_path(path)
    assert parse_or_none(path) is None


@pytest.mark.parametrize("value", ["north", "n" * 240, "鹤" * 26])
def test_names_that_fit_stay(value: str) -> None:
    assert shorten(value) == value


def test_a_long_name_fits_into_a_file_s_name_and_stays_one_of_its_own() -> None:
    day = dt.date(2025, 1, 2)
    names = [shorten(f"{'鹤' * 80}{end}") for end in ("", "1", "2")]
    assert len(set(names)) == 3
    for name in names:
        assert name.startswith("鹤" * 20)
        parts = detections_path(CameraDay(name, f"{name}~99", day), "00ff00ff00ff00ff").split("/")
        assert max(map(len, parts)) <= 255
        assert len(table_path("events", CameraDay("s", f"{name}~99", day)).split("/")[-1]) <= 255
