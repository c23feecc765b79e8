"""Records of runs: what each did and where its time went, one JSON object a run, beside the tables."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from storage.filesystem import StoreFilesystem

FOLDER = "runs"


def write_run(fs: StoreFilesystem, ended_at: dt.datetime, record: Mapping[str, Any]) -> str:
    """Publish the record of a run that ended at a UTC moment; returns its path in the store."""
    path = f"{FOLDER}/{ended_at:%Y%m%dT%H%M%S.%fZ}.json"
    fs.write_atomic(path, json.dumps({"ended_at": ended_at.isoformat(), **record}).encode())
    return path


def read_runs(fs: StoreFilesystem) -> list[dict[str, Any]]:
    """Records of all runs of a store, the earliest first."""
    paths = sorted(entry.path for entry in fs.list(FOLDER) if entry.path.endswith(".json"))
    records: list[dict[str, Any]] = [json.loads(fs.read_bytes(path)) for path in paths]
    return records
