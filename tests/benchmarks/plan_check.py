"""``aviaflow plan`` against what happened: profiled on one simulated archive, checked on two of other sizes.

Run it where nothing else runs: the load of the machine is in every figure.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from flows.planning.rates import Hardware
from flows.planning.report import plan_document, predict_archive
from tests.benchmarks.machine import facts_of_machine
from workers.simulate.archive import simulate_archive

GOAL = 0.15
"""Largest error of a predicted wall time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """Of a simulated archive."""

    name: str
    videos: int
    seconds: float
    """Of each video."""
    seed: int


PROFILED = Size("profile", 4, 30.0, 61)
CHECKED = (Size("small", 2, 40.0, 62), Size("large", 6, 40.0, 63))


def main() -> None:
    """Simulate, run, predict, print."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.plan_check", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    options = parser.parse_args()
    facts = facts_of_machine(torch.device("cpu"))
    print(f"{facts['processor']}, torch {facts['torch']}, {facts['date']}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="aviaflow-plan-") as folder:
        rows = check_rows(Path(folder))
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=2) + "\n")


def check_rows(root: Path) -> list[dict[str, Any]]:
    """Prediction beside what happened, for each size."""
    run(root, PROFILED)
    hardware = Hardware(cpus=os.cpu_count() or 1, gpus=0)
    rows = []
    for size in CHECKED:
        happened = run(root, size)
        archive, profile = str(root / size.name / "archive"), str(root / PROFILED.name / "store")
        plan = plan_document(predict_archive(archive, profile, hardware))
        rows.append(compared(size, plan, happened))
        print(describe_row(rows[-1]), flush=True)
    return rows


def run(root: Path, size: Size) -> dict[str, Any]:
    """Simulate an archive, and ``aviaflow run`` it in a process of its own; returns the summary."""
    folder = root / size.name
    simulate_archive(folder, videos=size.videos, seconds=size.seconds, seed=size.seed)
    command = [sys.executable, "-m", "flows.cli", "run", str(folder / "archive"), "--json"]
    done = subprocess.run(
        [*command, "--out", str(folder / "store")], check=True, stdout=subprocess.PIPE, text=True
    )
    summary: dict[str, Any] = json.loads(done.stdout)
    print(f"{size.name}: ran in {summary['wall_s']:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    return summary


def compared(size: Size, plan: dict[str, Any], happened: dict[str, Any]) -> dict[str, Any]:
    """One row."""
    return {
        "size": dataclasses.asdict(size),
        "predicted_s": plan["wall_s"],
        "happened_s": happened["wall_s"],
        "error": plan["wall_s"] / happened["wall_s"] - 1,
        "predicted_phases_s": plan["profile"]["phases_s"],
        "happened_phases_s": happened["profile"]["phases_s"],
        "predicted_limit": plan["limiting_stage"],
        "happened_limit": happened["limiting_stage"],
        "present_s": [plan["present_s"], happened["scale"]["present_s"]],
    }


def describe_row(row: dict[str, Any]) -> str:
    """One row for a person to read, with the phases below it."""
    size, verdict = row["size"], "within" if abs(row["error"]) <= GOAL else "beyond"
    head = (
        f"{size['videos']} videos of {size['seconds']:g} s: predicted {row['predicted_s']:.1f} s, happened "
        f"{row['happened_s']:.1f} s, error {row['error']:+.0%} ({verdict} {GOAL:.0%}); limited by "
        f"{row['predicted_limit']}, happened {row['happened_limit']}"
    )
    phases = [
        f"  {phase}: {seconds:.1f} s, happened {row['happened_phases_s'].get(phase, 0.0):.1f} s"
        for phase, seconds in row["predicted_phases_s"].items()
    ]
    return "\n".join([head, *phases])


if __name__ == "__main__":
    main()
