"""Whoever does not use this project reads a store with a plain glob."""

from __future__ import annotations

import duckdb
import pandas as pd
import pyarrow.dataset as ds
import pytest

from storage.catalog import Catalog
from storage.filesystem import LocalFilesystem
from storage.layout import TABLES

ROWS = {"videos": 4, "tracks": 4, "individuals": 5, "effort": 4, "events": 9, "detections": 8}


@pytest.mark.parametrize("table", TABLES)
def test_pandas_reads_the_folder(filled: Catalog, local: LocalFilesystem, table: str) -> None:
    frame = pd.read_parquet(local.root / table)
    assert len(frame) == ROWS[table]
    if table != "tracks":
        assert set(frame["camera"]) == {"north", "_süd %41"}
        assert set(frame["site"]) == {"lake", "étang 1/2"}
    assert "2025-11-03" in set(frame["date"].astype(str))


@pytest.mark.parametrize("table", TABLES)
def test_duckdb_reads_the_glob(filled: Catalog, local: LocalFilesystem, table: str) -> None:
    # The folder above the store is called site=elsewhere, which DuckDB would take for a partition: go there.
    with duckdb.connect() as connection:
        connection.execute(f"SET file_search_path = '{local.root}'")
        query = f"SELECT * FROM read_parquet('{table}/**/*.parquet', hive_partitioning=true)"
        frame = connection.execute(query).df()
    assert len(frame) == ROWS[table]
    assert set(frame["date"]) <= {pd.Timestamp("2025-11-03"), pd.Timestamp("2025-11-04")}


@pytest.mark.parametrize("table", TABLES)
def test_pyarrow_reads_the_dataset(filled: Catalog, local: LocalFilesystem, table: str) -> None:
    dataset = ds.dataset(local.root / table, partitioning="hive")
    assert dataset.count_rows() == ROWS[table]
    lake = dataset.to_table(filter=ds.field("site") == "lake")
    assert set(lake["site"].to_pylist()) == {"lake"}
    assert 0 < lake.num_rows <= ROWS[table]


def test_types_survive_in_every_reader(filled: Catalog, local: LocalFilesystem) -> None:
    frame = pd.read_parquet(local.root / "events")
    assert str(frame["start_time"].dtype) == "datetime64[us, UTC]"
    with duckdb.connect() as connection:
        kinds = dict(
            connection.execute(
                "SELECT column_name, column_type FROM "
                f"(DESCRIBE SELECT * FROM read_parquet('{local.root}/detections/**/*.parquet'))"
            ).fetchall()
        )
    assert kinds["p_feeding"] == kinds["x1"] == "FLOAT"
    assert kinds["embedding"] == "TINYINT[]"
