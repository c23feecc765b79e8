from __future__ import annotations

import dataclasses
import io
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage import Store
from storage.catalog import Catalog, StorePin, pin_or_check, read_pin
from storage.errors import (
    CorruptObjectError,
    NewerSchemaError,
    ObjectWriteError,
    PathValueError,
    PinnedValueError,
    SchemaMismatchError,
)
from storage.filesystem import LocalFilesystem, StoreFilesystem
from storage.layout import CAMERA_DAY_TABLES, detections_path, plates_path, table_path, video_id_of
from storage.plates import PlateRecord
from storage.schema import SCHEMA_VERSION

PIN = StorePin(("feeding", "walk"), r"(?P<site>.*)", {"lake": "Asia/Shanghai"})


def test_first_run_pins_and_the_next_agrees(fs: StoreFilesystem) -> None:
    assert read_pin(fs) is None
    assert pin_or_check(fs, PIN) == PIN
    assert read_pin(fs) == PIN
    before = fs.list("")
    assert pin_or_check(fs, PIN) == PIN
    assert fs.list("") == before


def test_a_new_site_is_added(fs: StoreFilesystem) -> None:
    pin_or_check(fs, PIN)
    merged = pin_or_check(fs, dataclasses.replace(PIN, zones={"pond": "Europe/Paris"}))
    assert merged.zones == {"lake": "Asia/Shanghai", "pond": "Europe/Paris"}
    assert read_pin(fs) == merged


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"behaviours": ("walk", "feeding")}, "behaviours 'feeding, walk', this run wants 'walk, feeding'"),
        ({"path_pattern": "x"}, r"path pattern '\(\?P<site>\.\*\)', this run wants 'x'"),
        ({"zones": {"lake": "UTC"}}, "time zone of site lake 'Asia/Shanghai', this run wants 'UTC'"),
        ({"schema_version": 99}, "schema version 1, this Aviaflow writes 99; `aviaflow upgrade"),
    ],
)
def test_other_values_are_refused_in_one_line(
    fs: StoreFilesystem, change: dict[str, Any], message: str
) -> None:
    pin_or_check(fs, PIN)
    with pytest.raises(PinnedValueError, match=message) as caught:
        pin_or_check(fs, dataclasses.replace(PIN, **change))
    assert "\n" not in str(caught.value)
    assert read_pin(fs) == PIN


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"behaviours": ["a"]})])
def test_a_damaged_pin_is_named(fs: StoreFilesystem, text: str) -> None:
    fs.write_atomic("store.json", text.encode())
    with pytest.raises(CorruptObjectError, match=r"store\.json: not understood"):
        pin_or_check(fs, PIN)


def test_pinning_clears_what_killed_writers_left(local: LocalFilesystem) -> None:
    local.write_atomic("a", b"")
    staged = local.root / ".staging" / "old"
    staged.write_bytes(b"half")
    os.utime(staged, (time.time() - 1e6,) * 2)
    pin_or_check(local, PIN)
    assert not staged.exists()


def test_what_is_finished(fs: StoreFilesystem, reserve: Any) -> None:
    catalog = Catalog(fs)
    ids = [video_id_of(f"{number}.mp4") for number in range(4)]
    for number, video_id in enumerate(ids):
        day = reserve.north_2 if number == 3 else reserve.north_1
        catalog.write_detections(
            day,
            reserve.detections(video_id, number),
            reserve.detections_footer(video_id, inputs=f"in{number}"),
        )
    fs.write_atomic(detections_path(reserve.north_1, ids[1]), b"damaged")
    finished = catalog.finished_detections(reserve.north_1)
    assert {video_id: (footer.inputs, footer.rows) for video_id, footer in finished.items()} == {
        ids[0]: ("in0", 0),
        ids[2]: ("in2", 2),
    }
    assert catalog.finished_detections(reserve.pond) == {}


