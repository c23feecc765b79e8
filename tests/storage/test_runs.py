from __future__ import annotations

import datetime as dt

from storage.filesystem import StoreFilesystem
from storage.runs import read_runs, write_run


def test_records_of_runs_come_back_in_their_order(fs: StoreFilesystem) -> None:
    assert read_runs(fs) == []
    later = dt.datetime(2026, 3, 2, 1, 30, tzinfo=dt.UTC)
    write_run(fs, later, {"wall_s": 12.5, "quarantined": [{"uri": "a.mp4"}]})
    write_run(fs, later - dt.timedelta(days=1), {"wall_s": 99.0})
    first, second = read_runs(fs)
    assert first == {"ended_at": "2026-03-01T01:30:00+00:00", "wall_s": 99.0}
    assert second["quarantined"] == [{"uri": "a.mp4"}]
