"""How well the small detector does, and the card that goes with its weights."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.detector import DetectorInfo
from model.detector_augment import FrameTruth
from model.detector_training import RIGHT, WRONG, BoxCounts, DetectorRecipe, match_boxes


@dataclass(slots=True)
class Sample:
    """Boxes found in many keyframes, each right or wrong, and the birds that were there."""

    score: list[float] = field(default_factory=list)
    verdict: list[int] = field(default_factory=list)
    box_infrared: list[bool] = field(default_factory=list)
    found_at: list[float] = field(default_factory=list)
    """Per bird the score of its box; 0 where it has none."""
    resting: list[bool] = field(default_factory=list)
    bird_infrared: list[bool] = field(default_factory=list)

    def add(
        self,
        xyxy_px: NDArray[np.float32],
        score: NDArray[np.float32],
        truth: FrameTruth,
        resting: NDArray[np.bool_],
        infrared: bool,
    ) -> None:
        """Match one keyframe's boxes with its birds and remember both."""
        match = match_boxes(xyxy_px, score, truth)
        found_at = np.zeros(len(truth.ignored))
        found_at[match.bird[match.verdict == RIGHT]] = score[match.verdict == RIGHT]
        self.score += score.tolist()
        self.verdict += match.verdict.tolist()
        self.box_infrared += [infrared] * len(score)
        counted = ~truth.ignored
        self.found_at += found_at[counted].tolist()
        self.resting += resting[counted].tolist()
        self.bird_infrared += [infrared] * int(counted.sum())

    def counts(self, min_score: float, infrared: bool | None = None) -> BoxCounts:
        """Counts of the boxes from a score on, of one kind of light where it is named."""
        boxes = np.array(self.score) >= min_score
        found = np.array(self.found_at) >= min_score
        birds = np.ones(len(self.found_at), bool)
        if infrared is not None:
            boxes &= np.array(self.box_infrared, bool) == infrared
            birds &= np.array(self.bird_infrared, bool) == infrared
        wrong = np.array(self.verdict) == WRONG
        return BoxCounts(int(birds.sum()), int((birds & found).sum()), int((boxes & wrong).sum()))

    def resting_counts(self, min_score: float) -> BoxCounts:
        """Of the birds at rest throughout; a wrong box belongs to no bird, so that none is counted here."""
        resting = np.array(self.resting, bool)
        found = np.array(self.found_at) >= min_score
        return BoxCounts(int(resting.sum()), int((resting & found).sum()), 0)


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One line of the card's table."""

    name: str
    counts: BoxCounts
    has_precision: bool


def score_table(sample: Sample, min_score: float) -> tuple[ScoreRow, ...]:
    """All birds, by light, and those that rest through a whole video."""
    return (
        ScoreRow("all", sample.counts(min_score), True),
        ScoreRow("day and dim light", sample.counts(min_score, infrared=False), True),
        ScoreRow("infrared", sample.counts(min_score, infrared=True), True),
        ScoreRow("birds at rest throughout", sample.resting_counts(min_score), False),
    )


@dataclass(frozen=True, slots=True)
class DetectorCard:
    """Everything that the card says."""

    info: DetectorInfo
    recipe: DetectorRecipe
    parameters: int
    size_bytes: int
    simulated: bool
    """Whether the birds that it learned from are."""
    videos: int
    """That it learned from."""
    keyframes: int
    birds_xyxy_px: NDArray[np.float32]
    """Corners of the birds that it learned from, shape ``(M, 4)``."""
    frame_height: int
    """Lines of the frames."""
    minutes: float
    threads: int
    tested_on: str
    scores: Sequence[ScoreRow]
    command: str

    @property
    def bird_heights_px(self) -> tuple[int, int]:
        """Between which the heights of nine birds in ten lie."""
        heights = self.birds_xyxy_px[:, 3] - self.birds_xyxy_px[:, 1]
        low, high = np.percentile(heights, [5, 95])
        return round(float(low)), round(float(high))


