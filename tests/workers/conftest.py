"""Numbered videos as fixtures; see ``tests/numbered.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import numbered

WriteVideo = Callable[..., Path]
ReadNumber = Callable[[NDArray[np.uint8]], int]


@pytest.fixture(scope="session")
def read_number() -> ReadNumber:
    """Read the number of a decoded picture, upright and of any size."""
    return numbered.read_number


@pytest.fixture(scope="session")
def write_video() -> WriteVideo:
    """Write a video of numbered frames; the I-frames are 15 apart."""
    return numbered.write_video
