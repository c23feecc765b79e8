"""An individual that was there at midnight is one, whatever the number of camera-days."""

from __future__ import annotations

import pandas as pd
import pytest

from storage.analysis.individuals import one_row_each

COLUMNS = (
    "site", "date", "individual_id", "camera", "kind", "first_seen", "last_seen", "visible_s", "boxes",
    "track_quality", "p_other",
)  # fmt: skip


def rows(*values: tuple[object, ...]) -> pd.DataFrame:
    frame = pd.DataFrame(values, columns=list(COLUMNS))
    times = {name: pd.to_datetime(frame[name], utc=True) for name in ("date", "first_seen", "last_seen")}
    return frame.assign(**times)


def test_days_of_one_individual_are_one_row() -> None:
    evening = (
        "lake",
        "2025-11-03",
        "a",
        "north",
        "subject",
        "2025-11-03 23:50",
        "2025-11-04 00:00",
        500.0,
        100,
        0.5,
        0.1,
    )
    morning = (
        "lake",
        "2025-11-04",
        "a",
        "north",
        "other",
        "2025-11-04 00:00",
        "2025-11-04 00:05",
        300.0,
        300,
        0.75,
        0.5,
    )
    elsewhere = (
        "pond",
        "2025-11-03",
        "a",
        "north",
        "subject",
        "2025-11-03 10:00",
        "2025-11-03 10:01",
        60.0,
        10,
        1.0,
        0.0,
    )
    found = one_row_each(rows(morning, elsewhere, evening))
    assert list(found) == list(COLUMNS)
    alone, carried = found.to_dict("records")
    assert alone == rows(elsewhere).to_dict("records")[0]
    assert (carried["kind"], f"{carried['date']:%d}", carried["boxes"]) == ("other", "03", 400)
    assert (f"{carried['first_seen']:%d %H:%M}", f"{carried['last_seen']:%d %H:%M}") == (
        "03 23:50",
        "04 00:05",
    )
    assert (carried["visible_s"], carried["p_other"]) == pytest.approx((800.0, 0.4))
    assert carried["track_quality"] == pytest.approx(400 / (100 / 0.5 + 300 / 0.75))
    one_day = rows(elsewhere)
    assert one_row_each(one_day) is one_day
