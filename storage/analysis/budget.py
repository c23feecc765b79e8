"""Time budgets: how the time of the individuals is divided among the behaviours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

from storage.analysis.localtime import LOCAL_TIME_TYPE, local_clock

BUDGET_KEYS: Final = ("site", "date", "camera", "individual_id", "hour")
"""What a budget can be divided by, beside the behaviour."""
UNSCORED: Final = "unscored"
NOT_VISIBLE: Final = "not_visible"
OTHER: Final = "other"
STATES: Final = (UNSCORED, NOT_VISIBLE, OTHER)
"""Values of ``behaviour`` that are no behaviour: seen but not scored, hidden, and not of the taxon."""

_KEY_TYPES = {"date": LOCAL_TIME_TYPE, "hour": "int32"}
_VALUE_TYPES = {
    "seconds": "float64",
    "bouts": "int64",
    "share": "float64",
    "visible_s": "float64",
    "scored_s": "float64",
}
_HOUR = pd.Timedelta(hours=1)
_US = 1e6


def time_budget(
    events: pd.DataFrame, behaviours: Sequence[str], by: Sequence[str] = ("behaviour",)
) -> pd.DataFrame:
    """Seconds, bouts and share of scored time of each behaviour.

    Individuals that are not of the taxon (``other``) are left out. Every group has a row for every behaviour,
    with zeros where it was never seen.

    Args:
        events: one row per bout with ``behaviour``, ``start_time``, ``end_time`` and the columns named in
            ``by``; ``bout_start`` (see ``cut_at_local_hours``) where bouts have been cut.
        behaviours: the ethogram's, in its order.
        by: any of ``behaviour`` (always there) and ``BUDGET_KEYS``; ``date`` and ``hour`` need events that
            were cut at local hours.

    Returns:
        Columns: the keys, ``behaviour``, ``seconds``, ``bouts`` (that start in the group), ``share`` (of
        ``scored_s``; NaN where that is 0), ``visible_s`` and ``scored_s`` (totals of the group).

    Raises:
        ValueError: an unknown key, or events with a behaviour that is in neither list.
    """
    keys = budget_keys(by)
    unknown = set(events["behaviour"].unique()) - {*behaviours, *STATES}
    if unknown:
        raise ValueError(f"events have behaviours that the ethogram lacks: {sorted(unknown)}")
    subjects = events[events["behaviour"] != OTHER]
    if subjects.empty:
        return _empty(keys)
    # Whole microseconds, so that a sum does not depend on the order of the rows.
    lasted = (subjects["end_time"] - subjects["start_time"]).dt.as_unit("us").astype("int64")
    starts = subjects["bout_start"] if "bout_start" in subjects else pd.Series(True, index=subjects.index)
    rows = subjects[[*keys, "behaviour"]].assign(us=lasted, bouts=starts.astype("int64"), everything=0)
    sums = rows.groupby([*(keys or ["everything"]), "behaviour"], observed=True)[["us", "bouts"]].sum()
    seconds = sums["us"].unstack("behaviour", fill_value=0) / _US
    bouts = sums["bouts"].unstack("behaviour", fill_value=0)
    seconds = seconds.reindex(columns=[*behaviours, UNSCORED], fill_value=0.0)
    scored = seconds[list(behaviours)].sum(axis=1)
    parts = [
        pd.DataFrame(
            {
                "behaviour": name,
                "seconds": seconds[name],
                "bouts": bouts.get(name, 0),
                "share": seconds[name] / scored.where(scored > 0),
                "visible_s": scored + seconds[UNSCORED],
                "scored_s": scored,
                "order": number,
            }
        )
        for number, name in enumerate(behaviours)
    ]
    groups = pd.concat(parts).reset_index().sort_values([*keys, "order"], ignore_index=True)
    return groups[[*keys, "behaviour", *_VALUE_TYPES]].astype(_VALUE_TYPES)


def of_subjects(events: pd.DataFrame) -> pd.DataFrame:
    """Without the individuals that are not of the taxon: where one was hidden is a row as of any other.

    ``events`` have ``individual_id`` and, since each camera-day decides anew what an individual is, its ``date``.
    """
    keys = ["individual_id", "date"]
    others = pd.MultiIndex.from_frame(events.loc[events["behaviour"] == OTHER, keys])
    return events[~pd.MultiIndex.from_frame(events[keys]).isin(others)]


def cut_at_local_hours(events: pd.DataFrame, zones: Mapping[str, str]) -> pd.DataFrame:
    """Bouts cut where the local clock strikes, so that each piece belongs to one hour of one date.

    Args:
        events: with ``site``, ``start_time`` and ``end_time``.
        zones: IANA time zone by site.

    Returns:
        The pieces, with ``date`` and ``hour`` of the local clock and ``bout_start``: whether the piece is its
        bout's first. Durations add up to those of the bouts, also where the clock is changed.
    """
    rest = events.assign(bout_start=True)
    pieces: list[pd.DataFrame] = []
    while not pieces or len(rest):
        clock = local_clock(rest["start_time"], rest["site"], zones)
        strike = rest["start_time"] + (clock.dt.floor("h") + _HOUR - clock)
        whole = rest["end_time"] <= strike
        pieces.append(
            rest.assign(
                end_time=rest["end_time"].where(whole, strike),
                date=clock.dt.normalize(),
                hour=clock.dt.hour.astype(_KEY_TYPES["hour"]),
            )
        )
        rest = rest[~whole].assign(start_time=strike[~whole], bout_start=False)
    return pd.concat(pieces, ignore_index=True)


def budget_keys(by: Sequence[str]) -> list[str]:
    """The keys beside the behaviour; raises ``ValueError`` for one that a budget cannot be divided by."""
    if isinstance(by, str):
        raise ValueError(f"by must be a tuple of names, got {by!r}; write ({by!r},)")
    unknown = [key for key in by if key != "behaviour" and key not in BUDGET_KEYS]
    if unknown:
        raise ValueError(f"cannot divide a budget by {unknown}; known: behaviour, {', '.join(BUDGET_KEYS)}")
    return [key for key in by if key != "behaviour"]


def _empty(keys: Sequence[str]) -> pd.DataFrame:
    types = {key: _KEY_TYPES.get(key, "str") for key in [*keys, "behaviour"]} | _VALUE_TYPES
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
