"""Plots of the tables; the numbers drawn are those of ``table.csv`` and ``cells.csv`` beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flows.ablation.cells import grid_variant
from flows.ablation.table import Interval, SeedSummary, VariantSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_SPREAD = 1.0
"""Points of mAP from the lightest to the darkest colour at least: smaller differences do not look large."""
_DPI = 150
_SEEDS, _VIDEOS = "#1f5a96", "#e08a2e"


def plot_weightings(
    rows: Sequence[VariantSummary],
    seed_scores: Mapping[str, Sequence[float]],
    control: str,
    title: str,
    path: Path,
) -> None:
    """mAP of each weighting with both intervals, and its difference to the control, as a PNG.

    Args:
        rows: of the table, drawn from top to bottom.
        seed_scores: mAP of each cell, by variant.
        control: the variant that differences are against.
        title: above the plot.
        path: the PNG.
    """
    figure = _figure(10.5, 2.3 + 0.42 * len(rows), title)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    for place, row in enumerate(rows):
        _draw_summary(left, place, row.score)
        points = 100 * np.array(seed_scores[row.variant])
        left.plot(points, np.full(len(points), place), "o", color="0.35", markersize=3, alpha=0.7, zorder=4)
        if row.difference is not None:
            _draw_summary(right, place, row.difference)
    left.set_yticks(range(len(rows)), [row.variant for row in rows])
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlabel("mAP, true boxes, %")
    right.axvline(0, color="0.4", linewidth=1)
    right.set_xlabel(f"mAP minus that of {control}, points")
    for axes in (left, right):
        axes.grid(axis="x", color="0.9")
    _zoom(left, [row.score for row in rows], (0.0, 100.0))
    _zoom(right, [row.difference for row in rows if row.difference is not None], (-100.0, 100.0))
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    _save(figure, path)


def plot_grid(
    rows: Sequence[VariantSummary],
    alphas: Sequence[float],
    lambdas: Sequence[float],
    title: str,
    path: Path,
) -> None:
    """Mean mAP over alpha and lambda_base as a PNG; points that are not finished stay grey."""
    by_variant = {row.variant: row.score for row in rows}
    table = np.full((len(alphas), len(lambdas)), np.nan)
    for (row, column), _ in np.ndenumerate(table):
        score = by_variant.get(grid_variant(alphas[row], lambdas[column]))
        table[row, column] = np.nan if score is None else 100 * score.mean
    figure = _figure(2.8 + 1.15 * len(lambdas), 2.2 + 0.62 * len(alphas), title)
    axes = figure.add_subplot()
    axes.set_facecolor("0.85")
    low, high = float(np.nanmin(table)), float(np.nanmax(table))
    wider = max(0.0, LEAST_SPREAD - (high - low)) / 2
    image = axes.imshow(table, cmap="Blues", aspect="auto", vmin=low - wider, vmax=high + wider)
    figure.colorbar(image, ax=axes, label="mAP, true boxes, %")
    axes.set_xticks(range(len(lambdas)), [f"{base:g}" for base in lambdas])
    axes.set_yticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
    axes.set_xlabel("lambda_base")
    axes.set_ylabel("alpha")
    middle = low - wider + 0.55 * (high - low + 2 * wider)
    for (row, column), value in np.ndenumerate(table):
        score = by_variant.get(grid_variant(alphas[row], lambdas[column]))
        said = "-" if score is None else _said(score)
        colour = "white" if value > middle else "black"
        axes.text(column, row, said, ha="center", va="center", fontsize=8, color=colour)
    _save(figure, path)


def _said(score: SeedSummary) -> str:
    if score.over_seeds is None:
        return f"{100 * score.mean:.1f}"
    half = 50 * (score.over_seeds[1] - score.over_seeds[0])
    return f"{100 * score.mean:.1f}\n± {half:.1f}"


def _draw_summary(axes: Axes, place: int, score: SeedSummary) -> None:
    for interval, shift, colour in ((score.over_seeds, -0.16, _SEEDS), (score.over_videos, 0.16, _VIDEOS)):
        if interval is not None:
            axes.hlines(place + shift, 100 * interval[0], 100 * interval[1], color=colour, linewidth=2)
    axes.plot(100 * score.mean, place, "D", color="black", markersize=5, zorder=5)


def _zoom(axes: Axes, scores: Sequence[SeedSummary], widest: Interval) -> None:
    """Show all means and the intervals over videos; one over two or three seeds may be wider than the scale."""
    values = [100 * score.mean for score in scores]
    for score in scores:
        for interval in (score.over_videos, score.over_seeds):
            values += [100 * end for end in interval or ()]
    if values:
        low, high = max(widest[0], min(values)), min(widest[1], max(values))
        margin = 0.05 * max(high - low, 1.0)
        axes.set_xlim(low - margin, high + margin)


def _legend() -> list[object]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color="black", marker="D", linestyle="", markersize=5, label="mean over seeds"),
        Line2D([], [], color="0.35", marker="o", linestyle="", markersize=3, label="one seed"),
        Line2D([], [], color=_SEEDS, linewidth=2, label="95 % over seeds"),
        Line2D([], [], color=_VIDEOS, linewidth=2, label="95 % over videos"),
    ]


def _figure(width: float, height: float, title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9)
    return figure


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=_DPI)
