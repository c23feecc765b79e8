from __future__ import annotations

import threading
from typing import cast

import pytest

from flows.training.loader import BatchLoader
from model.step import Batch


class Maker:
    """Makes a step's number in place of its batches, and notes who made it."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.threads: set[str] = set()

    def __call__(self, step: int) -> list[Batch]:
        self.made.append(step)
        self.threads.add(threading.current_thread().name)
        return cast("list[Batch]", [step])


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_each_step_gets_its_own_batches(threads: int) -> None:
    make = Maker()
    loader = BatchLoader(make, 9, threads)
    assert [loader.batches(step) for step in range(10)] == [[step] for step in range(10)]
    assert sorted(make.made) == list(range(10))


def test_batches_are_made_ahead_in_other_threads() -> None:
    make = Maker()
    loader = BatchLoader(make, 9, 3)
    loader.batches(0)
    loader.batches(1)
    assert set(make.made) >= {0, 1}
    assert max(make.made) <= 4
    assert threading.current_thread().name not in make.threads


def test_a_training_that_goes_on_elsewhere_gets_that_steps_batches() -> None:
    loader = BatchLoader(Maker(), 9, 2)
    assert loader.batches(0) == [0]
    assert loader.batches(6) == [6]
    assert loader.batches(7) == [7]


def test_what_goes_wrong_while_a_batch_is_made_is_told() -> None:
    def broken(step: int) -> list[Batch]:
        raise ValueError(f"step {step} has no clips")

    with pytest.raises(ValueError, match="step 3 has no clips"):
        BatchLoader(broken, 9, 2).batches(3)
