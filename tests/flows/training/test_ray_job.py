"""What Ray Train does to the process that starts it."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import pytest

from flows.training.ray_job import _fit


class TakesSignals:
    """Does with Ctrl-C what Ray Train's trainer does, when it comes while it fits or later."""

    def __init__(self, *, interrupted: bool) -> None:
        self.interrupted = interrupted

    def fit(self) -> str:
        def leave(number: int, frame: FrameType | None) -> None:
            sys.exit(0)

        signal.signal(signal.SIGINT, leave)
        if self.interrupted:
            os.kill(os.getpid(), signal.SIGINT)
        return "trained"


def test_ctrl_c_while_ray_trains_is_an_interrupt_as_anywhere_else() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _fit(TakesSignals(interrupted=True))
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_after_the_training_is_no_longer_rays() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert _fit(TakesSignals(interrupted=False)) == "trained"
    assert signal.getsignal(signal.SIGINT) is before
