"""What a run meets beside bad videos: camera-days that fail, stored objects that cannot be used, files that changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from model.errors import ModelError
from storage.errors import LeaseLostError, NewerSchemaError, ObjectWriteError, StorageError, StoreAccessError
from storage.layout import CameraDay

HOPELESS = (ObjectWriteError, StoreAccessError, LeaseLostError, NewerSchemaError, ModelError)
"""A full or read-only disk, refused credentials, a store that is another one's, an engine that cannot be built: to go
on would decode for nothing."""


class Failures:
    """Used by the threads of all camera-days of a run."""

    def __init__(self) -> None:
        self.by_day: dict[CameraDay, Exception] = {}
        """Why camera-days could not be finished."""
        self.hopeless: StorageError | ModelError | None = None
        """What will fail for every other camera-day too."""

    @contextmanager
    def noted(self, day: CameraDay) -> Iterator[None]:
        """Remember why work on a camera-day failed; raise at once what holds for all of them."""
        if self.hopeless is not None:
            raise self.hopeless
        try:
            yield
        except Exception as error:
            cause = getattr(error, "cause", None) or error  # of Ray's: what the task raised
            self.by_day.setdefault(day, cause)
            if isinstance(cause, HOPELESS):
                self.hopeless = cause
            raise


def describe_changed(uris: Sequence[str]) -> str:
    """Files that were replaced, for a person to read."""
    return f"files with other content than what is stored of them, which are read anew: {len(uris)}, first {uris[0]}"


def describe_damaged(reasons: Sequence[str], shown: int = 5) -> str:
    """Stored objects that cannot be used and are made again, for a person to read."""
    return _listed("stored objects cannot be used; they are made again from the archive", reasons, shown)


def describe_lost(reasons: Sequence[str]) -> str:
    """Stored objects that cannot be used and are not made again, for a person to read."""
    return _listed(
        "stored objects cannot be used, and are of camera-days of which this archive lacks a video that would have to "
        "be read again; these camera-days are left as they are, and new files of theirs wait. Run with the archive "
        "that has it, restore the objects from a backup, or delete them to go on without",
        reasons,
    )


def _listed(what: str, reasons: Sequence[str], shown: int = 5) -> str:
    lines = [f"{len(reasons)} {what}:", *(f"  {reason}" for reason in reasons[:shown])]
    return "\n".join([*lines, f"  and {len(reasons) - shown} more"] if len(reasons) > shown else lines)
