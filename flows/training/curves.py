"""What a training leaves beside its weights: its history as CSV, and the curves drawn from that."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.training.trainer import HistoryRow

SHORTEST_ROLLING_STEPS, ROLLING_SHARE = 10, 0.02
"""Steps of a rolling mean: this share of all, and no fewer than so many."""


def write_history(rows: Sequence[HistoryRow], path: Path) -> None:
    """One line a step; a rho that was not measured is left empty."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(HistoryRow)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def draw_losses(rows: Sequence[HistoryRow], path: Path) -> None:
    """Both losses over the steps, with their rolling means (the paper's Figure 7); the data goes beside it as CSV."""
    steps = np.array([row.step for row in rows])
    series = {
        "behaviour loss": np.array([row.loss_behaviour for row in rows]),
        "motion loss": np.array([row.loss_motion for row in rows]),
    }
    _draw(steps, series, path, "loss")


def draw_rho(rows: Sequence[HistoryRow], path: Path) -> None:
    """Rho over the steps at which it was measured, with its rolling mean (Figure 8); its data beside it as CSV."""
    known = [(row.step, row.rho) for row in rows if row.rho is not None]
    steps = np.array([step for step, _ in known])
    _draw(steps, {"rho": np.array([rho for _, rho in known])}, path, "cosine of the two gradients")


def rolling_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Mean of each value and up to ``width - 1`` before it, shape ``(N,)``."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(0, stop - width)
    means: NDArray[np.float64] = (sums[stop] - sums[start]) / (stop - start)
    return means


def _draw(steps: NDArray[np.int64], series: dict[str, NDArray[np.float64]], path: Path, label: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    width = max(SHORTEST_ROLLING_STEPS, int(ROLLING_SHARE * len(steps)))
    means = {name: rolling_mean(values, width) for name, values in series.items()}
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *series, *(f"{name}, mean of {width} steps" for name in means)])
        writer.writerows(zip(steps.tolist(), *map(np.ndarray.tolist, [*series.values(), *means.values()])))  # noqa: B905
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for number, (name, values) in enumerate(series.items()):
        axes.plot(steps, values, color=f"C{number}", alpha=0.25, linewidth=0.7)
        axes.plot(steps, means[name], color=f"C{number}", label=f"{name}, mean of {width} steps")
    if label != "loss":
        axes.axhline(0, color="0.5", linewidth=0.7)
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
