"""The stages that need the store alone: track and segment."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from flows.nightly.recompute import derive_jobs
from flows.replay.result import Differences, StageReplay
from flows.settings import Settings
from workers.derive import camera_day_tables

_ROWS = {"track": "tracks", "segment": "events"}
_DIGITS = 6


def replay_tables(out: str, settings: Settings, stages: Sequence[str]) -> list[StageReplay]:
    """Derive every camera-day from its stored detections and compare its rows; writes nothing."""
    catalog, jobs = derive_jobs(out, settings)
    found = {stage: Differences() for stage in stages}
    for day in catalog.camera_days():
        if not catalog.camera_day_footers(day):
            continue
        started = time.perf_counter()
        tables, _ = camera_day_tables(jobs(day), catalog)
        busy_s = time.perf_counter() - started
        for stage, differences in found.items():
            differences.busy_s += busy_s
            stored = catalog.read_records(_ROWS[stage], day)
            _compare_rows(differences, str(day), tables[_ROWS[stage]], stored)
    return [StageReplay.of(stage, "rows", differences) for stage, differences in found.items()]


def _compare_rows(found: Differences, day: str, now: Sequence[Any], stored: Sequence[Any]) -> None:
    """Rows that both have count once; one that only one of them has is a difference."""
    one, other = Counter(map(_as_key, now)), Counter(map(_as_key, stored))
    for _ in (one & other).elements():
        found.add("", True)
    for row in (one - other).elements():
        found.add(f"{day}: not stored: {_short(row)}", False)
    for row in (other - one).elements():
        found.add(f"{day}: only stored: {_short(row)}", False)


def _as_key(row: Any) -> tuple[tuple[str, object], ...]:
    """A row without what does not come from its stage, its numbers rounded, NaN equal to itself."""
    values = dataclasses.asdict(row)
    values.pop("config_digest", None)
    return tuple((name, _rounded(value)) for name, value in values.items())


def _rounded(value: object) -> object:
    if not isinstance(value, float):
        return value
    return "nan" if value != value else round(value, _DIGITS)


def _short(row: tuple[tuple[str, object], ...]) -> str:
    return ", ".join(f"{name} {value}" for name, value in row[:6])
