"""Train the small bird detector on an annotated archive and write its weights with a card.

``python -m flows.training.detector --archive DIR --out model/weights``, where ``DIR`` holds ``archive`` and
``truth`` as the simulator writes them. The figures of the card are of the archive given with ``--test``, and
without one of cameras of ``DIR`` that were kept out of the training.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flows.training.detector_card import DetectorCard, Sample, score_table, write_card
from model.detector import DetectorShape, build_detector, load_detector, save_detector
from model.detector_augment import FrameTruth
from model.detector_training import DetectorRecipe, train_detector
from model.engines.torch_engine import trains_in_bf16
from workers.clips import TruthBox, frame_times, grid_indices, light_of_videos, read_truth
from workers.errors import BadTruthError
from workers.messages import KEYFRAME_STEP

FRAME_HEIGHT = 216
"""Lines of the frames, as the pipeline decodes them by default."""
KEYFRAMES = 8000
"""Keyframes to train on, spread evenly over the videos."""
TEST_KEYFRAMES = 1500
RESTING_KEYFRAMES = 75
"""A bird that is in at least so many keyframes of a video, 20 s, and moves in none of them is a resting one."""
EMPTY_SHARE = 0.1
"""Share of the training keyframes in which nothing is there."""
KEPT_OUT = 8
"""One camera in this many is kept out of the training, to choose the least score and the overlap."""
MIN_SCORES = tuple(round(0.20 + 0.02 * step, 2) for step in range(26))
NMS_IOUS = (0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
TRAINED_ON = "simulated birds"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class KeyframeSet:
    """Keyframes of an annotated archive with their birds."""

    frames: NDArray[np.uint8]
    """RGB pixels, shape ``(N, H, W, 3)``."""
    truths: tuple[FrameTruth, ...]
    resting: tuple[NDArray[np.bool_], ...]
    """Per keyframe, which of its birds rest through the video."""
    infrared: NDArray[np.bool_]
    """Which keyframes are infrared, shape ``(N,)``."""


def list_cameras(root: Path) -> dict[str, list[str]]:
    """Videos with truth, by the folder of their camera.

    Raises:
        BadTruthError: the truth cannot be read, or has no boxes.
    """
    cameras: dict[str, list[str]] = {}
    for video in sorted(read_truth(root / "truth")):
        cameras.setdefault(str(Path(video).parent), []).append(video)
    if not cameras:
        raise BadTruthError(f"{root / 'truth' / 'boxes.csv'} has no boxes")
    return cameras


def collect_keyframes(root: Path, videos: Sequence[str], count: int, seed: int, cache: Path) -> KeyframeSet:
    """Decode keyframes of some videos, evenly spread over them, into a memory map in the folder ``cache``.

    Raises:
        BadTruthError: truth and videos do not fit together.
    """
    truth = read_truth(root / "truth")
    infrared = dict(zip(videos, light_of_videos(root / "truth" / "reserve.json", list(videos)), strict=True))
    rng = np.random.default_rng(seed)
    frames: NDArray[np.uint8] | None = None
    truths: list[FrameTruth] = []
    rests: list[NDArray[np.bool_]] = []
    dark: list[bool] = []
    per_video = max(1, count // len(videos))
    for video in videos:
        resting = _resting_individuals(truth.get(video, {}))
        for grid, pixels in _decode_some(root / "archive" / video, truth.get(video, {}), per_video, rng):
            if frames is None:
                shape = (per_video * len(videos), *pixels.shape)
                frames = np.lib.format.open_memmap(cache / f"frames-{seed}.npy", "w+", np.uint8, shape)
            if pixels.shape != frames.shape[1:]:
                raise BadTruthError(f"{video}: its aspect ratio differs from the others', train them apart")
            frames[len(truths)] = pixels
            birds = [box for box in truth.get(video, {}).get(grid, []) if box.label >= 0]
            truths.append(_frame_truth(birds, pixels.shape[0], pixels.shape[1]))
            rests.append(np.array([bird.individual in resting for bird in birds], bool))
            dark.append(infrared[video].startswith("infrared"))
        log.info("decoded %d keyframes", len(truths))
    if frames is None:
        raise BadTruthError(f"{root}: no video has a frame")
    return KeyframeSet(frames[: len(truths)], tuple(truths), tuple(rests), np.array(dark, bool))


def _resting_individuals(truth: Mapping[int, Sequence[TruthBox]]) -> set[str]:
    """Individuals of one video that are long in it and never move, which motion against a plate cannot see."""
    birds = [box for boxes in truth.values() for box in boxes if box.label >= 0]
    keyframes = Counter(bird.individual for bird in birds)
    moving = {bird.individual for bird in birds if bird.dynamic}
    return {name for name, count in keyframes.items() if count >= RESTING_KEYFRAMES and name not in moving}


def _decode_some(
    path: Path, truth: Mapping[int, Sequence[TruthBox]], count: int, rng: np.random.Generator
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Grid index and pixels of up to ``count`` keyframes, evenly spread."""
    frame_of_grid = grid_indices(frame_times(path))
    chosen = choose_moments(range(0, len(frame_of_grid), KEYFRAME_STEP), truth, count, rng)
    moments = {int(frame_of_grid[grid]): grid for grid in chosen}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        width = 2 * round(stream.width * FRAME_HEIGHT / stream.height / 2)
        for number, frame in enumerate(container.decode(stream)):
            if number in moments:
                picture = frame.reformat(width, FRAME_HEIGHT, format="rgb24", interpolation="BICUBIC")
                yield moments[number], picture.to_ndarray()


