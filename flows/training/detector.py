"""``aviaflow train-detector``: train the small detector on a folder with annotations.

The folder holds ``archive`` and ``truth``, as ``aviaflow annotations`` and ``aviaflow simulate`` write them. Where it
has a ``split.csv``, the training part is learned from, limits are chosen on the validation part, and the card's
figures are of the test part; else some cameras are kept out for both.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from flows.annotations.labelled import read_labelled
from flows.evaluation.reserve import FRAME_HEIGHT
from flows.training.detector_card import DetectorCard, Sample, score_table, write_card
from flows.training.detector_data import KEPT_OUT, KeyframeSet, VideoParts, collect_keyframes, divide_videos
from model.detector import (
    DetectorShape,
    build_detector,
    load_detector,
    load_trainable,
    save_detector,
)
from model.detector_training import DetectorRecipe, train_detector
from model.engines.torch_engine import trains_in_bf16

KEYFRAMES = 8000
"""Keyframes to train on, spread evenly over the videos."""
TEST_KEYFRAMES = 1500
MIN_SCORES = tuple(round(0.20 + 0.02 * step, 2) for step in range(26))
NMS_IOUS = (0.45, 0.5, 0.55, 0.6, 0.65, 0.7)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DetectorRequest:
    """What a training of the detector is told."""

    archive: Path
    """Folder with ``archive`` and ``truth``."""
    out: Path
    """The file of weights; the card comes beside it."""
    command: str
    test: Path | None = None
    """Another such folder, for the figures of the card."""
    initial: Path | None = None
    """Weights to start from."""
    recipe: DetectorRecipe = field(default_factory=DetectorRecipe)
    shape: DetectorShape = field(default_factory=DetectorShape)
    """Of a detector that starts from nothing."""
    keyframes: int = KEYFRAMES
    frame_height: int = FRAME_HEIGHT
    """Lines of the frames, as the run decodes them."""


def train(request: DetectorRequest, progress: Progress) -> DetectorCard:
    """Train, choose the limits, measure, and write the weights with their card.

    Raises:
        TruthMissingError: a folder lacks a file.
        BadTruthError: an archive and its truth do not fit together, or no bird is to be seen well enough.
        SplitFileError: truth and split do not fit together.
        ModelError: the weights to start from cannot be used.
    """
    parts = divide_videos(request.archive)
    detector, shape, trained_on = _start(request)
    with tempfile.TemporaryDirectory() as folder:
        progress(f"decoding keyframes of {len(parts.learned)} videos to learn from")
        training = _collect(request, parts.learned, request.keyframes, 0, folder)
        holding = _collect(request, parts.held, request.keyframes // KEPT_OUT, 1, folder)
        tested, tested_on = _test_set(request, parts, holding, folder)
        started = time.monotonic()
        losses = _Losses(request.recipe.steps, progress)
        half = trains_in_bf16("cpu")
        train_detector(detector, training.frames, training.truths, request.recipe, losses, half)
        minutes = (time.monotonic() - started) / 60
        progress(f"choosing the least score and the overlap on {len(holding.truths)} keyframes")
        min_score, nms_iou = choose_limits(detector, holding)
        info = save_detector(detector, request.out, shape, trained_on, min_score, nms_iou)
        sample = look(load_detector(request.out)[0], tested)
        card = DetectorCard(
            info=info,
            recipe=request.recipe,
            parameters=sum(parameter.numel() for parameter in detector.parameters()),
            size_bytes=request.out.stat().st_size,
            simulated=read_labelled(request.archive).simulated,
            videos=len(parts.learned),
            keyframes=len(training.truths),
            birds_xyxy_px=training.birds(),
            frame_height=training.frames.shape[1],
            minutes=minutes,
            threads=torch.get_num_threads(),
            tested_on=tested_on,
            scores=score_table(sample, min_score),
            command=request.command,
        )
    write_card(card, request.out.with_suffix(".CARD.md"))
    return card


def _start(request: DetectorRequest) -> tuple[nn.Module, DetectorShape, str]:
    """The detector before its first step, its shape, and what it will have been trained on."""
    simulated = read_labelled(request.archive).simulated
    taught = "simulated birds" if simulated else request.archive.resolve().name
    if request.initial is None:
        torch.manual_seed(request.recipe.seed)
        return build_detector(request.shape), request.shape, taught
    detector, info = load_trainable(request.initial)
    return detector, info.shape, f"{taught}, from weights trained on {info.trained_on}"


def _collect(
    request: DetectorRequest, videos: Sequence[str], count: int, stream: int, folder: str
) -> KeyframeSet:
    seed = request.recipe.seed + stream
    return collect_keyframes(request.archive, videos, max(1, count), seed, Path(folder), request.frame_height)


def _test_set(
    request: DetectorRequest, parts: VideoParts, holding: KeyframeSet, folder: str
) -> tuple[KeyframeSet, str]:
    if request.test is None:
        if parts.tested == parts.held:
            return holding, parts.tested_on
        return _collect(request, parts.tested, TEST_KEYFRAMES, 2, folder), parts.tested_on
    other = divide_videos(request.test)
    videos = sorted({*other.learned, *other.held, *other.tested})
    of_other = replace(request, archive=request.test)
    sites = ", ".join(sorted({video.split("/")[0] for video in videos}))
    return _collect(of_other, videos, TEST_KEYFRAMES, 2, folder), f"{len(videos)} unseen videos of {sites}"


def look(detector: nn.Module, keyframes: KeyframeSet) -> Sample:
    """Run a detector over keyframes and match its boxes with the birds."""
    sample = Sample()
    with torch.inference_mode():
        for number, truth in enumerate(keyframes.truths):
            image = torch.from_numpy(np.array(keyframes.frames[number])).permute(2, 0, 1).float().div_(255)
            (found,) = detector([image])
            sample.add(
                found["boxes"].numpy(),
                found["scores"].numpy(),
                truth,
                keyframes.resting[number],
                bool(keyframes.infrared[number]),
            )
    return sample


def choose_limits(detector: nn.Module, keyframes: KeyframeSet) -> tuple[float, float]:
    """Least score and most overlap at which recall and precision together are best (the F1 score)."""
    best = (-1.0, 0.0, 0.0)
    for nms_iou in NMS_IOUS:
        detector.score_thresh, detector.nms_thresh = MIN_SCORES[0], nms_iou  # type: ignore[assignment]
        sample = look(detector, keyframes)
        for min_score in MIN_SCORES:
            counts = sample.counts(min_score)
            f1 = 2 * counts.found / max(1, counts.truth + counts.found + counts.wrong)
            best = max(best, (f1, min_score, nms_iou))
    return best[1], best[2]


class _Losses:
    """Tells the losses now and then."""

    def __init__(self, steps: int, progress: Progress) -> None:
        self._steps, self._progress = steps, progress
        self._mean: dict[str, float] = {}

    def __call__(self, step: int, losses: dict[str, float]) -> None:
        for name, loss in losses.items():
            self._mean[name] = 0.95 * self._mean.get(name, loss) + 0.05 * loss
        if step % 50 == 0 or step + 1 == self._steps:
            words = ", ".join(f"{name} {loss:.3f}" for name, loss in self._mean.items())
            self._progress(f"step {step + 1} of {self._steps}: {words}")
