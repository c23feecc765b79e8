"""Effort: how long each hour was recorded, read and scored, and how many individuals were seen at once."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from storage.records import EffortRecord

Interval = tuple[dt.datetime, dt.datetime]
"""Start and end in UTC."""
MEASURES = ("recorded", "readable", "surveyed", "decoded", "scored")


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was done with one video, as intervals in UTC."""

    recorded: tuple[Interval, ...]
    readable: tuple[Interval, ...]
    surveyed: tuple[Interval, ...]
    decoded: tuple[Interval, ...]
    scored: tuple[Interval, ...]


def camera_day_effort(
    camera: str,
    coverages: Sequence[Coverage],
    seen_at_once: Iterable[tuple[dt.datetime, int]],
    zone: str,
) -> list[EffortRecord]:
    """One record per local clock hour that any recording touches.

    Args:
        camera: name of the camera.
        coverages: one per video of the camera-day.
        seen_at_once: moments (UTC) with the number of individuals of the taxon seen then.
        zone: IANA time zone whose clock hours are used.
    """
    minutes: dict[str, Mapping[dt.datetime, float]] = {
        measure: _minutes_by_hour((i for c in coverages for i in getattr(c, measure)), zone)
        for measure in MEASURES
    }
    most: Counter[dt.datetime] = Counter()
    for moment, count in seen_at_once:
        hour = _hour_start(moment, zone)
        most[hour] = max(most[hour], count)
    return [
        EffortRecord(
            camera=camera,
            hour_start=hour,
            **{f"{measure}_min": minutes[measure].get(hour, 0.0) for measure in MEASURES},
            max_individuals=most[hour],
        )
        for hour in sorted(minutes["recorded"])
    ]


def _minutes_by_hour(intervals: Iterable[Interval], zone: str) -> dict[dt.datetime, float]:
    minutes: dict[dt.datetime, float] = {}
    for start, end in intervals:
        hour = _hour_start(start, zone)
        while hour < end:
            # Local hours can be off the UTC hour by 15, 30 or 45 minutes, but always last 60 minutes.
            following = hour + dt.timedelta(hours=1)
            shared = (min(end, following) - max(start, hour)).total_seconds() / 60
            minutes[hour] = minutes.get(hour, 0.0) + shared
            hour = following
    return minutes


def _hour_start(moment: dt.datetime, zone: str) -> dt.datetime:
    local = moment.astimezone(ZoneInfo(zone))
    into_hour = dt.timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return moment.astimezone(dt.UTC) - into_hour
