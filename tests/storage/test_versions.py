"""A store of an earlier version: read as it is, refused by a run, upgraded by a call. The earlier one is made up."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage import Store
from storage.catalog import Catalog, StorePin, check_pin, pin_or_check, read_pin
from storage.errors import CorruptObjectError, PinnedValueError
from storage.filesystem import StoreFilesystem
from storage.layout import TABLES, detections_path, table_path, video_id_of
from storage.parquet import FOOTER_KEY, read_footer, read_table
from storage.schema import SCHEMA_VERSION
from storage.upgrade import upgrade_store
from storage.versions import STEPS, Step

EARLIER = SCHEMA_VERSION - 1


def footer_forward(values: dict[str, Any]) -> dict[str, Any]:
    """The made-up earlier version called the zone something else."""
    return {**{key: value for key, value in values.items() if key != "clock"}, "zone": values["clock"]}


def rows_forward(table: str, rows: pa.Table) -> pa.Table:
    """It also had no column for the observations of an event."""
    if table != "events":
        return rows
    field = pa.field("observations", pa.int32(), nullable=False)
    return rows.add_column(20, field, pa.repeat(pa.scalar(3, pa.int32()), rows.num_rows))


def write_as_earlier(fs: StoreFilesystem, path: str) -> None:
    rows = pq.read_table(pa.BufferReader(fs.read_bytes(path)))
    values = json.loads(rows.schema.metadata[FOOTER_KEY])
    values |= {"schema_version": EARLIER, "clock": values.pop("zone")}
    if values["table"] == "events":
        rows = rows.drop_columns(["observations"])
    sink = pa.BufferOutputStream()
    pq.write_table(rows.replace_schema_metadata({FOOTER_KEY: json.dumps(values).encode()}), sink)
    fs.write_atomic(path, sink.getvalue().to_pybytes())


@pytest.fixture
def earlier(filled_fs: StoreFilesystem, monkeypatch: pytest.MonkeyPatch) -> StoreFilesystem:
    """The three camera-days as the made-up earlier version wrote them."""
    pin = json.loads(filled_fs.read_bytes("store.json"))
    filled_fs.write_atomic("store.json", json.dumps({**pin, "schema_version": EARLIER}).encode())
    for table in TABLES:
        for entry in filled_fs.list(table):
            write_as_earlier(filled_fs, entry.path)
    monkeypatch.setitem(STEPS, EARLIER, Step(footer_forward, rows_forward))  # type: ignore[arg-type]
    return filled_fs


def everything(store: Store) -> list[pd.DataFrame]:
    frames = [store.events(states=True), store.individuals(others=True), store.effort(), store.videos()]
    frames += [store.tracks(), store.detections(embedding=True), store.time_budget(by=("site", "hour"))]
    frames.append(store.sql("SELECT camera, sum(observations) AS n FROM events GROUP BY ALL ORDER BY ALL"))
    by = [[name for name in frame.columns if name != "embedding"] for frame in frames]
    return [frame.sort_values(names, ignore_index=True) for frame, names in zip(frames, by, strict=True)]


def assert_same(found: list[pd.DataFrame], expected: list[pd.DataFrame]) -> None:
    for one, other in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_it_is_read_also_in_the_middle_of_an_upgrade(
    earlier: StoreFilesystem, written: StoreFilesystem, reserve: Any
) -> None:
    expected = everything(Store(written.uri))
    assert_same(everything(Store(earlier.uri)), expected)
    path = table_path("events", reserve.north_1)
    earlier.write_atomic(path, written.read_bytes(path))
    store = Store(earlier.uri)
    assert_same(everything(store), expected)
    assert upgrade_store(earlier) == 17
    assert_same(everything(store), expected)


def test_an_upgrade_gives_what_this_version_would_have_written(
    earlier: StoreFilesystem, written: StoreFilesystem
) -> None:
    assert upgrade_store(earlier) == 18
    assert [entry.path for entry in earlier.list("")] == [entry.path for entry in written.list("")]
    for table in TABLES:
        for entry in written.list(table):
            assert read_footer(earlier, entry.path) == read_footer(written, entry.path)
            assert read_table(earlier, entry.path).equals(read_table(written, entry.path))
    pin = read_pin(earlier)
    assert pin == read_pin(written)
    assert upgrade_store(earlier) == 0


def test_a_run_refuses_it_and_says_what_to_do(earlier: StoreFilesystem, reserve: Any) -> None:
    pin = StorePin(reserve.behaviours, "pattern", reserve.zones)
    for check in (check_pin, pin_or_check):
        with pytest.raises(PinnedValueError, match=r"`aviaflow upgrade .*` brings the store up to date"):
            check(earlier, pin)
    upgrade_store(earlier)
    assert check_pin(earlier, pin) == pin


def test_what_cannot_be_read_is_named_and_left(earlier: StoreFilesystem, reserve: Any) -> None:
    path = detections_path(reserve.pond, video_id_of("pond/1.mp4"))
    earlier.write_atomic(path, b"damaged")
    said: list[str] = []
    assert upgrade_store(earlier, said.append) == 17
    assert len(said) == 1
    assert f"{earlier.uri}/{path}" in said[0]
    assert earlier.read_bytes(path) == b"damaged"


def test_a_version_that_no_step_leads_from_is_named(
    earlier: StoreFilesystem, reserve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(STEPS, EARLIER)  # type: ignore[arg-type]
    with pytest.raises(CorruptObjectError, match="schema version 0 is too old"):
        Catalog(earlier).read_records("events", reserve.north_1)
