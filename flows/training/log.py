"""What is to be seen of a training while it runs: a progress bar, and TensorBoard's logs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from flows.training.trainer import HistoryRow


class TrainingLog:
    """A bar on stderr, off when nobody watches, and scalars under ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None, words="")

    def write(self, rows: Sequence[HistoryRow], total_steps: int) -> None:
        """Log these steps."""
        for row in rows:
            if self._writer is None:
                # What an earlier, killed process logged of this step and later ones is taken back.
                self._writer = SummaryWriter(str(self._folder), purge_step=row.step)
            for name, value in _scalars(row).items():
                self._writer.add_scalar(name, value, row.step)
        if rows:
            last = rows[-1]
            rho = "" if last.rho is None else f", rho {last.rho:+.2f}"
            self._bar.update(
                self._task,
                description="training",
                total=total_steps,
                completed=last.step,
                words=f"steps, loss {last.loss_behaviour:.3f} + {last.loss_motion:.3f}{rho}, "
                f"{last.clips_per_s:.1f} clips/s",
            )

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
        if self._writer is not None:
            self._writer.close()


def _scalars(row: HistoryRow) -> dict[str, float]:
    scalars = {
        "loss/behaviour": row.loss_behaviour,
        "loss/motion": row.loss_motion,
        "loss/other": row.loss_other,
        "weighting/lambda": row.weight_mov,
        "weighting/behaviour": row.weight_act,
        "optimizer/learning_rate": row.learning_rate,
        "optimizer/gradient_norm": row.gradient_norm,
        "throughput/clips_per_s": row.clips_per_s,
    }
    return scalars if row.rho is None else {**scalars, "weighting/rho": row.rho}
