"""How far a run is."""

from __future__ import annotations

import time

from flows.bar import Bar, clock


class Progress(Bar):
    """Seconds of video done, the real-time factor and the time that is left."""

    def __init__(self) -> None:
        super().__init__("planning")
        self._started = time.perf_counter()
        self._done_s = self._all_s = 0.0

    def begin(self, video_s: float) -> None:
        """Planning is over: this much video is to be looked at."""
        self._started = time.perf_counter()
        self._done_s, self._all_s = 0.0, video_s
        self._show("")

    def advance(self, video_s: float) -> None:
        """So much more video is done."""
        self._done_s += video_s
        factor = self._done_s / max(1e-9, time.perf_counter() - self._started)
        self._show(f", {factor:.1f}x real time")

    def _show(self, speed: str) -> None:
        words = f"{clock(self._done_s)} of {clock(self._all_s)}{speed}"
        self.show("scoring", self._done_s, self._all_s, words)
