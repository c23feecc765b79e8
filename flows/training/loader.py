"""Batches made ahead of the steps that take them, so that a GPU does not wait for the processors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from model.step import Batch

StepBatches = list[Batch]
"""The accumulated batches of one step."""


class BatchLoader:
    """Makes the batches of consecutive steps, ``threads`` steps ahead; without threads each when it is asked for.

    What a step's batches are is a function of its number alone, so nothing depends on how far ahead they are made.
    """

    def __init__(self, make: Callable[[int], StepBatches], last_step: int, threads: int) -> None:
        self._make = make
        self._last_step = last_step
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "batches") if threads else None
        self._ahead: deque[tuple[int, Future[StepBatches]]] = deque()

    def batches(self, step: int) -> StepBatches:
        """The batches of a step; the next ones are begun."""
        if self._pool is None:
            return self._make(step)
        if self._ahead and self._ahead[0][0] != step:  # a training that goes on from a checkpoint
            self._ahead.clear()
        first = self._ahead[-1][0] + 1 if self._ahead else step
        for number in range(first, min(step + self._threads, self._last_step) + 1):
            self._ahead.append((number, self._pool.submit(self._make, number)))
        return self._ahead.popleft()[1].result()
