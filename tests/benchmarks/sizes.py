"""How much is measured, and the archive that several sections work on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

SEED = 41


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of everything that a section makes and measures."""

    videos: int
    """Of the simulated archive, two of each camera."""
    video_s: float
    step_clips: int
    step_rounds: int
    weightings: tuple[str, ...]
    """Whose training steps are measured; empty: all."""
    engine_clips: int
    engine_rounds: int
    chunks: int
    """Of a segment of the stream whose stages cost nothing."""
    recordings: int
    """That are tracked, each of ``recording_s``."""
    recording_s: float
    query_days: int
    """Camera-days of a store that is queried."""
    year_days: int
    """Camera-days of a store of events only; 0: none."""
    events_a_day: int
    query_rounds: int
    finished_videos: int
    """That planning finds finished."""
    rerun_videos: int
    """That are run, and run again; 0: none."""


FULL = Sizes(
    videos=4,
    video_s=90.0,
    step_clips=4,
    step_rounds=7,
    weightings=(),
    engine_clips=4,
    engine_rounds=5,
    chunks=40,
    recordings=12,
    recording_s=300.0,
    query_days=30,
    year_days=3650,
    events_a_day=2740,
    query_rounds=3,
    finished_videos=10_000,
    rerun_videos=50,
)
QUICK = Sizes(
    videos=2,
    video_s=6.0,
    step_clips=1,
    step_rounds=1,
    weightings=("lgh",),
    engine_clips=1,
    engine_rounds=1,
    chunks=4,
    recordings=2,
    recording_s=20.0,
    query_days=2,
    year_days=2,
    events_a_day=50,
    query_rounds=1,
    finished_videos=20,
    rerun_videos=0,
)


class Bench:
    """Sizes, a folder to work in, and the simulated archive, which is rendered where a section first asks for it."""

    def __init__(self, root: Path, sizes: Sizes) -> None:
        self.root = root
        self.sizes = sizes

    @cached_property
    def archive(self) -> Path:
        """Folder of the simulated recordings."""
        from workers.simulate.archive import simulate_archive

        sizes = self.sizes
        return simulate_archive(
            self.root / "reserve", videos=sizes.videos, seconds=sizes.video_s, seed=SEED
        ).archive


def timed(work: Callable[[], Any]) -> float:
    """Wall seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