def test_objects_that_cannot_be_used_are_left_out_and_named(fs: StoreFilesystem, reserve: Any) -> None:
    catalog = Catalog(fs)
    ids = [video_id_of(f"{number}.mp4") for number in range(6)]
    for video_id in ids:
        catalog.write_detections(
            reserve.north_1, reserve.detections(video_id, 2), reserve.detections_footer(video_id)
        )
    paths = [detections_path(reserve.north_1, video_id) for video_id in ids]
    whole = fs.read_bytes(paths[0])
    fs.write_atomic(paths[1], whole)
    fs.write_atomic(paths[2], whole[:-20])
    catalog.write_detections(reserve.north_1, reserve.detections(ids[3], 2), reserve.footer())
    rewrite(fs, paths[4], lambda table: table.drop_columns(["box_score"]))
    catalog.write_camera_day(reserve.north_1, reserve.tables(), reserve.footer())
    fs.write_atomic(paths[5], fs.read_bytes(table_path("events", reserve.north_1)))
    assert list(catalog.finished_detections(reserve.north_1)) == [ids[0]]
    for path, said in (
        (paths[1], f"it is of another video, {ids[0]} (some.mp4)"),
        (paths[2], "this is no Parquet file, or it is cut off"),
        (paths[3], "its footer does not describe a video"),
        (paths[4], "expected the columns"),
        (paths[5], "holds events, and lies among detections"),
    ):
        assert said in catalog.damaged[path]
        assert catalog.damaged[path].startswith(f"{fs.uri}/{path}: ")
    assert len(catalog.damaged) == 5
    anew = Catalog(fs)
    assert list(anew.snapshot().finished_detections(reserve.north_1)) == [ids[0]]
    assert anew.damaged == catalog.damaged


