"""Where a run's time goes: wall time of its phases, and busy time, items and bytes of the workers of each stage."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """What the workers of a stage did."""

    busy_s: float = 0.0
    """Over all of them."""
    items: int = 0
    num_bytes: int = 0
    """That they put out."""

    def __add__(self, other: Work) -> Work:
        return Work(self.busy_s + other.busy_s, self.items + other.items, self.num_bytes + other.num_bytes)


class StageClock:
    """Adds up time and work; may be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self._work: defaultdict[str, Work] = defaultdict(Work)

    @contextmanager
    def wall(self, phase: str) -> Iterator[None]:
        """Count the time spent within as wall time of a phase."""
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._spans[phase].append((started, time.perf_counter()))

    def add(self, stage: str, work: Work) -> None:
        """Count what a worker of a stage did."""
        with self._lock:
            self._work[stage] += work

    @property
    def wall_s(self) -> dict[str, float]:
        """Seconds in which each phase was under way, for one camera-day or several."""
        return {phase: round(_covered_s(spans), 3) for phase, spans in self._spans.items()}

    @property
    def work(self) -> dict[str, Work]:
        """By stage."""
        return dict(self._work)

    @property
    def busy_s(self) -> dict[str, float]:
        """Busy seconds by stage, over all its workers."""
        return {stage: round(work.busy_s, 3) for stage, work in self._work.items()}


def _covered_s(spans: list[tuple[float, float]]) -> float:
    """Length of the union of spans."""
    covered_s, until = 0.0, float("-inf")
    for start, stop in sorted(spans):
        covered_s += max(0.0, stop - max(start, until))
        until = max(until, stop)
    return covered_s
