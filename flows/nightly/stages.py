"""Where a run's time goes: wall time and busy time by stage."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class StageClock:
    """Adds up seconds by stage; may be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wall_s: defaultdict[str, float] = defaultdict(float)
        self._busy_s: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def wall(self, stage: str) -> Iterator[None]:
        """Count the time spent within as wall time of a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._wall_s[stage] += time.perf_counter() - started

    def busy(self, stage: str, seconds: float) -> None:
        """Add seconds in which a worker of the stage worked."""
        with self._lock:
            self._busy_s[stage] += seconds

    @property
    def wall_s(self) -> dict[str, float]:
        """Wall seconds by stage; stages of several camera-days at once overlap."""
        return {stage: round(seconds, 3) for stage, seconds in self._wall_s.items()}

    @property
    def busy_s(self) -> dict[str, float]:
        """Busy seconds by stage, over all its workers."""
        return {stage: round(seconds, 3) for stage, seconds in self._busy_s.items()}

    def limiting_stage(self, workers: dict[str, int]) -> str:
        """The stage whose workers were busy for the largest share; empty where nothing was done."""
        if not self._busy_s:
            return ""
        return max(self._busy_s, key=lambda stage: self._busy_s[stage] / max(1, workers.get(stage, 1)))