def rewrite(fs: StoreFilesystem, path: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Replace an object by one with the same footer and other columns."""
    sink = pa.BufferOutputStream()
    pq.write_table(change(pq.read_table(pa.BufferReader(fs.read_bytes(path)))), sink)
    fs.write_atomic(path, sink.getvalue().to_pybytes())


def test_a_store_of_a_newer_version_is_refused_in_one_line(fs: StoreFilesystem, reserve: Any) -> None:
    fs.write_atomic("store.json", json.dumps({"schema_version": SCHEMA_VERSION + 1, "news": 1}).encode())
    for ask in (lambda: pin_or_check(fs, PIN), lambda: Store(fs.uri)):
        with pytest.raises(
            NewerSchemaError, match=r"schema version 2, this one knows 1\); install the newer"
        ) as e:
            ask()
        assert "\n" not in str(e.value)
    newer = reserve.detections_footer(video_id_of("a"), schema_version=SCHEMA_VERSION + 1)
    Catalog(fs).write_detections(reserve.north_1, reserve.detections(video_id_of("a"), 1), newer)
    with pytest.raises(NewerSchemaError, match=r"\.parquet: written by a newer Aviaflow"):
        Catalog(fs).finished_detections(reserve.north_1)


def test_detections_are_read_back(fs: StoreFilesystem, reserve: Any) -> None:
    catalog = Catalog(fs)
    given = reserve.detections("00112233aabbccdd", 5)
    catalog.write_detections(reserve.pond, given, reserve.footer())
    back = catalog.read_detections(reserve.pond, "00112233aabbccdd")
    np.testing.assert_array_equal(back.embedding, given.embedding)
    np.testing.assert_array_equal(back.p_behaviour, given.p_behaviour)


def test_camera_days_are_those_with_objects(filled_fs: StoreFilesystem, reserve: Any) -> None:
    catalog = Catalog(filled_fs)
    filled_fs.write_atomic("events/.DS_Store", b"")
    assert catalog.camera_days() == [reserve.north_1, reserve.north_2, reserve.pond]


def test_a_snapshot_says_what_the_catalog_says_of_every_camera_day(
    filled_fs: StoreFilesystem, reserve: Any
) -> None:
    catalog = Catalog(filled_fs)
    snapshot = catalog.snapshot()
    assert snapshot.camera_days() == catalog.camera_days()
    for day in (*catalog.camera_days(), dataclasses.replace(reserve.pond, camera="none")):
        assert snapshot.finished_detections(day) == catalog.finished_detections(day)
        assert list(snapshot.camera_day_footers(day).items()) == list(catalog.camera_day_footers(day).items())
        if "videos" in snapshot.camera_day_footers(day):
            assert snapshot.read_records("videos", day) == catalog.read_records("videos", day)


def test_a_camera_day_has_one_revision(filled_fs: StoreFilesystem, reserve: Any) -> None:
    catalog = Catalog(filled_fs)
    footers = catalog.camera_day_footers(reserve.north_1)
    assert tuple(footers) == CAMERA_DAY_TABLES
    assert {footer.revision for footer in footers.values()} == {"r1"}
    assert {name: footer.rows for name, footer in footers.items()} == {
        "videos": 2,
        "tracks": 4,
        "individuals": 3,
        "effort": 2,
        "events": 7,
    }
    rows = catalog.read_records("events", reserve.north_1)
    assert [row.behaviour for row in rows][:3] == ["feeding", "unscored", "vigilance"]


def test_a_missing_table_is_missing_in_the_footers(filled_fs: StoreFilesystem, reserve: Any) -> None:
    catalog = Catalog(filled_fs)
    filled_fs.delete(table_path("effort", reserve.north_1))
    assert "effort" not in catalog.camera_day_footers(reserve.north_1)
    assert len(catalog.camera_day_footers(reserve.north_1)) == 4


def test_a_rerun_replaces_and_never_adds(filled_fs: StoreFilesystem, reserve: Any) -> None:
    catalog = Catalog(filled_fs)
    paths = [entry.path for entry in filled_fs.list("")]
    catalog.write_camera_day(
        reserve.north_1, reserve.tables(), reserve.footer(revision="new", model_digest="m2")
    )
    assert [entry.path for entry in filled_fs.list("")] == paths
    assert catalog.read_records("events", reserve.north_1) == []


def test_one_bad_record_writes_nothing(fs: StoreFilesystem, reserve: Any) -> None:
    catalog = Catalog(fs)
    bad = dataclasses.replace(reserve.event("a", "feeding", "2025-11-03T00:00:00", 1), start_frame=2**40)
    with pytest.raises(SchemaMismatchError, match="start_frame"):
        catalog.write_camera_day(reserve.pond, reserve.tables(events=[bad]), reserve.footer())
    assert fs.list("") == []


def test_all_tables_are_written_or_none(fs: StoreFilesystem, reserve: Any) -> None:
    with pytest.raises(PathValueError, match="a camera-day needs the tables"):
        Catalog(fs).write_camera_day(reserve.pond, {"events": []}, reserve.footer())
    assert fs.list("") == []


def test_plates_are_read_back(fs: StoreFilesystem, reserve: Any) -> None:
    catalog = Catalog(fs)
    rng = np.random.default_rng(3)
    plates = [
        PlateRecord(
            f"id{number}",
            regime,
            rng.integers(0, 256, (4 + number, 6, 3)).astype(np.uint8),
            rng.random((4 + number, 6), dtype=np.float32),
            made_of="ab" * number,
        )
        for number, regime in enumerate(("day", "infrared-2"))
    ]
    assert catalog.read_plates(reserve.north_1) is None
    catalog.write_plates(reserve.north_1, plates)
    first = fs.read_bytes(plates_path(reserve.north_1))
    back = catalog.read_plates(reserve.north_1)
    assert back is not None
    told = [(plate.plate_id, plate.regime, plate.made_of) for plate in back]
    assert told == [("id0", "day", ""), ("id1", "infrared-2", "ab")]
    for got, want in zip(back, plates, strict=True):
        np.testing.assert_array_equal(got.pixels, want.pixels)
        np.testing.assert_array_equal(got.noise, want.noise)
        assert (got.pixels.dtype, got.noise.dtype) == (np.uint8, np.float32)
    catalog.write_plates(reserve.north_1, back)
    assert fs.read_bytes(plates_path(reserve.north_1)) == first


def test_no_plate_is_not_the_same_as_no_survey(fs: StoreFilesystem, reserve: Any) -> None:
    catalog = Catalog(fs)
    catalog.write_plates(reserve.north_1, [])
    assert catalog.read_plates(reserve.north_1) == ()
    assert catalog.read_plates(reserve.north_2) is None


def test_damaged_plates_are_named(fs: StoreFilesystem, reserve: Any) -> None:
    catalog = Catalog(fs)
    noise = np.random.default_rng(0).random((20, 30), np.float32)
    catalog.write_plates(reserve.pond, [PlateRecord("p", "day", np.zeros((20, 30, 3), np.uint8), noise)])
    data = fs.read_bytes(plates_path(reserve.pond))
    entry = data.index(b"PK\1\2")  # of the zip's directory: flags at byte 8, compression at byte 10
    overwritten = [data[:at] + b"\xff" + data[at + 1 :] for at in (100, entry + 8, entry + 10)]
    for damaged in (b"", b"not a zip", data[: len(data) // 2], *overwritten):
        fs.write_atomic(plates_path(reserve.pond), damaged)
        with pytest.raises(CorruptObjectError, match=r"date=2025-11-03\.npz: holds no background plates"):
            catalog.read_plates(reserve.pond)


def test_plates_hold_no_pickle(fs: StoreFilesystem, reserve: Any) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, index=np.array([{"a": 1}], dtype=object))
    fs.write_atomic(plates_path(reserve.pond), buffer.getvalue())
    with pytest.raises(CorruptObjectError, match="allow_pickle=False"):
        Catalog(fs).read_plates(reserve.pond)


def test_a_failed_rewrite_leaves_the_old_camera_day(
    filled: Catalog, local: LocalFilesystem, reserve: Any, fail_before_publishing: Callable[[], None]
) -> None:
    before = local.list("")
    fail_before_publishing()
    with pytest.raises(ObjectWriteError):
        filled.write_camera_day(reserve.north_1, reserve.tables(), reserve.footer(revision="new"))
    assert local.list("") == before
    assert len(filled.read_records("events", reserve.north_1)) == 7
