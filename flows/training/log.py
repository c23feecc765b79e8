"""What is to be seen of a training while it runs: a progress bar, and TensorBoard's logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from flows.bar import Bar
from flows.training.trainer import HistoryRow


class TrainingLog(Bar):
    """A bar on stderr, or lines where nobody watches, and scalars under ``folder``."""

    def __init__(self, folder: Path) -> None:
        super().__init__("starting")
        self._folder = folder
        self._writer: SummaryWriter | None = None

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
            words = (
                f"{last.step} of {total_steps} steps, loss {last.loss_behaviour:.3f} + {last.loss_motion:.3f}{rho}, "
                f"{last.clips_per_s:.1f} clips/s"
            )
            self.show("training", last.step, total_steps, words)

    def stop(self) -> None:
        """Nothing more is shown or logged."""
        super().stop()
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
