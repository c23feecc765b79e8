"""What others read a store with, by a plain glob: on a local disk and on S3."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import fsspec
import pandas as pd
import pyarrow.dataset as ds

from storage import Store
from storage.filesystem import LocalFilesystem, StoreFilesystem


def readers(fs: StoreFilesystem) -> dict[str, Callable[[], pd.DataFrame]]:
    """What others read the detections with."""
    uri = f"{fs.uri}/detections"
    if isinstance(fs, LocalFilesystem):
        filesystem, connection = None, duckdb.connect()
    else:
        filesystem, connection = fsspec.filesystem("s3", use_listings_cache=False), duckdb.connect()
        connection.register_filesystem(filesystem)
    query = f"SELECT video_id, box_score FROM read_parquet('{uri}/**/*.parquet')"
    columns = ["video_id", "box_score"]
    return {
        "pandas": lambda: pd.read_parquet(uri, columns=columns),
        "pyarrow": lambda: (
            ds.dataset(uri.removeprefix("s3://"), filesystem=filesystem).to_table(columns).to_pandas()
        ),
        "duckdb": lambda: connection.execute(query).df(),
        "Store": lambda: Store(fs.uri).detections()[columns],
    }
