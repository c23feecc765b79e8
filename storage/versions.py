"""Stores of earlier schema versions: how what they hold reads today.

A version that changes a table brings a ``Step`` with it. Reading applies the steps in memory;
``storage.upgrade`` writes what they give. There has been one version so far, hence no step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from storage.errors import CorruptObjectError, NewerSchemaError
from storage.schema import SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Step:
    """From one schema version to the next."""

    footer: Callable[[dict[str, Any]], dict[str, Any]]
    """The values of a footer in the next version."""
    rows: Callable[[str, pa.Table], pa.Table]
    """The rows of a table (given with its name) in the next version."""


STEPS: Final[Mapping[int, Step]] = {}
"""By the version that a step starts from."""


def check_version(version: int, name: str) -> None:
    """Refuse what this version cannot read.

    Raises:
        NewerSchemaError: it was written by a newer version.
        CorruptObjectError: it is so old that no steps lead here.
    """
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{name}: written by a newer Aviaflow (schema version {version}, this one knows {SCHEMA_VERSION}); "
            "install the newer one"
        )
    missing = [old for old in range(version, SCHEMA_VERSION) if old not in STEPS]
    if missing:
        raise CorruptObjectError(f"{name}: schema version {version} is too old to be read")


def footer_of_now(values: dict[str, Any], version: int) -> dict[str, Any]:
    """The values of a footer of an earlier version as this version has them."""
    for old in range(version, SCHEMA_VERSION):
        values = STEPS[old].footer(values)
    return values


def rows_of_now(table: str, rows: pa.Table, version: int) -> pa.Table:
    """The rows of an earlier version as this version has them; the metadata stays what it was."""
    metadata = rows.schema.metadata
    for old in range(version, SCHEMA_VERSION):
        rows = STEPS[old].rows(table, rows)
    return rows.replace_schema_metadata(metadata)
