"""One Parquet object: built in memory, described in its footer, published in one step, checked when read."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import CorruptObjectError, SchemaMismatchError
from storage.filesystem import StoreFilesystem
from storage.layout import parse_or_none
from storage.schema import SCHEMA_VERSION, schema_of
from storage.versions import check_version, footer_of_now, rows_of_now

FOOTER_KEY: Final = b"aviaflow"
"""Key of the footer, one JSON document, in the Parquet file's metadata."""
TAIL_BYTES: Final = 64 * 1024
"""One request of this size holds the metadata of nearly every object."""
_ROW_GROUP_ROWS: Final = 256 * 1024
_END_MARK: Final = b"PAR1"


@dataclass(frozen=True, slots=True)
class Footer:
    """What an object says about itself."""

    table: str
    inputs: str
    """Fingerprint of everything that it was computed from."""
    model_digest: str
    config_digest: str
    """Digest of the settings that its own stages read."""
    behaviours: tuple[str, ...]
    """The ethogram's behaviours, in the order of the columns."""
    zone: str
    """IANA time zone of the site; times in the rows are UTC."""
    revision: str = ""
    """The same in all tables of one camera-day."""
    status: str = "done"
    note: str = ""
    """What every reader should know, such as that the model was trained on simulated birds."""
    rows: int = 0
    """Number of rows; filled in by ``write_table``."""
    schema_version: int = SCHEMA_VERSION
    details: Mapping[str, Any] = field(default_factory=dict)
    """Facts that only this kind of object has, as JSON values.

    Of detections: the video, and where it was looked at. Of a camera-day's tables: how many runs tried a quarantined
    video whose process was ended.
    """


def write_table(fs: StoreFilesystem, path: str, table: pa.Table, footer: Footer) -> Footer:
    """Publish rows as one object; returns the footer as it was written, with the row count.

    Raises:
        SchemaMismatchError: the rows do not have the columns of ``footer.table``.
        ObjectWriteError: it could not be written; the object that was there is untouched.
    """
    expected = schema_of(footer.table, footer.behaviours)
    if not table.schema.equals(expected, check_metadata=False):
        raise SchemaMismatchError(f"{path}: {_difference(table.schema, expected)}")
    written = dataclasses.replace(footer, rows=table.num_rows)
    described = table.replace_schema_metadata({FOOTER_KEY: _to_json(written)})
    sink = pa.BufferOutputStream()
    pq.write_table(described, sink, compression="zstd", row_group_size=_ROW_GROUP_ROWS)
    fs.write_atomic(path, sink.getvalue().to_pybytes())
    return written


CheckedSchemas = MutableMapping[tuple[str, tuple[str, ...]], pq.ParquetSchema]
"""One of each table and ethogram that had the right columns: another is compared with it sooner than checked anew."""


def read_footer(fs: StoreFilesystem, path: str, checked: CheckedSchemas | None = None) -> Footer:
    """The footer of one object, without reading its rows; ``checked`` is for reading many.

    Raises:
        FileNotFoundError: there is no such object.
        CorruptObjectError: it is no Parquet object of this project, or not the one that should be there.
        NewerSchemaError: a newer version wrote it.
    """
    tail = fs.read_tail(path, TAIL_BYTES)
    if len(tail) < 12 or tail[-4:] != _END_MARK:
        raise CorruptObjectError(f"{fs.uri}/{path}: this is no Parquet file, or it is cut off")
    needed = int.from_bytes(tail[-8:-4], "little") + 8
    if needed > len(tail):
        tail = fs.read_tail(path, needed + 1)
    try:
        metadata = pq.read_metadata(pa.BufferReader(tail))
    except (pa.ArrowException, OSError) as error:
        raise CorruptObjectError(f"{fs.uri}/{path}: its metadata cannot be read: {error}") from error
    name = f"{fs.uri}/{path}"
    footer = _from_metadata(metadata.metadata, name)
    place = parse_or_none(path)
    if place is not None and place.table != footer.table:
        raise CorruptObjectError(f"{name}: holds {footer.table}, and lies among {place.table}")
    if metadata.num_rows != footer.rows:
        raise CorruptObjectError(f"{name}: {metadata.num_rows} rows, its footer says {footer.rows}")
    if footer.schema_version == SCHEMA_VERSION:
        _check_parquet_schema(metadata.schema, footer, name, {} if checked is None else checked)
    return footer


