"""The size of a batch follows from the memory that is free."""

from __future__ import annotations

import pytest

from model.engines.memory import clips_that_fit

GIB = 2**30


@pytest.mark.parametrize(
    ("free", "needed", "clips"),
    [
        (80 * GIB, GIB, 32),  # not 40
        (40 * GIB, GIB, 16),  # half of it holds 20
        (8 * GIB, 3 * GIB, 1),
        (GIB, 4 * GIB, 1),  # one is tried whatever happens
        (16 * GIB, 0, 32),
    ],
)
def test_a_power_of_two_that_half_the_free_memory_holds(free: int, needed: int, clips: int) -> None:
    assert clips_that_fit(free, needed) == clips
