"""Simulated time: processes that take seconds, and slots that they wait for. Nothing here knows of video."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import TypeAlias

Process: TypeAlias = "Iterator[float | Slots]"
"""Yields the seconds that it takes, or the slots of which it wants one, until it ends."""


class Slots:
    """So many at once; further processes wait, the first to come first."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.waiting: deque[Process] = deque()


class Timeline:
    """Runs processes in simulated time; the same processes give the same times."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Process]] = []
        self._begun = 0
        """Breaks ties: of what is due at one moment, what was asked for first."""

    def start(self, process: Process, after_s: float = 0.0) -> None:
        """Let a process go on some seconds from now."""
        self._begun += 1
        heapq.heappush(self._due, (self.now_s + after_s, self._begun, process))

    def give(self, slots: Slots, count: int = 1) -> None:
        """Give slots back, or add some."""
        for _ in range(count):
            if slots.waiting:
                self.start(slots.waiting.popleft())
            else:
                slots.free += 1

    def run(self) -> float:
        """Run until nothing is due any more; returns the time."""
        while self._due:
            self.now_s, _, process = heapq.heappop(self._due)
            self._step(process)
        return self.now_s

    def _step(self, process: Process) -> None:
        """Take a process on to where it has to wait."""
        for wanted in process:
            if isinstance(wanted, Slots):
                if wanted.free == 0:
                    wanted.waiting.append(process)
                    return
                wanted.free -= 1
            elif wanted > 0:
                self.start(process, wanted)
                return
