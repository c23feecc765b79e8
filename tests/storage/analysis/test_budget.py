from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.analysis.budget import BUDGET_KEYS, STATES, cut_at_local_hours, of_subjects, time_budget
from storage.errors import QueryError

BEHAVIOURS = ("feeding", "walk", "flight")
ZONES = {"lake": "Asia/Shanghai", "ridge": "Asia/Kathmandu", "pond": "Europe/Paris"}
"""8 h, 5 h 45 min and (in winter) 1 h ahead of UTC."""
MICROSECOND = dt.timedelta(microseconds=1)


def frame(rows: list[tuple[str, str, str, str, float]]) -> pd.DataFrame:
    """Events from (site, individual, behaviour, start, seconds)."""
    starts = [dt.datetime.fromisoformat(row[3]).replace(tzinfo=dt.UTC) for row in rows]
    ends = [start + dt.timedelta(seconds=row[4]) for start, row in zip(starts, rows, strict=True)]
    return pd.DataFrame(
        {
            "site": [row[0] for row in rows],
            "camera": "north",
            "individual_id": [row[1] for row in rows],
            "behaviour": [row[2] for row in rows],
            "start_time": pd.Series(starts, dtype="datetime64[us, UTC]"),
            "end_time": pd.Series(ends, dtype="datetime64[us, UTC]"),
        }
    )


@st.composite
def lives(draw: Any) -> pd.DataFrame:
    """Individuals whose bouts follow each other without a gap, as segmentation makes them."""
    rows = []
    for number in range(draw(st.integers(1, 3))):
        now = dt.datetime(2025, 10, 25, 12) + dt.timedelta(minutes=draw(st.integers(0, 3000)))
        site = draw(st.sampled_from(sorted(ZONES)))
        for _ in range(draw(st.integers(1, 6))):
            seconds = draw(st.integers(0, 9_000_000_000)) / 1e6
            behaviour = draw(st.sampled_from([*BEHAVIOURS, "unscored", "not_visible"]))
            rows.append((site, f"bird {number}", behaviour, now.isoformat(), seconds))
            now += dt.timedelta(seconds=seconds)
    return frame(rows)


def lasted(events: pd.DataFrame) -> pd.Series:
    return events["end_time"] - events["start_time"]


@settings(max_examples=40)
@given(lives(), st.permutations(range(36)))
def test_behaviours_and_states_add_up_to_the_span_of_each_individual(
    events: pd.DataFrame, order: list[int]
) -> None:
    shuffled = events.iloc[[number for number in order if number < len(events)]]
    budget = time_budget(shuffled, BEHAVIOURS, by=("individual_id",))
    hidden = lasted(events)[events["behaviour"] == "not_visible"].groupby(events["individual_id"]).sum()
    unscored = lasted(events)[events["behaviour"] == "unscored"].groupby(events["individual_id"]).sum()
    for name, group in budget.groupby("individual_id"):
        own = events[events["individual_id"] == name]
        span_s = (own["end_time"].max() - own["start_time"].min()).total_seconds()
        hidden_s = hidden.get(name, pd.Timedelta(0)).total_seconds()
        unscored_s = unscored.get(name, pd.Timedelta(0)).total_seconds()
        assert group["visible_s"].iloc[0] + hidden_s == pytest.approx(span_s, abs=1e-6)
        assert group["seconds"].sum() == pytest.approx(group["scored_s"].iloc[0], abs=1e-6)
        assert group["scored_s"].iloc[0] + unscored_s == pytest.approx(group["visible_s"].iloc[0], abs=1e-6)
        assert group["bouts"].sum() == own["behaviour"].isin(BEHAVIOURS).sum()
    assert set(budget["individual_id"]) == set(events["individual_id"])


@settings(max_examples=40)
@given(lives())
def test_cutting_at_hours_changes_no_total(events: pd.DataFrame) -> None:
    pieces = cut_at_local_hours(events, ZONES)
    for column in ("individual_id", "behaviour"):
        cut = lasted(pieces).groupby(pieces[column]).sum()
        whole = lasted(events).groupby(events[column]).sum()
        pd.testing.assert_series_equal(cut, whole)
    assert pieces["bout_start"].sum() == len(events)
    assert (lasted(pieces) <= pd.Timedelta(hours=1)).all()
    assert (lasted(pieces) >= pd.Timedelta(0)).all()


@settings(max_examples=40)
@given(lives())
def test_every_piece_lies_in_the_hour_that_it_says(events: pd.DataFrame) -> None:
    for piece in cut_at_local_hours(events, ZONES).itertuples():
        clock = piece.start_time.tz_convert(ZONES[piece.site])
        assert (clock.hour, clock.date()) == (piece.hour, piece.date.date())
        if piece.end_time > piece.start_time:
            last = (piece.end_time - MICROSECOND).tz_convert(ZONES[piece.site])
            assert last.hour == piece.hour


def test_a_bout_over_three_hours_of_a_clock_that_is_off_by_quarters() -> None:
    # 05:00 UTC is 10:45 in Kathmandu: 15 minutes of hour 10, all of 11, 5 minutes of 12.
    events = frame([("ridge", "a", "walk", "2025-11-03T05:00:00", 80 * 60)])
    budget = time_budget(cut_at_local_hours(events, ZONES), BEHAVIOURS, by=("hour",))
    walk = budget[budget["behaviour"] == "walk"]
    assert walk["hour"].tolist() == [10, 11, 12]
    assert walk["seconds"].tolist() == [900.0, 3600.0, 300.0]
    assert walk["bouts"].tolist() == [1, 0, 0]


