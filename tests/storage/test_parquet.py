from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import CorruptObjectError, ObjectWriteError, SchemaMismatchError
from storage.filesystem import LocalFilesystem, StoreFilesystem
from storage.parquet import (
    FOOTER_KEY,
    TAIL_BYTES,
    find_footers,
    footer_of,
    read_footer,
    read_table,
    write_table,
)
from storage.schema import EFFORT, EVENTS, table_from_records

PATH = "events/site=s/date=2025-11-03/c.parquet"


def events_table(reserve: Any, count: int) -> pa.Table:
    rows = [reserve.event(f"bird {number}", "feeding", "2025-11-03T00:00:00", 7.5) for number in range(count)]
    return table_from_records(rows, EVENTS)


def test_rows_and_footer_are_read_back(fs: StoreFilesystem, reserve: Any) -> None:
    table = events_table(reserve, 5)
    given = reserve.footer(table="events", note="simulated birds", details={"spans": [[0, 1.5]]})
    written = write_table(fs, PATH, table, given)
    assert written.rows == 5
    assert read_footer(fs, PATH) == written
    back = read_table(fs, PATH)
    assert back.equals(table)
    assert footer_of(back) == written


def test_no_rows_are_an_object_too(fs: StoreFilesystem, reserve: Any) -> None:
    write_table(fs, PATH, EVENTS.empty_table(), reserve.footer(table="events"))
    assert read_footer(fs, PATH).rows == 0
    assert read_table(fs, PATH).schema.equals(EVENTS, check_metadata=False)


def test_equal_rows_give_equal_bytes(local: LocalFilesystem, reserve: Any) -> None:
    for path in ("a", "b"):
        write_table(local, path, events_table(reserve, 3), reserve.footer(table="events"))
    assert local.read_bytes("a") == local.read_bytes("b")


def test_a_footer_larger_than_one_request(fs: StoreFilesystem, reserve: Any) -> None:
    written = write_table(
        fs, PATH, events_table(reserve, 2), reserve.footer(table="events", note="n" * (2 * TAIL_BYTES))
    )
    assert read_footer(fs, PATH) == written


def test_rows_of_another_table_are_not_written(fs: StoreFilesystem, reserve: Any) -> None:
    with pytest.raises(SchemaMismatchError, match=r"c\.parquet: expected the columns \['event_id'"):
        write_table(fs, PATH, EFFORT.empty_table(), reserve.footer(table="events"))
    position = EVENTS.get_field_index("start_s")
    changed = EVENTS.set(position, pa.field("start_s", pa.float32(), nullable=False))
    with pytest.raises(SchemaMismatchError, match="start_s is float not null, expected double not null"):
        write_table(fs, PATH, changed.empty_table(), reserve.footer(table="events"))
    assert not fs.exists(PATH)


def test_the_old_object_stays_when_publishing_fails(
    local: LocalFilesystem, reserve: Any, fail_before_publishing: Callable[[], None]
) -> None:
    write_table(local, PATH, events_table(reserve, 2), reserve.footer(table="events", revision="old"))
    fail_before_publishing()
    with pytest.raises(ObjectWriteError):
        write_table(local, PATH, events_table(reserve, 9), reserve.footer(table="events", revision="new"))
    assert footer_of(read_table(local, PATH)).revision == "old"
    assert read_table(local, PATH).num_rows == 2


def test_every_cut_of_an_object_is_noticed(local: LocalFilesystem, reserve: Any) -> None:
    write_table(local, PATH, events_table(reserve, 2), reserve.footer(table="events"))
    data = local.read_bytes(PATH)
    for size in (0, 3, 11, len(data) // 2, len(data) - 4, len(data) - 1):
        local.write_atomic("cut", data[:size])
        for read in (read_footer, read_table):
            with pytest.raises(CorruptObjectError, match="cut: "):
                read(local, "cut")


def test_damaged_metadata_is_noticed(local: LocalFilesystem, reserve: Any) -> None:
    write_table(local, PATH, events_table(reserve, 2), reserve.footer(table="events"))
    data = bytearray(local.read_bytes(PATH))
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[start : start + 40] = b"\xff" * 40
    local.write_atomic(PATH, bytes(data))
    with pytest.raises(CorruptObjectError, match="metadata cannot be read"):
        read_footer(local, PATH)


def test_foreign_parquet_is_named(local: LocalFilesystem) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    local.write_atomic("foreign", sink.getvalue().to_pybytes())
    for read in (read_footer, read_table):
        with pytest.raises(CorruptObjectError, match="foreign: not written by Aviaflow"):
            read(local, "foreign")


@pytest.mark.parametrize("readers", [(read_footer, read_table)])
def test_a_wrong_row_count_is_noticed(local: LocalFilesystem, reserve: Any, readers: Any) -> None:
    write_table(local, PATH, events_table(reserve, 2), reserve.footer(table="events"))
    table = read_table(local, PATH)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables([table, table]), sink)
    local.write_atomic(PATH, sink.getvalue().to_pybytes())
    for read in readers:
        with pytest.raises(CorruptObjectError, match="4 rows, its footer says 2"):
            read(local, PATH)


def test_other_columns_than_the_footer_says_are_noticed(local: LocalFilesystem, reserve: Any) -> None:
    write_table(local, PATH, events_table(reserve, 2), reserve.footer(table="events"))
    table = read_table(local, PATH).drop_columns(["motion"])
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    local.write_atomic(PATH, sink.getvalue().to_pybytes())
    with pytest.raises(CorruptObjectError, match="expected the columns"):
        read_table(local, PATH)


def test_a_footer_that_is_not_understood(local: LocalFilesystem) -> None:
    table = EVENTS.empty_table().replace_schema_metadata({FOOTER_KEY: b'{"behaviours": [], "colour": 1}'})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    local.write_atomic("later", sink.getvalue().to_pybytes())
    with pytest.raises(CorruptObjectError, match="later: its footer is not understood"):
        read_footer(local, "later")


def test_missing_object(fs: StoreFilesystem) -> None:
    for read in (read_footer, read_table):
        with pytest.raises(FileNotFoundError):
            read(fs, PATH)


def test_footers_of_many_keep_their_order(fs: StoreFilesystem, reserve: Any) -> None:
    for number in range(40):
        write_table(
            fs, f"events/{number}", EVENTS.empty_table(), reserve.footer(table="events", revision=f"{number}")
        )
    fs.write_atomic("events/7", b"nonsense")
    fs.delete("events/31")
    found = find_footers(fs, [f"events/{number}" for number in range(40)])
    assert [footer.revision if footer else None for footer in found] == [
        None if number in (7, 31) else str(number) for number in range(40)
    ]
