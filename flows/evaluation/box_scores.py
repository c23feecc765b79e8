"""The three scores of a detector of behaviours, side by side, each with a bootstrap interval over videos.

``paper_map`` is the average precision over instances with true boxes (AviaTAD-LGH, section 4.1);
``frame_map_true`` is AVA's frame-mAP at IoU 0.5 of scores that were made on the true boxes;
``frame_map_detected`` is the same of scores that were made on found boxes. Boxes that are mostly hidden or
mostly outside the frame are not asked for: they are no instances, and what was found there is set aside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bootstrap import (
    Ranking,
    bootstrap_average_precision,
    mean_of_classes,
    percentile_interval,
)
from model.metrics import FrameBoxes, best_overlaps, keep_best_rows, match_boxes

MIN_IOU = 0.5
Rankings = Mapping[str, Ranking]
"""By behaviour."""


@dataclass(frozen=True, slots=True, eq=False)
class TrueBoxes:
    """M boxes of individuals that are really there."""

    video: NDArray[np.int64]
    """Number of the video, shape ``(M,)``."""
    image: NDArray[np.int64]
    """Number of the keyframe among those of all videos, shape ``(M,)``."""
    xyxy: NDArray[np.float64]
    """Fractions of width and height, shape ``(M, 4)``."""
    label: NDArray[np.int64]
    """Behaviour from 0, shape ``(M,)``."""
    asked: NDArray[np.bool_]
    """Whether enough of it is to be seen to be asked for, shape ``(M,)``."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoredBoxes:
    """N boxes, true or found, with what the network says of them."""

    video: NDArray[np.int64]
    image: NDArray[np.int64]
    xyxy: NDArray[np.float64]
    probabilities: NDArray[np.floating]
    """Shape ``(N, C)``."""

    def where(self, kept: NDArray[np.bool_]) -> ScoredBoxes:
        """The boxes at which ``kept``, shape ``(N,)``, is true."""
        return ScoredBoxes(self.video[kept], self.image[kept], self.xyxy[kept], self.probabilities[kept])


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score with its 95 % interval; None where there is nothing to score."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ScoreColumn:
    """One score over some of the videos."""

    per_class: dict[str, Estimate]
    mean: Estimate
    instances: dict[str, int]
    """True instances per behaviour."""
    videos: int


def instance_rankings(
    true: TrueBoxes, probabilities: NDArray[np.floating], names: Sequence[str], num_videos: int
) -> dict[str, Ranking]:
    """Of the paper's mAP: one row for every instance that is asked for.

    Args:
        true: M true boxes.
        probabilities: of each of them, shape ``(M, C)``.
        names: of the C behaviours.
        num_videos: videos in all.
    """
    asked = true.asked
    video, label = true.video[asked], true.label[asked]
    return {
        name: Ranking(
            probabilities[asked, c], label == c, video, np.bincount(video[label == c], minlength=num_videos)
        )
        for c, name in enumerate(names)
    }


def frame_rankings(
    true: TrueBoxes,
    found: ScoredBoxes,
    names: Sequence[str],
    num_videos: int,
    max_rows_per_image: int | None = None,
) -> dict[str, Ranking]:
    """Of AVA's frame-mAP: one row for every box that was not set aside, for each behaviour.

    Args:
        true: true boxes.
        found: boxes with scores; true or found ones.
        names: of the C behaviours.
        num_videos: videos in all.
        max_rows_per_image: AVA's evaluator keeps the 50 best rows of an image, all classes together.
    """
    found = found.where(~set_aside(true, found))
    boxes = FrameBoxes(found.image, found.xyxy)
    rows = {name: (boxes, found.probabilities[:, c]) for c, name in enumerate(names)}
    if max_rows_per_image is not None:
        rows = keep_best_rows(rows, max_rows_per_image)
    video_of_image = dict(zip(found.image.tolist(), found.video.tolist(), strict=True))
    rankings = {}
    for c, name in enumerate(names):
        of_class = true.asked & (true.label == c)
        boxes, scores = rows[name]
        is_true = match_boxes(boxes, scores, FrameBoxes(true.image[of_class], true.xyxy[of_class]), MIN_IOU)
        video = np.array([video_of_image[image] for image in boxes.image.tolist()], dtype=np.int64)
        num_true = np.bincount(true.video[of_class], minlength=num_videos)
        rankings[name] = Ranking(scores, is_true, video, num_true)
    return rankings


def set_aside(true: TrueBoxes, found: ScoredBoxes) -> NDArray[np.bool_]:
    """Found boxes that lie on no true box that is asked for, but on one that is not, shape ``(N,)``."""
    boxes = FrameBoxes(found.image, found.xyxy)
    on_asked, on_other = (
        best_overlaps(boxes, FrameBoxes(true.image[kind], true.xyxy[kind])) >= MIN_IOU
        for kind in (true.asked, ~true.asked)
    )
    aside: NDArray[np.bool_] = on_other & ~on_asked
    return aside


def box_agreement(true: TrueBoxes, found: ScoredBoxes) -> tuple[float | None, float | None]:
    """Recall and precision of the found boxes as boxes, whatever their behaviour, at IoU 0.5."""
    found = found.where(~set_aside(true, found))
    asked = FrameBoxes(true.image[true.asked], true.xyxy[true.asked])
    surest = found.probabilities.max(axis=1, initial=0.0)
    hits = int(match_boxes(FrameBoxes(found.image, found.xyxy), surest, asked, MIN_IOU).sum())
    counts = (len(asked.image), len(found.image))
    recall, precision = (hits / count if count else None for count in counts)
    return recall, precision


def score_column(rankings: Rankings, chosen: NDArray[np.bool_], draws: NDArray[np.int64]) -> ScoreColumn:
    """Average precision of each behaviour and their mean, over the videos at which ``chosen`` is true.

    Args:
        rankings: by behaviour, of V videos.
        chosen: shape ``(V,)``.
        draws: how often each video is in each bootstrap replicate, shape ``(B, V)``. A single video has no
            interval.
    """
    parts = {name: ranking.of_videos(chosen) for name, ranking in rankings.items()}
    values = np.array([part.average_precision for part in parts.values()])
    replicates = np.stack([bootstrap_average_precision(part, draws) for part in parts.values()])
    if int(chosen.sum()) < 2:
        replicates = np.full_like(replicates, np.nan)
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if known.size else np.nan
    return ScoreColumn(
        per_class={name: _estimate(values[c], replicates[c]) for c, name in enumerate(parts)},
        mean=_estimate(mean, mean_of_classes(replicates)),
        instances={name: int(part.num_true.sum()) for name, part in parts.items()},
        videos=int(chosen.sum()),
    )


def _estimate(value: float, replicates: NDArray[np.float64]) -> Estimate:
    if np.isnan(value):
        return Estimate(None)
    interval = percentile_interval(replicates)
    return Estimate(float(value)) if interval is None else Estimate(float(value), *interval)
