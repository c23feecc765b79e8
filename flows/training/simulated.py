"""Reserves that are simulated to train and to test on: from a seed, once, and used again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.errors import TrainingError
from workers.simulate.archive import simulate_archive

TRAINING_SEED, TEST_SEED = 1000, 5000
"""Far from each other and from every seed that is used to measure the whole pipeline."""
CAMERAS, TEST_CAMERAS = 90, 30
SECONDS = 40
SOCIAL_BOOST = 3.0
_READY = "READY.json"


@dataclass(frozen=True, slots=True)
class SimulatedReserve:
    """What the simulator is asked for; each camera records once."""

    seed: int
    cameras: int
    seconds: int = SECONDS
    social_boost: float = 1.0


TRAINING = SimulatedReserve(TRAINING_SEED, CAMERAS, social_boost=SOCIAL_BOOST)
TEST = SimulatedReserve(TEST_SEED, TEST_CAMERAS)


def simulate_once(root: Path, plan: SimulatedReserve, workers: int, progress: Callable[[str], None]) -> None:
    """Make the reserve in the folder ``root``, if it is not there yet.

    Args:
        root: gets ``archive`` and ``truth``.
        plan: what to simulate.
        workers: processes that render; 1 renders in this one.
        progress: called with lines of words.

    Raises:
        TrainingError: the folder holds another reserve.
    """
    ready, described = root / _READY, json.dumps(asdict(plan)) + "\n"
    if ready.exists():
        if ready.read_text() != described:
            raise TrainingError(
                f"{root}: simulated with {ready.read_text().strip()}, now wanted with {described.strip()}; "
                "name another folder"
            )
        return
    progress(f"simulating {plan.cameras} cameras of {plan.seconds} s, seed {plan.seed}")
    simulate_archive(
        root,
        videos=plan.cameras,
        seconds=plan.seconds,
        seed=plan.seed,
        workers=workers,
        videos_per_camera=1,
        social_boost=plan.social_boost,
    )
    partial = ready.with_suffix(".partial")
    partial.write_text(described)
    partial.replace(ready)
