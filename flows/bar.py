"""How far a long command is, on stderr: a bar for who watches, a line a minute in a log."""

from __future__ import annotations

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 60.0
SPEED_OVER_S = 1800.0
"""The time that is left is judged by what was done in so long: single files take minutes."""


class Bar:
    """One bar; where stderr is no terminal, a line every ``LINE_EVERY_S`` seconds in its place.

    Args:
        task: what is done at first, before it is known how much there is.
    """

    def __init__(self, task: str) -> None:
        self._watched = sys.stderr.isatty()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            speed_estimate_period=SPEED_OVER_S,
            get_time=time.monotonic,
            disable=not self._watched,
            transient=True,
        )
        self._task = self._bar.add_task(task, total=None, words="")
        self._last_line_s = time.monotonic()

    def show(self, task: str, completed: float, total: float, words: str) -> None:
        """So much of so much is done, in units of the task; ``words`` say it for people."""
        self._bar.update(self._task, description=task, completed=completed, total=total, words=words)
        if not self._watched and time.monotonic() - self._last_line_s >= LINE_EVERY_S:
            self._last_line_s = time.monotonic()
            sys.stderr.write(f"{task}: {words}, {self._left()}\n")
            sys.stderr.flush()

    def _left(self) -> str:
        left_s = self._bar.tasks[0].time_remaining
        return "time left unknown" if left_s is None else f"{clock(left_s)} left"

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Nothing more is shown."""
        self._bar.stop()


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
