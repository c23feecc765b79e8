"""The demo: a simulated archive, the nightly flow on it, and its result beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from flows.nightly.run import run_archive
from flows.nightly.summary import describe_run
from flows.settings import Settings
from workers.simulate.archive import simulate_archive

VIDEOS, SECONDS, SEED = 4, 60.0, 7


def run_demo(folder: Path) -> str:
    """Simulate (once), run (what is not done) and compare; returns the report to print."""
    source, store = folder / "reserve", folder / "store"
    truth = source / "truth" / "events.csv"
    if not truth.exists():
        simulate_archive(source, videos=VIDEOS, seconds=SECONDS, seed=SEED)
    summary = run_archive(str(source / "archive"), str(store), Settings())
    return "\n".join(
        [
            describe_run(summary),
            "",
            "time budget beside the truth (simulated birds: this says nothing about real ones)",
            *_beside_truth(summary, pd.read_csv(truth)),
            "",
            f"store  {store}",
            "next   .venv/bin/aviaflow query "
            + str(store)
            + ' "SELECT camera, behaviour, count(*) AS bouts FROM events '
            'GROUP BY ALL ORDER BY ALL"',
            f"       .venv/bin/aviaflow score {store} --truth {source / 'truth'}",
            f"       .venv/bin/aviaflow run YOUR_ARCHIVE --out {folder / 'my_store'} --dry-run",
        ]
    )


def _beside_truth(summary: dict[str, Any], truth: pd.DataFrame) -> list[str]:
    true_s = truth.groupby("behaviour")["duration_s"].sum()
    found_s = {row["behaviour"]: row["seconds"] for row in summary["time_budget"]}
    names = sorted(set(true_s.index) | set(found_s), key=lambda name: -true_s.get(name, 0.0))
    return [
        f"{'behaviour':<14}{'found':>9}{'truth':>9}",
        *(f"{name:<14}{found_s.get(name, 0.0):>8.1f}s{true_s.get(name, 0.0):>8.1f}s" for name in names),
    ]