def test_the_hour_that_comes_twice_and_the_one_that_never_comes() -> None:
    # In Paris the clock goes back at 01:00 UTC on 26 October 2025, and forward at 01:00 UTC on 30 March 2025.
    autumn = frame([("pond", "a", "walk", "2025-10-26T00:30:00", 7200)])
    spring = frame([("pond", "a", "walk", "2025-03-30T00:30:00", 3600)])
    assert cut_at_local_hours(autumn, ZONES)["hour"].tolist() == [2, 2, 3]
    assert lasted(cut_at_local_hours(autumn, ZONES)).dt.total_seconds().tolist() == [1800, 3600, 1800]
    assert cut_at_local_hours(spring, ZONES)["hour"].tolist() == [1, 3]


def test_a_budget_worked_out_by_hand() -> None:
    events = frame(
        [
            ("lake", "a", "feeding", "2025-11-03T00:00:00", 60),
            ("lake", "a", "unscored", "2025-11-03T00:01:00", 30),
            ("lake", "a", "feeding", "2025-11-03T00:01:30", 20),
            ("lake", "a", "not_visible", "2025-11-03T00:01:50", 1000),
            ("lake", "b", "flight", "2025-11-03T00:00:00", 20),
            ("lake", "deer", "other", "2025-11-03T00:00:00", 5000),
            ("pond", "c", "unscored", "2025-11-03T00:00:00", 9),
        ]
    )
    budget = time_budget(events, BEHAVIOURS, by=("behaviour", "site"))
    expected = pd.DataFrame(
        {
            "site": ["lake"] * 3 + ["pond"] * 3,
            "behaviour": [*BEHAVIOURS, *BEHAVIOURS],
            "seconds": [80.0, 0.0, 20.0, 0.0, 0.0, 0.0],
            "bouts": [2, 0, 1, 0, 0, 0],
            "share": [0.8, 0.0, 0.2, np.nan, np.nan, np.nan],
            "visible_s": [130.0] * 3 + [9.0] * 3,
            "scored_s": [100.0] * 3 + [0.0] * 3,
        }
    )
    pd.testing.assert_frame_equal(budget, expected)


def test_groups_are_in_order_and_behaviours_in_that_of_the_ethogram() -> None:
    events = frame(
        [
            ("pond", "b", "walk", "2025-11-04T00:00:00", 1),
            ("lake", "a", "walk", "2025-11-03T00:00:00", 2),
            ("lake", "c", "walk", "2025-11-02T00:00:00", 4),
        ]
    )
    budget = time_budget(cut_at_local_hours(events, ZONES), ("walk", "feeding"), by=BUDGET_KEYS)
    assert budget["behaviour"].tolist() == ["walk", "feeding"] * 3
    assert budget["individual_id"].tolist() == ["c", "c", "a", "a", "b", "b"]
    assert budget.columns.tolist()[:6] == [*BUDGET_KEYS, "behaviour"]


@pytest.mark.parametrize("states", [(), ("other",)])
def test_nobody_gives_an_empty_budget(states: tuple[str, ...]) -> None:
    events = frame([("lake", "a", state, "2025-11-03T00:00:00", 5) for state in states])
    budget = time_budget(cut_at_local_hours(events, ZONES), BEHAVIOURS, by=("date", "hour"))
    assert len(budget) == 0
    assert budget.dtypes.astype(str).to_dict() == {
        "date": "datetime64[us]",
        "hour": "int32",
        "behaviour": "str",
        "seconds": "float64",
        "bouts": "int64",
        "share": "float64",
        "visible_s": "float64",
        "scored_s": "float64",
    }


def test_what_is_refused() -> None:
    events = frame([("moor", "a", "dancing", "2025-11-03T00:00:00", 5)])
    with pytest.raises(ValueError, match=r"the ethogram lacks: \['dancing'\]"):
        time_budget(events, BEHAVIOURS)
    with pytest.raises(ValueError, match=r"write \('hour',\)"):
        time_budget(events, BEHAVIOURS, by="hour")
    with pytest.raises(ValueError, match=r"cannot divide a budget by \['minute'\]"):
        time_budget(events, BEHAVIOURS, by=("minute",))
    with pytest.raises(QueryError, match="no time zone of site 'moor'"):
        cut_at_local_hours(events, ZONES)


def test_states_are_those_of_the_model() -> None:
    # Storage may not import the model, so the names are written twice.
    from model.ethogram import RESERVED_STATES

    assert STATES == RESERVED_STATES


def test_where_a_deer_was_hidden_is_no_birds_time() -> None:
    at = pd.to_datetime(
        ["2025-11-03 10:00", "2025-11-03 10:01", "2025-11-03 10:02", "2025-11-04 10:00"], utc=True
    )
    events = pd.DataFrame(
        {
            "individual_id": ["deer", "deer", "bird", "deer"],
            "behaviour": ["other", "not_visible", "not_visible", "not_visible"],
            "date": at.normalize(),
            "start_time": at,
        }
    )
    # What one is, is decided for each camera-day.
    assert of_subjects(events).index.tolist() == [2, 3]