def find_footers(
    fs: StoreFilesystem, paths: Sequence[str], damaged: MutableMapping[str, str] | None = None
) -> list[Footer | None]:
    """The footers of many objects, in the order of ``paths``, read in parallel.

    None where there is no object or it cannot be used: for a planner both mean that it has to be made. ``damaged``
    gets the reason of the latter by path.

    Raises:
        NewerSchemaError: a newer version wrote one of them.
    """

    checked: CheckedSchemas = {}

    def find(path: str) -> Footer | None:
        try:
            return read_footer(fs, path, checked)
        except FileNotFoundError:
            return None
        except CorruptObjectError as error:
            if damaged is not None:
                damaged[path] = str(error)
            return None

    # A task for each thread: with one for each of thousands of objects half of the time would go to the tasks.
    share = max(1, -(-len(paths) // fs.reads_at_once))
    parts = [paths[start : start + share] for start in range(0, len(paths), share)]
    with ThreadPoolExecutor(fs.reads_at_once) as pool:
        return [
            footer for part in pool.map(lambda part: [find(path) for path in part], parts) for footer in part
        ]


def read_table(fs: StoreFilesystem, path: str) -> pa.Table:
    """The rows of one object, checked against its footer and its table's schema, in this version's columns.

    Raises:
        FileNotFoundError: there is no such object.
        CorruptObjectError: it cannot be read, or holds other rows or columns than it should.
        NewerSchemaError: a newer version wrote it.
    """
    name = f"{fs.uri}/{path}"
    data = fs.read_bytes(path)
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
    except (pa.ArrowException, OSError) as error:
        raise CorruptObjectError(
            f"{name}: cannot be read: {error}; delete it, and the next run makes it again from the archive"
        ) from error
    footer = _from_metadata(table.schema.metadata, name)
    table = rows_of_now(footer.table, table, footer.schema_version)
    _check_schema(table.schema, footer, name)
    if table.num_rows != footer.rows:
        raise CorruptObjectError(f"{name}: {table.num_rows} rows, its footer says {footer.rows}")
    return table


def footer_of(table: pa.Table) -> Footer:
    """The footer of a table that ``read_table`` returned."""
    return _from_metadata(table.schema.metadata, "this table")


def _to_json(footer: Footer) -> bytes:
    return json.dumps(dataclasses.asdict(footer), sort_keys=True, separators=(",", ":")).encode()


def _from_metadata(metadata: dict[bytes, bytes] | None, name: str) -> Footer:
    if not metadata or FOOTER_KEY not in metadata:
        raise CorruptObjectError(f"{name}: not written by Aviaflow: it has no footer of its own")
    try:
        values: dict[str, Any] = json.loads(metadata[FOOTER_KEY])
        version = int(values["schema_version"])
        check_version(version, name)
        values = footer_of_now(values, version)
        return Footer(**{**values, "behaviours": tuple(values["behaviours"])})
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptObjectError(f"{name}: its footer is not understood: {error}") from error


@functools.lru_cache(maxsize=64)
def _expected(table: str, behaviours: tuple[str, ...]) -> pa.Schema:
    """A plan of thousands of videos asks for the same few schemas."""
    return schema_of(table, behaviours)


def _check_parquet_schema(
    schema: pq.ParquetSchema, footer: Footer, name: str, checked: CheckedSchemas
) -> None:
    kind = (footer.table, footer.behaviours)
    if kind not in checked or not schema.equals(checked[kind]):
        _check_schema(schema.to_arrow_schema(), footer, name)
        checked[kind] = schema


def _check_schema(schema: pa.Schema, footer: Footer, name: str) -> None:
    try:
        expected = _expected(footer.table, footer.behaviours)
    except SchemaMismatchError as error:
        raise CorruptObjectError(f"{name}: {error}") from error
    if not schema.equals(expected, check_metadata=False):
        raise CorruptObjectError(f"{name}: {_difference(schema, expected)}")


def _difference(got: pa.Schema, expected: pa.Schema) -> str:
    if got.names != expected.names:
        return f"expected the columns {expected.names}, got {got.names}"
    wrong = [
        f"{want.name} is {have.type}{'' if have.nullable else ' not null'}, "
        f"expected {want.type}{'' if want.nullable else ' not null'}"
        for have, want in zip(got, expected, strict=True)
        if not have.equals(want)
    ]
    return "; ".join(wrong)
