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
    peak_bytes: int = 0
    """Most memory that one of its processes had resident."""

    def __add__(self, other: Work) -> Work:
        return Work(
            self.busy_s + other.busy_s,
            self.items + other.items,
            self.num_bytes + other.num_bytes,
            max(self.peak_bytes, other.peak_bytes),
        )


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
            self.add_span(phase, started, time.perf_counter())

    def add_span(self, phase: str, start_s: float, stop_s: float) -> None:
        """Count a stretch of time, both ends on one clock of the caller's, as wall time of a phase."""
        with self._lock:
            self._spans[phase].append((start_s, stop_s))

    def add(self, stage: str, work: Work) -> None:
        """Count what a worker of a stage did."""
        with self._lock:
            self._work[stage] += work

    @property
    def wall_s(self) -> dict[str, float]:
        """Seconds in which each phase was under way, for one camera-day or several."""
        return {phase: round(_covered_s(spans), 3) for phase, spans in self._spans.items()}

    @property
    def summed_s(self) -> dict[str, float]:
        """Seconds of each phase, those of camera-days side by side each counted."""
        return {phase: round(sum(b - a for a, b in spans), 3) for phase, spans in self._spans.items()}

    @property
    def covered_s(self) -> float:
        """Seconds in which any phase was under way."""
        return round(_covered_s([span for spans in self._spans.values() for span in spans]), 3)

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
