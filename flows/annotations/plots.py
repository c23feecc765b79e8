"""Plots of the dataset card; each shows the rows of a CSV that lies beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_STATIC, _DYNAMIC = "#9ecae1", "#08519c"
_DPI = 120


def plot_shares(path: Path, rows: Sequence[Sequence[Any]], motions: Sequence[str]) -> None:
    """Stacked bars of static and dynamic boxes; rows are behaviour, boxes, share, static, dynamic."""
    figure, axes = _figure()
    names = [row[0] for row in rows]
    bottom = np.zeros(len(rows))
    for k, (motion, colour) in enumerate(zip(motions, (_STATIC, _DYNAMIC), strict=True)):
        counts = np.array([row[3 + k] for row in rows])
        axes.bar(names, counts, bottom=bottom, color=colour, label=motion)
        bottom += counts
    for x, row in enumerate(rows):
        axes.annotate(f"{row[1]}\n{100 * row[2]:.1f} %", (x, bottom[x]), ha="center", va="bottom")
    axes.set_ylim(0, 1.2 * max(1.0, bottom.max()))
    axes.set_ylabel("boxes")
    figure.legend(loc="outside upper center", ncols=len(motions))
    _save(figure, path)


def plot_quantiles(path: Path, rows: Sequence[Sequence[Any]], title: str, colours: Mapping[str, str]) -> None:
    """Boxes from the quarters with whiskers; rows are behaviour, boxes, then five quantiles."""
    figure, axes = _figure()
    statistics = [
        {
            "label": f"{row[0]}\n{row[1]} boxes",
            "whislo": row[2],
            "q1": row[3],
            "med": row[4],
            "q3": row[5],
            "whishi": row[6],
        }
        for row in rows
    ]
    drawn = axes.bxp(statistics, showfliers=False, patch_artist=True, medianprops={"color": "black"})
    for patch, row in zip(drawn["boxes"], rows, strict=True):
        patch.set_facecolor(colours[row[0]])
    axes.set_ylim(0, 1.1 * max((row[6] for row in rows), default=1))
    axes.set_ylabel(title)
    axes.set_title("box: the middle half, line: the median, whiskers: 5 to 95 %", fontsize="medium")
    _save(figure, path)


def plot_split(path: Path, rows: Sequence[Sequence[Any]], parts: Sequence[str]) -> None:
    """Bars of each class's share in each part; rows are group, class, then a share per part."""
    figure, axes = _figure()
    width = 0.8 / len(parts)
    for k, part in enumerate(parts):
        at = np.arange(len(rows)) + (k - (len(parts) - 1) / 2) * width
        axes.bar(at, [100 * row[2 + k] for row in rows], width, label=part)
    axes.set_xticks(np.arange(len(rows)), [row[1] for row in rows])
    for k in range(1, len(rows)):
        if rows[k][0] != rows[k - 1][0]:
            axes.axvline(k - 0.5, color="0.5", linewidth=0.8)
    axes.set_ylabel("share of the boxes (%)")
    figure.legend(loc="outside upper center", ncols=len(parts))
    _save(figure, path)


def _figure() -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(7, 4), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.axes[0].tick_params(axis="x", rotation=20)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)
