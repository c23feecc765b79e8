"""The stages that need the store alone: track and segment."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.nightly.recompute import derive_jobs
from flows.replay.result import Differences, StageReplay
from flows.settings import Settings
from storage.layout import CAMERA_DAY_TABLES
from workers.derive import camera_day_tables

_ROWS = {"track": "tracks", "segment": "events"}
TOLERANCE = 1e-4
"""Numbers of rows, among them seconds and probabilities, may differ by this: they are stored in single precision."""
_Key = tuple[tuple[str, str], ...]


def replay_tables(out: str, settings: Settings, stages: Sequence[str]) -> list[StageReplay]:
    """Derive every camera-day from its stored detections and compare its rows; writes nothing."""
    catalog, jobs = derive_jobs(out, settings)
    found = {stage: Differences() for stage in stages}
    for day in catalog.camera_days():
        if len(catalog.camera_day_footers(day)) < len(CAMERA_DAY_TABLES):
            continue  # a run that was killed left it unfinished, and the next one finishes it
        started = time.perf_counter()
        tables, _ = camera_day_tables(jobs(day), catalog)
        busy_s = time.perf_counter() - started
        for stage, differences in found.items():
            differences.busy_s += busy_s
            stored = catalog.read_records(_ROWS[stage], day)
            _compare_rows(differences, str(day), tables[_ROWS[stage]], stored)
    return [StageReplay.of(stage, "rows", differences) for stage, differences in found.items()]


def _compare_rows(found: Differences, day: str, now: Sequence[Any], stored: Sequence[Any]) -> None:
    """Rows are the same where all but their numbers is equal, and those differ by no more than ``TOLERANCE``."""
    one, other = (dict(map(_split, rows)) for rows in (now, stored))
    for key in one.keys() & other.keys():
        off = np.abs(one[key] - other[key])
        off_most = float(np.where(np.isnan(one[key]) & np.isnan(other[key]), 0.0, off).max(initial=0.0))
        found.add(f"{day}: differs by {off_most:.3g}: {_short(key)}", off_most <= TOLERANCE, off_most)
    for key in sorted(one.keys() - other.keys()):
        found.add(f"{day}: not stored: {_short(key)}", False)
    for key in sorted(other.keys() - one.keys()):
        found.add(f"{day}: only stored: {_short(key)}", False)


def _split(row: Any) -> tuple[_Key, NDArray[np.float64]]:
    """What a row is about, without the digest of the settings, and its numbers."""
    values = dataclasses.asdict(row)
    values.pop("config_digest", None)
    numbers = [value for value in values.values() if isinstance(value, float)]
    words = ((name, str(value)) for name, value in values.items() if not isinstance(value, float))
    return tuple(words), np.array(numbers, np.float64)


def _short(key: _Key) -> str:
    return ", ".join(f"{name} {value}" for name, value in key[:6])
