"""Whoever does not use this project reads a store with a plain glob, on a local disk and on S3."""

from __future__ import annotations

import duckdb
import fsspec
import pandas as pd
import pyarrow.dataset as ds
import pytest

from storage.filesystem import LocalFilesystem, StoreFilesystem
from storage.layout import TABLES

ROWS = {"videos": 4, "tracks": 4, "individuals": 5, "effort": 4, "events": 9, "detections": 8}


def duckdb_of(fs: StoreFilesystem) -> duckdb.DuckDBPyConnection:
    """A connection that reads this store by paths relative to it (local), or with s3fs."""
    connection = duckdb.connect()
    if isinstance(fs, LocalFilesystem):
        connection.execute(f"SET file_search_path = '{fs.root}'")
    else:
        # Where the extension httpfs can be had, that reads s3:// as well.
        connection.register_filesystem(fsspec.filesystem("s3"))
    return connection


def glob_of(fs: StoreFilesystem, table: str) -> str:
    """A glob over a table. The folder above the store is called site=elsewhere, which DuckDB would take for a
    partition: on a local disk the path begins below it.
    """
    return f"{table}/**/*.parquet" if isinstance(fs, LocalFilesystem) else f"{fs.uri}/{table}/**/*.parquet"


@pytest.mark.parametrize("table", TABLES)
def test_pandas_reads_the_folder(written_fs: StoreFilesystem, table: str) -> None:
    frame = pd.read_parquet(f"{written_fs.uri}/{table}")
    assert len(frame) == ROWS[table]
    if table != "tracks":
        assert set(frame["camera"]) == {"north", "_süd %41"}
        assert set(frame["site"]) == {"lake", "étang 1/2"}
    assert "2025-11-03" in set(frame["date"].astype(str))


@pytest.mark.parametrize("table", TABLES)
def test_duckdb_reads_the_glob(written_fs: StoreFilesystem, table: str) -> None:
    with duckdb_of(written_fs) as connection:
        query = f"SELECT * FROM read_parquet('{glob_of(written_fs, table)}', hive_partitioning=true)"
        frame = connection.execute(query).df()
    assert len(frame) == ROWS[table]
    assert set(frame["date"]) <= {pd.Timestamp("2025-11-03"), pd.Timestamp("2025-11-04")}


@pytest.mark.parametrize("table", TABLES)
def test_pyarrow_reads_the_dataset(written_fs: StoreFilesystem, table: str) -> None:
    filesystem = None if isinstance(written_fs, LocalFilesystem) else fsspec.filesystem("s3")
    folder = f"{written_fs.uri.removeprefix('s3://')}/{table}"
    dataset = ds.dataset(folder, partitioning="hive", filesystem=filesystem)
    assert dataset.count_rows() == ROWS[table]
    lake = dataset.to_table(filter=ds.field("site") == "lake")
    assert set(lake["site"].to_pylist()) == {"lake"}
    assert 0 < lake.num_rows <= ROWS[table]


def test_types_survive_in_every_reader(written_fs: StoreFilesystem) -> None:
    frame = pd.read_parquet(f"{written_fs.uri}/events")
    assert str(frame["start_time"].dtype) == "datetime64[us, UTC]"
    with duckdb_of(written_fs) as connection:
        kinds = dict(
            connection.execute(
                "SELECT column_name, column_type FROM "
                f"(DESCRIBE SELECT * FROM read_parquet('{glob_of(written_fs, 'detections')}'))"
            ).fetchall()
        )
    assert kinds["p_feeding"] == kinds["x1"] == "FLOAT"
    assert kinds["embedding"] == "TINYINT[]"
