"""How well the small detector does, and the card that goes with its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
    cameras: int
    keyframes: int
    birds: int
    minutes: float
    threads: int
    tested_on: str
    scores: Sequence[ScoreRow]


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
    recipe = card.recipe
    return f"""# crane_detector: the embedded detector's weights

**Trained on {card.info.trained_on} only.** No real crane was seen in training, and no figure below says how
well it does on real video: on eight real clips without a crane the first version put 0.05 to 4.4 boxes on a
frame, on other animals and on background. A reserve that relies on its boxes trains on its own, or uses a
detector that was trained on photographs.

Digest `{card.info.digest}`, {card.parameters / 1e6:.2f} M parameters, {card.size_bytes / 1e6:.2f} MB in half
precision. It looks at one RGB frame at a time, of any size; it learned from frames of 216 lines with birds of
some 25 to 80 pixels. One class, a crane: deer, boats and people are background to it.

## How many birds it finds

Recall and precision at an IoU of 0.5, boxes of score {card.info.min_score} and more, of two boxes that
overlap by more than {card.info.nms_iou} the better one; on {card.tested_on}. Birds more than 65 % covered or
less than 60 % in the frame count neither way. Birds at rest throughout are in a video for 20 s or more and
never move in it; motion against a background plate cannot see them.

| | birds | recall | precision |
|---|---|---|---|
{rows}

What it misses are birds of which another covers more than half: two boxes that overlap by more than that are
taken for one.

## How it was trained

{card.keyframes} keyframes of {card.cameras} cameras with {card.birds} birds; {recipe.frame_budget} frames
seen in batches of {recipe.batch_size}, each flipped, zoomed by 0.7 to 1.4, cut out, and changed in light,
colour and noise at random, one in seven turned to grey. AdamW, learning rate {recipe.learning_rate} with
{recipe.warmup_steps} warm-up steps and a cosine decay, weight decay {recipe.weight_decay}, gradients clipped
at {recipe.clip_norm}, seed {recipe.seed}; focal loss, GIoU loss, and cross-entropy of the predicted with the
true IoU. Least score and overlap were chosen for the best F1 on cameras kept out of the training.
{card.minutes:.0f} minutes on {card.threads} CPU thread{"s" if card.threads > 1 else ""}.

Again: `python -m flows.training.detector --archive DIR --out model/weights`, where `DIR` is what
`aviaflow simulate` writes.
"""


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
