"""Clips of several senders fill batches together; one that spoils its batch costs no other its result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import torch

from model.errors import DeviceMemoryError, EngineMissingError
from workers.batching import Batcher

LONG_S = 60.0


@dataclass(frozen=True)
class Number:
    """An item whose result is its square."""

    value: int
    shape: tuple[int, ...] = (1,)


@dataclass
class Squares:
    """Notes its batches; some values cannot be computed."""

    largest: int = 100
    """Batches of more do not fit into memory."""
    faults: dict[int, Exception] = field(default_factory=dict)
    batches: list[list[int]] = field(default_factory=list)

    def __call__(self, items: Sequence[Number], size: int) -> list[int]:
        assert len({item.shape for item in items}) == 1
        assert len(items) <= size
        values = [item.value for item in items]
        if size > self.largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        self.batches.append(values)
        for value in values:
            if value in self.faults:
                raise self.faults[value]
        return [value**2 for value in values]


def batcher_of(squares: Squares, most: int = 4, patience_s: float = LONG_S) -> Batcher[Number, int]:
    return Batcher(squares, most, threading.Lock(), patience_s)


def side_by_side(*works: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S / 2)
        assert not thread.is_alive(), "a sender waits for ever"


def test_what_two_senders_have_left_over_shares_a_batch() -> None:
    squares = Squares()
    batcher = batcher_of(squares)
    both_expect = threading.Barrier(2)
    results: dict[int, list[int]] = {}

    def send(first: int) -> None:
        with batcher.expecting():
            both_expect.wait()
            tickets = batcher.submit([Number(value) for value in range(first, first + 6)])
        results[first] = [batcher.result(ticket) for ticket in tickets]

    side_by_side(lambda: send(0), lambda: send(10))
    assert results == {0: [v**2 for v in range(6)], 10: [v**2 for v in range(10, 16)]}
    assert sorted(len(batch) for batch in squares.batches) == [4, 4, 4]


def test_a_batch_is_not_waited_for_where_nobody_is_expected() -> None:
    squares = Squares()
    batcher = batcher_of(squares)
    with batcher.expecting():
        tickets = batcher.submit([Number(1), Number(2)])
        assert squares.batches == []
    assert [batcher.result(ticket) for ticket in tickets] == [1, 4]
    assert squares.batches == [[1, 2]]


def test_a_batch_is_waited_for_no_longer_than_patience_lasts() -> None:
    squares = Squares()
    batcher = batcher_of(squares, patience_s=0.05)
    with batcher.expecting():  # and nothing comes
        (ticket,) = batcher.submit([Number(3)])
        started = time.monotonic()
        assert batcher.result(ticket) == 9
    assert time.monotonic() - started < LONG_S / 2


def test_shapes_do_not_mix_and_the_oldest_goes_first() -> None:
    squares = Squares()
    batcher = batcher_of(squares)
    with batcher.expecting():
        tickets = batcher.submit([Number(1), Number(2, (2,)), Number(3), Number(4, (2,))])
    assert [batcher.result(ticket) for ticket in tickets] == [1, 4, 9, 16]
    assert squares.batches == [[1, 3], [2, 4]]


def test_an_item_that_spoils_its_batch_costs_no_other_its_result() -> None:
    squares = Squares(faults={2: ValueError("two is odd")})
    batcher = batcher_of(squares)
    tickets = batcher.submit([Number(value) for value in range(4)])
    assert [batcher.result(tickets[k]) for k in (0, 1, 3)] == [0, 1, 9]
    with pytest.raises(ValueError, match="two is odd"):
        batcher.result(tickets[2])


def test_a_batch_that_does_not_fit_is_computed_in_halves_and_so_are_those_after_it() -> None:
    squares = Squares(largest=3)
    batcher = batcher_of(squares, most=8)
    with pytest.warns(RuntimeWarning, match=r"8 clips at once .* going on with 4") as warned:
        tickets = batcher.submit([Number(value) for value in range(8)])
    assert "going on with 2" in str(warned[-1].message)
    assert [batcher.result(ticket) for ticket in tickets] == [value**2 for value in range(8)]
    assert squares.batches == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert batcher.most_items == 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_item_that_does_not_fit_alone_is_an_error_with_what_to_do() -> None:
    batcher = batcher_of(Squares(largest=0), most=2)
    (ticket,) = batcher.submit([Number(1, (16, 160, 288))])
    with pytest.raises(
        DeviceMemoryError, match=r"one clip of \(16, 160, 288\) .* smaller network .*CUDA out of"
    ):
        batcher.result(ticket)


@pytest.mark.parametrize(
    "fault",
    [
        EngineMissingError("no engine"),
        torch.AcceleratorError("CUDA error: an illegal memory access"),
        RuntimeError("CUDA error: unspecified launch failure"),
    ],
)
def test_what_every_item_would_meet_is_met_once(fault: Exception) -> None:
    squares = Squares(faults={1: fault})
    batcher = batcher_of(squares)
    tickets = batcher.submit([Number(value) for value in range(4)])
    for ticket in tickets:
        with pytest.raises(type(fault), match=str(fault)):
            batcher.result(ticket)
    assert len(squares.batches) == 1


def test_one_sender_that_fails_before_it_sends_does_not_hold_up_others() -> None:
    squares = Squares()
    batcher = batcher_of(squares)
    is_expecting, go = threading.Event(), threading.Event()

    def fail() -> None:
        with suppress(OSError), batcher.expecting():
            is_expecting.set()
            go.wait(LONG_S)
            raise OSError("no frames")

    def send() -> None:
        is_expecting.wait(LONG_S)
        (ticket,) = batcher.submit([Number(5)])
        threading.Timer(0.05, go.set).start()
        assert batcher.result(ticket) == 25

    side_by_side(fail, send)
    assert squares.batches == [[5]]
