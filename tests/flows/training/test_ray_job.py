"""What Ray Train does to the process that starts it, and what is said of its errors."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import pytest
from ray.exceptions import RaySystemError
from ray.train import ControllerError, WorkerGroupError

from flows.errors import TrainingError
from flows.training.ray_job import _cause, _fit


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


def caused(cause: Exception) -> Exception:
    error = RuntimeError("a wrapper")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            WorkerGroupError(
                "", {1: OSError("later"), 0: RuntimeError("CUDA error: no memory\nCompile with X")}
            ),
            "RuntimeError: CUDA error: no memory",
        ),
        (WorkerGroupError("", {0: MemoryError()}), "MemoryError"),
        (WorkerGroupError("", {0: caused(TrainingError("another recipe"))}), "another recipe"),
        (
            WorkerGroupError(
                "", {0: RaySystemError("The actor died.\nclass_name: X\nKilled: out of memory.\n")}
            ),
            "Killed: out of memory.",
        ),
        (ControllerError(ValueError("no such bucket")), "ValueError: no such bucket"),
    ],
)
def test_an_error_is_told_by_the_line_that_says_most(error: Exception, said: str) -> None:
    assert _cause(error) == said
