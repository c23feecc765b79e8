"""Effort: minutes by local clock hour."""

from __future__ import annotations

import datetime as dt

import pytest

from workers.effort import Coverage, camera_day_effort


def utc(hour: int, minute: int) -> dt.datetime:
    return dt.datetime(2025, 11, 3, hour, minute, tzinfo=dt.UTC)


def test_a_recording_over_the_full_hour_is_split_between_the_hours() -> None:
    whole = ((utc(6, 50), utc(7, 20)),)
    coverage = Coverage(whole, whole, whole, decoded=((utc(6, 55), utc(7, 5)),), scored=())
    effort = camera_day_effort("north", [coverage], [(utc(6, 56), 2), (utc(7, 1), 5), (utc(7, 2), 3)], "UTC")
    assert [(e.hour_start, e.recorded_min, e.decoded_min, e.scored_min) for e in effort] == [
        (utc(6, 0), 10.0, 5.0, 0.0),
        (utc(7, 0), 20.0, 5.0, 0.0),
    ]
    assert [e.max_individuals for e in effort] == [2, 5]


def test_hours_are_those_of_the_local_clock() -> None:
    whole = ((utc(6, 0), utc(6, 30)),)
    coverage = Coverage(whole, whole, whole, whole, whole)
    effort = camera_day_effort("north", [coverage], [], "Asia/Kolkata")  # 5:30 ahead: 11:30 to 12:00
    assert [(e.hour_start, e.scored_min) for e in effort] == [(utc(5, 30), 30.0)]


def test_two_recordings_of_one_hour_add_up() -> None:
    first, second = ((utc(6, 0), utc(6, 10)),), ((utc(6, 20), utc(6, 35)),)
    coverages = [Coverage(part, part, part, part, part) for part in (first, second)]
    (effort,) = camera_day_effort("north", coverages, [], "UTC")
    assert effort.recorded_min == pytest.approx(25.0)
