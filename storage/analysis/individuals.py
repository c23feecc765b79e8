"""Individuals of several camera-days: one that was there at midnight has a row of each of them."""

from __future__ import annotations

import pandas as pd

_KEYS = ["site", "individual_id"]


def one_row_each(rows: pd.DataFrame) -> pd.DataFrame:
    """The same individuals, those that were carried over midnight in one row for all their days.

    Args:
        rows: of the stored table of individuals, with its partition keys.

    Returns:
        The same columns: from the first to the last sight, sums of visible time and boxes, means over all boxes, the
        kind of the day with most of them and the other words of the first day.
    """
    carried = rows.duplicated(_KEYS, keep=False)
    if not carried.any():
        return rows
    parts = rows[carried].sort_values("first_seen")
    parts = parts.assign(
        p_other=parts["p_other"] * parts["boxes"], track_quality=parts["boxes"] / parts["track_quality"]
    )
    rules = dict.fromkeys(rows.columns.difference(_KEYS), "first") | {"last_seen": "max"}
    rules |= dict.fromkeys(("visible_s", "boxes", "p_other", "track_quality"), "sum")
    groups = parts.groupby(_KEYS, sort=False)
    merged = groups.agg(rules)
    most = parts.loc[groups["boxes"].idxmax()].set_index(_KEYS)
    merged = merged.assign(
        kind=most["kind"],
        p_other=merged["p_other"] / merged["boxes"],
        track_quality=merged["boxes"] / merged["track_quality"],
    ).reset_index()
    return pd.concat([rows[~carried], merged[list(rows)].astype(rows.dtypes)], ignore_index=True)
