"""Clips of whoever sends them, in batches of one shape and size: what keeps an engine full.

Several chunks, of one video or of many, are scored side by side. Their clips wait together until a batch is full, and a
batch that is not full is computed only where nobody is about to send more, or where its first clip has waited long
enough. There is no thread of its own: who waits for a result computes the next batch.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from model.engines.faults import is_device_fault, is_out_of_memory
from model.errors import DeviceMemoryError, ModelError

PATIENCE_S = 1.0
"""Longest time that a clip waits for others to share its batch."""


class Shaped(Protocol):
    """Something that can share a batch with others of its shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the clip."""
        ...


Item = TypeVar("Item", bound=Shaped)
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class Ticket(Generic[Item, Result]):
    """One item that was handed in."""

    item: Item
    since_s: float
    outcome: Result | Exception | None = None


class Batcher(Generic[Item, Result]):
    """Computes items in batches; may be used from several threads."""

    def __init__(
        self,
        compute: Callable[[Sequence[Item], int], Sequence[Result]],
        most_items: int,
        turn: threading.Lock,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Begin with no item.

        Args:
            compute: gives the results of up to ``size`` items of one shape; ``size`` is its second argument.
            most_items: size of a batch; halved where that does not fit into memory.
            turn: held while a batch is computed.
            patience_s: longest time that an item waits for a full batch.
        """
        self.most_items = most_items
        self._compute = compute
        self._turn = turn
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._senders = 0
        self._waiting: dict[tuple[int, ...], deque[Ticket[Item, Result]]] = {}

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Say that items may be handed in within, for which others wait a little."""
        with self._changed:
            self._senders += 1
        try:
            yield
        finally:
            with self._changed:
                self._senders -= 1
                self._changed.notify_all()

    def submit(self, items: Sequence[Item]) -> list[Ticket[Item, Result]]:
        """Hand items in, and compute the batches that are full now."""
        tickets: list[Ticket[Item, Result]] = [Ticket(item, time.monotonic()) for item in items]
        with self._changed:
            for ticket in tickets:
                self._waiting.setdefault(ticket.item.shape, deque()).append(ticket)
            self._changed.notify_all()
        while batch := self._take(self._is_full):
            self._run(batch)
        return tickets

    def result(self, ticket: Ticket[Item, Result]) -> Result:
        """Wait for a result, and compute batches meanwhile.

        Raises:
            DeviceMemoryError: not even this item alone fits into memory.
            Exception: what computing this item, by itself if need be, raised.
        """
        while ticket.outcome is None:
            if batch := self._take(self._is_ripe):
                self._run(batch)
                continue
            with self._changed:
                if ticket.outcome is None and not any(map(self._is_ripe, self._waiting.values())):
                    self._changed.wait(self._patience_left_s())
        if isinstance(ticket.outcome, Exception):
            raise ticket.outcome
        return ticket.outcome

    def alone(self, item: Item) -> Result:
        """The result of one item in a batch of its own.

        Raises:
            Exception: as :meth:`result`.
        """
        (outcome,) = self._outcomes([item])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _is_full(self, waiting: deque[Ticket[Item, Result]]) -> bool:
        return len(waiting) >= self.most_items

    def _is_ripe(self, waiting: deque[Ticket[Item, Result]]) -> bool:
        if not waiting:
            return False
        has_waited_s = time.monotonic() - waiting[0].since_s
        return self._is_full(waiting) or self._senders == 0 or has_waited_s >= self._patience_s

    def _patience_left_s(self) -> float:
        """Until the oldest item has waited long enough."""
        since_s = min((waiting[0].since_s for waiting in self._waiting.values() if waiting), default=None)
        return (
            self._patience_s if since_s is None else max(0.0, since_s + self._patience_s - time.monotonic())
        )

    def _take(self, ready: Callable[[deque[Ticket[Item, Result]]], bool]) -> list[Ticket[Item, Result]]:
        """A batch of the shape whose first item has waited longest, of those that are ready."""
        with self._changed:
            chosen = min(filter(ready, self._waiting.values()), key=lambda w: w[0].since_s, default=deque())
            return [chosen.popleft() for _ in range(min(self.most_items, len(chosen)))]

    def _run(self, batch: Sequence[Ticket[Item, Result]]) -> None:
        outcomes: Sequence[Result | Exception] = [RuntimeError("the batch was given up")] * len(batch)
        try:
            outcomes = self._outcomes([ticket.item for ticket in batch])
        finally:  # whatever happened, others wait for these
            with self._changed:
                for ticket, outcome in zip(batch, outcomes, strict=True):
                    ticket.outcome = outcome
                self._changed.notify_all()

    def _outcomes(self, items: Sequence[Item]) -> list[Result | Exception]:
        """Results, or why there is none; an item that spoils its batch is found by computing each alone."""
        size = self.most_items
        if len(items) > size:
            return self._outcomes(items[:size]) + self._outcomes(items[size:])
        try:
            with self._turn:
                return list(self._compute(items, size))
        except Exception as error:  # noqa: BLE001 - whatever it is goes to those whose items these are
            failure = error.with_traceback(None)  # whose frames would keep what did not fit
        if is_out_of_memory(failure):
            return self._in_halves(items, size, failure)
        if len(items) == 1 or isinstance(failure, ModelError) or is_device_fault(failure):
            return [failure] * len(items)
        return [outcome for item in items for outcome in self._outcomes([item])]

    def _in_halves(self, items: Sequence[Item], size: int, failure: Exception) -> list[Result | Exception]:
        """Results from batches of at most half the size that was tried, now and from now on."""
        if size == 1:
            too_large = f"one clip of {items[0].shape} does not fit into memory; take a smaller network"
            return [DeviceMemoryError(f"{too_large} ({failure})")] * len(items)
        self.most_items = min(self.most_items, size // 2)
        warnings.warn(
            f"{size} clips at once do not fit into memory, going on with {self.most_items}; set infer.batch_clips "
            f"to {self.most_items} to save the attempt",
            RuntimeWarning,
            stacklevel=2,
        )
        return self._outcomes(items)
