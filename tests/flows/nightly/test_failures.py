"""What is no video's fault: remembered by camera-day, and the end of the run where it holds for all of them."""

from __future__ import annotations

import datetime as dt

import pytest

from flows.nightly.failures import Failures
from storage.errors import ObjectWriteError, StoreUnavailableError
from storage.layout import CameraDay

FIRST, SECOND = (CameraDay("marsh", "east", dt.date(2026, 3, day)) for day in (1, 2))


class TaskError(Exception):
    """As Ray hands on what a task raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a traceback of many lines")
        self.cause = cause


def test_what_may_pass_concerns_its_own_camera_day_only() -> None:
    failures = Failures()
    reason = StoreUnavailableError("503")
    with pytest.raises(TaskError), failures.noted(FIRST):
        raise TaskError(reason)
    with failures.noted(SECOND):
        pass
    assert failures.by_day == {FIRST: reason}
    assert failures.hopeless is None


def test_after_a_full_disk_no_other_camera_day_is_begun() -> None:
    failures = Failures()
    full = ObjectWriteError("No space left on device")
    with pytest.raises(ObjectWriteError), failures.noted(FIRST):
        raise full
    with pytest.raises(ObjectWriteError, match="No space left"), failures.noted(SECOND):
        raise AssertionError("begun all the same")
    assert failures.hopeless is full
