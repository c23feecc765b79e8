"""A progress bar on stderr, off when nobody watches."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Seconds of video done, the real-time factor and the time that is left."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[done]} of {task.fields[all]}"),
            TextColumn("{task.fields[factor]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._started = time.perf_counter()
        self._task = self._bar.add_task("planning", total=None, done="", all="", factor="")

    def begin(self, video_s: float) -> None:
        """Planning is over: this much video is to be looked at."""
        self._started = time.perf_counter()
        self._bar.update(
            self._task, description="scoring", total=video_s, all=_clock(video_s), done=_clock(0), factor=""
        )

    def advance(self, video_s: float) -> None:
        """So much more video is done."""
        self._bar.advance(self._task, video_s)
        done = self._bar.tasks[0].completed
        factor = done / max(1e-9, time.perf_counter() - self._started)
        self._bar.update(self._task, done=_clock(done), factor=f"{factor:.1f}x real time")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