def choose_moments(
    moments: Sequence[int], truth: Mapping[int, object], count: int, rng: np.random.Generator
) -> list[int]:
    """Up to ``count`` moments, evenly spread; where there are more, few with nothing in the frame."""
    if len(moments) <= count:
        return list(moments)
    occupied = [moment for moment in moments if moment in truth]
    empty = [moment for moment in moments if moment not in truth]
    num_empty = min(len(empty), max(round(EMPTY_SHARE * count), count - len(occupied)))
    chosen = [
        part[int(place)]
        for part, number in ((occupied, count - num_empty), (empty, num_empty))
        for place in (np.arange(number) + rng.random()) * (len(part) / max(1, number))
    ]
    return sorted(chosen)


def _frame_truth(birds: Sequence[TruthBox], height: int, width: int) -> FrameTruth:
    xyxy = np.array([bird.xyxy for bird in birds], np.float32).reshape(-1, 4)
    ignored = np.array([not bird.learnable for bird in birds], bool)
    return FrameTruth(xyxy * np.array([width, height, width, height], np.float32), ignored)


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


def train(
    archive: Path,
    out: Path,
    test: Path | None,
    recipe: DetectorRecipe,
    shape: DetectorShape,
    keyframes: int = KEYFRAMES,
) -> DetectorCard:
    """Train, choose the limits, measure, and write ``crane_detector.safetensors`` with its card into ``out``.

    Raises:
        BadTruthError: an archive and its truth do not fit together.
    """
    cameras = list_cameras(archive)
    kept_out = sorted(cameras)[::KEPT_OUT] if len(cameras) > 1 else []
    learned = [video for camera in cameras if camera not in kept_out for video in cameras[camera]]
    held = [video for camera in kept_out for video in cameras[camera]] or learned
    weights = out / "crane_detector.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        training = collect_keyframes(archive, learned, keyframes, recipe.seed, Path(folder))
        holding = collect_keyframes(archive, held, keyframes // KEPT_OUT, recipe.seed + 1, Path(folder))
        started = time.monotonic()
        detector = build_detector(shape)
        progress = _Progress(recipe.steps)
        train_detector(detector, training.frames, training.truths, recipe, progress, trains_in_bf16("cpu"))
        minutes = (time.monotonic() - started) / 60
        min_score, nms_iou = choose_limits(detector, holding)
        info = save_detector(detector, weights, shape, TRAINED_ON, min_score, nms_iou)
        tested, tested_on = holding, f"{len(kept_out)} cameras kept out of the training"
        if test is not None:
            videos = [video for camera in list_cameras(test).values() for video in camera]
            tested = collect_keyframes(test, videos, TEST_KEYFRAMES, recipe.seed + 2, Path(folder))
            tested_on = (
                f"{len(videos)} unseen videos of {', '.join(sorted({v.split('/')[0] for v in videos}))}"
            )
        sample = look(load_detector(weights)[0], tested)
        card = DetectorCard(
            info=info,
            recipe=recipe,
            parameters=sum(parameter.numel() for parameter in detector.parameters()),
            size_bytes=weights.stat().st_size,
            cameras=len(cameras) - len(kept_out),
            keyframes=len(training.truths),
            birds=sum(int((~truth.ignored).sum()) for truth in training.truths),
            minutes=minutes,
            threads=torch.get_num_threads(),
            tested_on=tested_on,
            scores=score_table(sample, min_score),
        )
    write_card(card, out / "crane_detector.CARD.md")
    return card


class _Progress:
    """Logs the losses now and then."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._mean: dict[str, float] = {}

    def __call__(self, step: int, losses: dict[str, float]) -> None:
        for name, loss in losses.items():
            self._mean[name] = 0.95 * self._mean.get(name, loss) + 0.05 * loss
        if step % 50 == 0 or step + 1 == self._steps:
            words = ", ".join(f"{name} {loss:.3f}" for name, loss in self._mean.items())
            log.info("step %d of %d: %s", step + 1, self._steps, words)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(prog="python -m flows.training.detector", description=__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="folder with archive/ and truth/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and the card")
    parser.add_argument("--test", type=Path, help="another such folder, for the figures of the card")
    parser.add_argument(
        "--frames", type=int, default=DetectorRecipe().frame_budget, help="frames to learn from"
    )
    parser.add_argument("--keyframes", type=int, default=KEYFRAMES, help="different ones among them")
    parser.add_argument("--threads", type=int, help="CPU threads; by default all processors")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = replace(DetectorRecipe(), frame_budget=options.frames)
    card = train(options.archive, options.out, options.test, recipe, DetectorShape(), options.keyframes)
    for row in card.scores:
        log.info("%s: recall %.3f, precision %.3f", row.name, row.counts.recall, row.counts.precision)


if __name__ == "__main__":
    main()
