"""Plots of an evaluation: the confusion matrix, and average precision with its intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flows.evaluation.box_scores import ScoreColumn

_DPI = 150


def plot_confusion(counts: Sequence[Sequence[int]], names: Sequence[str], path: Path) -> None:
    """The confusion matrix as a PNG (AviaTAD-LGH, Figure 9): rows are true, shares of a row in per cent.

    Args:
        counts: instances by true behaviour (row) and strongest score (column), shape ``(C, C)``.
        names: of the C behaviours.
        path: the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = np.array(counts, dtype=np.float64)
    totals = table.sum(axis=1, keepdims=True)
    percent = 100 * np.divide(table, totals, out=np.zeros_like(table), where=totals > 0)
    figure = Figure(figsize=(1.6 + 0.9 * len(names), 1.2 + 0.8 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="% of the true behaviour", shrink=0.8)
    labels = [f"{name}\n({int(total)})" for name, total in zip(names, totals[:, 0], strict=True)]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), labels)
    axes.set_xlabel("strongest score")
    axes.set_ylabel("true behaviour (instances)")
    for row, column in np.ndindex(*percent.shape):
        colour = "white" if percent[row, column] > 55 else "black"
        axes.text(
            column, row, f"{percent[row, column]:.1f}", ha="center", va="center", color=colour, fontsize=8
        )
    figure.savefig(path, dpi=_DPI)


def plot_average_precision(columns: Mapping[str, ScoreColumn], names: Sequence[str], path: Path) -> None:
    """Average precision of each behaviour and their mean with 95 % intervals as a PNG.

    Args:
        columns: scores by what the legend calls them.
        names: of the behaviours.
        path: the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 + 1.1 * (len(names) + 1), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (label, column) in enumerate(columns.items()):
        shift = 0.22 * (number - (len(columns) - 1) / 2)
        estimates = [*(column.per_class[name] for name in names), column.mean]
        for place, estimate in enumerate(estimates):
            if estimate.low is not None and estimate.high is not None:
                axes.vlines(place + shift, estimate.low, estimate.high, color=f"C{number}", linewidth=1.5)
        values = [np.nan if estimate.value is None else estimate.value for estimate in estimates]
        axes.plot(np.arange(len(values)) + shift, values, "o", color=f"C{number}", label=label, markersize=5)
    axes.axvline(len(names) - 0.5, color="0.8", linewidth=1)
    axes.set_xticks(range(len(names) + 1), [*names, "mean"])
    axes.set_ylabel("average precision (95 % over videos)")
    axes.set_ylim(top=1.02)
    axes.grid(axis="y", color="0.9")
    axes.legend(loc="lower left", fontsize=8)
    figure.savefig(path, dpi=_DPI)
