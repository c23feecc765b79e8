"""Readers that look at a store all the time: what they see is whole, whatever happens to the writers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType

import pandas as pd

from storage.filesystem import StoreFilesystem
from storage.layout import DETECTIONS
from tests.readers import readers

PAUSE_S = 0.5


class Readers:
    """Reads the detections with every reader, over and over, while it is open; ``errors`` says what went wrong.

    Args:
        fs: the store.
        expected: rows of each video when everything is done, by video id.
    """

    def __init__(self, fs: StoreFilesystem, expected: Mapping[str, int]) -> None:
        self.errors: list[str] = []
        self.reads = 0
        self._fs, self._expected = fs, expected
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Readers:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._ended.wait(PAUSE_S):
            if any(entry.path.endswith(".parquet") for entry in self._fs.list(DETECTIONS)):
                for name, read in readers(self._fs).items():
                    self._look(name, read)

    def _look(self, name: str, read: Callable[[], pd.DataFrame]) -> None:
        self.reads += 1
        try:
            counts = read().groupby("video_id").size()
        except Exception as error:  # noqa: BLE001 - whatever a reader meets is what is counted here
            self.errors.append(f"{name}: {type(error).__name__}: {error}")
            return
        for video, count in counts.items():
            if count != self._expected[str(video)]:
                self.errors.append(f"{name}: {count} of {self._expected[str(video)]} rows of {video}")
