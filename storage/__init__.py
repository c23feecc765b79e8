"""Rows and objects: schemas, atomic Parquet writes, and the queries that a notebook imports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.queries import Store

__all__ = ["Store"]


def __getattr__(name: str) -> Any:
    """Import ``Store``, and with it pandas and DuckDB, only where it is asked for."""
    if name == "Store":
        from storage.queries import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
