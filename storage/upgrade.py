"""Bring a store of an earlier schema version up to date, object by object."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from storage.catalog import read_pin, write_pin
from storage.errors import CorruptObjectError, StoreNotFoundError
from storage.filesystem import StoreFilesystem
from storage.layout import STORE_JSON, TABLES, parse_or_none
from storage.lease import check_lease
from storage.parquet import find_footers, read_table, write_table
from storage.schema import SCHEMA_VERSION


def upgrade_store(fs: StoreFilesystem, say: Callable[[str], None] = lambda line: None) -> int:
    """Rewrite what an earlier version wrote; returns the number of objects. To be called with the store's lease.

    ``store.json`` comes first, so that no earlier Aviaflow writes from then on; a store in the middle of this is read
    as any other, and the same call goes on where it was stopped.

    Args:
        fs: the store.
        say: told about each object that cannot be read, and is left as it is.

    Raises:
        StoreNotFoundError: there is no store.
        NewerSchemaError: a newer version wrote it.
    """
    pinned = read_pin(fs)
    if pinned is None:
        raise StoreNotFoundError(f"{fs.uri}: there is no store here (no {STORE_JSON})")
    if pinned.schema_version < SCHEMA_VERSION:
        write_pin(fs, dataclasses.replace(pinned, schema_version=SCHEMA_VERSION))
    paths = [entry.path for table in TABLES for entry in fs.list(table) if parse_or_none(entry.path)]
    damaged: dict[str, str] = {}
    count = 0
    for path, footer in zip(paths, find_footers(fs, paths, damaged), strict=True):
        if footer is None or footer.schema_version == SCHEMA_VERSION:
            continue
        check_lease(fs)
        try:
            rows = read_table(fs, path)
        except CorruptObjectError as error:
            damaged[path] = str(error)
            continue
        write_table(fs, path, rows, dataclasses.replace(footer, schema_version=SCHEMA_VERSION))
        count += 1
    for reason in damaged.values():
        say(f"left as it is: {reason}")
    return count