def describe_scores(card: DetectorCard) -> str:
    """What it finds, for a person."""
    lines = [f"on {card.tested_on}, boxes of score {card.info.min_score} and more:"]
    for row in card.scores:
        precision = f", precision {_share(row.counts.precision) or '-'}" if row.has_precision else ""
        lines.append(
            f"{row.name:<24} {row.counts.truth:>6} birds, recall {_share(row.counts.recall) or '-'}{precision}"
        )
    return "\n".join(lines)


def card_json(card: DetectorCard) -> dict[str, Any]:
    """What ``aviaflow train-detector --json`` prints."""
    return {
        "digest": card.info.digest,
        "trained_on": card.info.trained_on,
        "min_score": card.info.min_score,
        "nms_iou": card.info.nms_iou,
        "videos": card.videos,
        "keyframes": card.keyframes,
        "tested_on": card.tested_on,
        "scores": {
            row.name: {
                "birds": row.counts.truth,
                "recall": row.counts.recall,
                "precision": row.counts.precision if row.has_precision else None,
            }
            for row in card.scores
        },
    }


def write_card(card: DetectorCard, path: Path) -> None:
    """Write the card as Markdown."""
    path.write_text(render_card(card), encoding="utf-8")


def render_card(card: DetectorCard) -> str:
    """The card as Markdown."""
    rows = "\n".join(
        f"| {row.name} | {row.counts.truth} | {_share(row.counts.recall)} | "
        f"{_share(row.counts.precision) if row.has_precision else ''} |"
        for row in card.scores
    )
    low_px, high_px = card.bird_heights_px
    return f"""# Weights of the small detector

{_wrapped(_trained_on(card))}

Digest `{card.info.digest}`, {card.parameters / 1e6:.2f} M parameters, {card.size_bytes / 1e6:.2f} MB in half
precision. It looks at one RGB frame at a time, of any size; it learned from frames of {card.frame_height} lines, in
which nine birds of ten are {low_px} to {high_px} pixels high. One class: individuals of the taxon; boxes of what is
none, and all else in the frame, are background to it.

## How many birds it finds

{_wrapped(_how_measured(card))}

| | birds | recall | precision |
|---|---|---|---|
{rows}

What it misses are, before all, birds of which another covers more than half: two boxes that overlap by more than that
are taken for one.

## How it was trained

`{card.command}`: {card.minutes:.0f} minutes on {card.threads} CPU thread{"s" if card.threads > 1 else ""}.

{_wrapped(_training(card))}
"""


def _trained_on(card: DetectorCard) -> str:
    words = f"**Trained on {card.info.trained_on}{' only' if card.simulated else ''}.** "
    if not card.simulated:
        return words + "The figures below are of recordings like those; other places and seasons may differ."
    return words + (
        "No real animal was seen in training, and no figure below says how well it does on real video: on eight real "
        "clips without a crane the first version put 0.05 to 4.4 boxes on a frame, on other animals and on background. "
        "A reserve that relies on its boxes trains on its own (`aviaflow train-detector`), or uses a detector that was "
        "trained on photographs."
    )


def _how_measured(card: DetectorCard) -> str:
    return (
        f"Recall and precision at an IoU of 0.5, boxes of score {card.info.min_score} and more, of two boxes that "
        f"overlap by more than {card.info.nms_iou} the better one; on {card.tested_on}. Birds more than 65 % covered "
        "or less than 60 % in the frame count neither way. Birds at rest throughout are in a video for 20 s or more "
        "and never move in it; motion against a background plate cannot see them."
    )


def _training(card: DetectorCard) -> str:
    recipe = card.recipe
    return (
        f"{card.keyframes} keyframes of {card.videos} videos with {len(card.birds_xyxy_px)} birds; "
        f"{recipe.frame_budget} frames seen in batches of {recipe.batch_size}, each flipped, zoomed by 0.7 to 1.4, cut "
        "out, and changed in light, colour and noise at random, one in seven turned to grey. AdamW, learning rate "
        f"{recipe.learning_rate} with {recipe.warmup_steps} warm-up steps and a cosine decay, weight decay "
        f"{recipe.weight_decay}, gradients clipped at {recipe.clip_norm}, seed {recipe.seed}; focal loss, GIoU loss, "
        "and cross-entropy of the predicted with the true IoU. Least score and overlap were chosen for the best F1 on "
        "videos that were not learned from, where there are more than one."
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 110, break_on_hyphens=False)


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
