"""Intervals of average precision by a bootstrap over videos.

Frames of one video resemble each other, so the sampling unit is the video: a replicate draws as many videos as
there are, with replacement, and computes the average precision of all their rows (Efron and Tibshirani 1993,
"An Introduction to the Bootstrap", chapter 13). A replicate is a row of counts, how often each video was drawn;
the same counts serve every class, score and model, so that differences between them are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.metrics import average_precision

REPLICATES = 1000
_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Everything that the average precision of one class is computed from: N rows of V videos."""

    scores: NDArray[np.floating]
    """Shape ``(N,)``."""
    is_true: NDArray[np.bool_]
    """Whether the row is a true positive, shape ``(N,)``."""
    video: NDArray[np.int64]
    """Which video the row is of, shape ``(N,)``."""
    num_true: NDArray[np.int64]
    """True instances of each video, found or not, shape ``(V,)``."""

    def __post_init__(self) -> None:
        for name in ("is_true", "video"):
            if getattr(self, name).shape != self.scores.shape:
                raise ValueError(
                    f"{name} must have shape {self.scores.shape}, got {getattr(self, name).shape}"
                )

    @property
    def average_precision(self) -> float:
        """Over all videos; NaN without a true instance."""
        return average_precision(self.scores, self.is_true, int(self.num_true.sum()))

    def of_videos(self, chosen: NDArray[np.bool_]) -> Ranking:
        """The rows of the videos at which ``chosen``, shape ``(V,)``, is true; their numbers stay."""
        rows = chosen[self.video]
        return Ranking(
            self.scores[rows], self.is_true[rows], self.video[rows], np.where(chosen, self.num_true, 0)
        )


def draw_videos(num_videos: int, replicates: int = REPLICATES, seed: int = 0) -> NDArray[np.int64]:
    """How often each video is drawn in each replicate, shape ``(replicates, V)``; every row adds up to V."""
    shares = np.full(num_videos, 1 / num_videos)
    return np.random.default_rng(seed).multinomial(num_videos, shares, size=replicates).astype(np.int64)


def bootstrap_average_precision(ranking: Ranking, draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average precision of each replicate, shape ``(B,)``; NaN where no true instance was drawn.

    Exactly what :func:`model.metrics.average_precision` gives for the rows repeated as often as their video was
    drawn. Precision can only peak at a score that some true row has, so only these are kept, and the counts up
    to each of them are one product of (scores, videos) and (videos, replicates).
    """
    rows, hits = _cumulative_by_video(ranking, draws.shape[1])
    total = draws @ ranking.num_true
    result = np.full(len(draws), np.nan)
    part = max(1, _CELLS_AT_ONCE // max(1, len(rows)))
    for first in range(0, len(draws), part):
        chosen = draws[first : first + part].astype(np.float64)
        seen, found = rows @ chosen.T, hits @ chosen.T
        precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        area = np.sum(precision * np.diff(found, axis=0, prepend=0.0), axis=0)
        of_part = total[first : first + part]
        np.divide(area, of_part, out=result[first : first + part], where=of_part > 0)
    return result


def _cumulative_by_video(
    ranking: Ranking, num_videos: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and true rows of each video down to each of the K scores of true rows, shapes ``(K, V)``."""
    # One step for each different score of a true row, the highest first.
    steps = -np.unique(-ranking.scores[ranking.is_true])
    step = np.searchsorted(-steps, -ranking.scores, side="left")
    within = step < len(steps)
    cell = step[within] * num_videos + ranking.video[within]
    size = len(steps) * num_videos
    counts = [
        np.bincount(cell, minlength=size),
        np.bincount(cell[ranking.is_true[within]], minlength=size),
    ]
    rows, hits = (np.cumsum(count.reshape(-1, num_videos), axis=0, dtype=np.float64) for count in counts)
    return rows, hits


def mean_of_classes(replicates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the classes that occur in each replicate, shape ``(C, B)`` to ``(B,)``; NaN where none does."""
    known = ~np.isnan(replicates)
    count = known.sum(axis=0)
    total = np.where(known, replicates, 0.0).sum(axis=0)
    mean: NDArray[np.float64] = np.divide(
        total, count, out=np.full(replicates.shape[1], np.nan), where=count > 0
    )
    return mean


def percentile_interval(replicates: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """Central interval that holds the share ``level`` of the replicates; None where all are NaN."""
    known = replicates[~np.isnan(replicates)]
    if known.size == 0:
        return None
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
