"""``aviaflow evaluate``: the three scores of a checkpoint on a reserve whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.errors import SettingsError
from flows.evaluation.box_scores import (
    ScoreColumn,
    ScoredBoxes,
    TrueBoxes,
    box_agreement,
    frame_rankings,
    instance_rankings,
    score_column,
)
from flows.evaluation.found_boxes import FoundBoxes, find_boxes
from flows.evaluation.instances import (
    ALL,
    Evaluation,
    WindowScores,
    accelerator,
    score_windows,
    summarise,
    video_of_boxes,
)
from flows.evaluation.reserve import Reserve, open_reserve, reserve_windows
from flows.nightly.context import detector_facts, detector_spec
from flows.settings import Settings
from model.bootstrap import REPLICATES, draw_videos
from model.checkpoint import CheckpointInfo, load_checkpoint
from model.errors import ModelError
from workers.clips import WindowSet
from workers.detectors import DetectorSpec
from workers.infer import Scorer

_IMAGES_PER_VIDEO = 1 << 32


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Everything that ``aviaflow evaluate`` measures."""

    checkpoint: str
    """File name."""
    digest: str
    architecture: str
    trained_on: str
    detector: str
    """Which detector found the boxes, and what it was trained on."""
    reserve: str
    part: str | None
    """The only part of the reserve's split that was scored."""
    is_split: bool
    """Whether the reserve has a split, of which a checkpoint may have been trained on a part."""
    simulated: bool
    behaviours: tuple[str, ...]
    videos: int
    keyframes: int
    """Keyframes that were looked at for found boxes."""
    every: int
    """Every how-manieth keyframe was taken."""
    max_rows_per_image: int | None
    replicates: int
    """Of the bootstrap over videos."""
    scores: dict[str, dict[str, ScoreColumn]]
    """``paper_map``, ``frame_map_true`` and ``frame_map_detected``, each by lighting."""
    box_recall: float | None
    """Share of the birds asked for that were found, at IoU 0.5."""
    box_precision: float | None
    true_boxes: Evaluation
    """Motion, reject and confusion on the true boxes."""


def evaluate_reserve(
    checkpoint: Path,
    root: Path,
    *,
    settings: Settings | None = None,
    part: str | None = None,
    every: int = 2,
    max_rows_per_image: int | None = None,
    scratch: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> EvaluationReport:
    """Measure a checkpoint on a reserve, with true boxes and with those that a run finds.

    Args:
        checkpoint: the weights.
        root: folder with ``archive`` and ``truth``.
        settings: of the run, of which the detector and the height of frames are taken; by default the defaults.
        part: the only part of its ``split.csv`` that is scored; by default everything.
        every: every how-manieth keyframe is taken; neighbours are 4/15 s apart.
        max_rows_per_image: AVA's evaluator keeps 50 rows of an image in frame-mAP; None keeps all.
        scratch: folder for windows that are not there yet; by default the system's.
        progress: called with lines of words.

    Raises:
        SettingsError: the checkpoint cannot be used, or does not fit the truth, or there is no such part.
        ModelError: the detector's weights cannot be used.
        SplitFileError: truth and split do not fit together.
        TruthMissingError: the reserve is not complete.
        WorkerError: a video or the truth cannot be read.
    """
    reserve, settings = open_reserve(root, part), settings or Settings()
    detector = detector_spec(str(root / "archive"), settings)
    detector_words = _in_words(detector)
    height = settings.decode.frame_height
    try:
        network, info = load_checkpoint(checkpoint)
    except ModelError as error:
        raise SettingsError(str(error)) from error
    _check_names(reserve, info, checkpoint)
    with reserve_windows(reserve, info.input_height, height, scratch, progress) as windows:
        _check_labels(windows, info.behaviours, checkpoint)
        keyframes = reserve.keyframes(windows, every)
        if not keyframes.size:
            raise SettingsError(
                f"no keyframe with a true box is left of every {every}th; take a smaller number"
            )
        progress(f"scoring the true boxes of {len(keyframes)} keyframes")
        on_true = score_windows(network, windows, keyframes, device=accelerator())
        found = _find(reserve, windows, checkpoint, detector, height, every, progress)
        return _report(
            checkpoint, info, reserve, windows, on_true, found, detector_words, every, max_rows_per_image
        )


def _find(
    reserve: Reserve,
    windows: WindowSet,
    checkpoint: Path,
    detector: DetectorSpec,
    frame_height: int,
    every: int,
    progress: Callable[[str], None],
) -> dict[str, FoundBoxes]:
    return find_boxes(
        reserve.root / "archive",
        Scorer(checkpoint, accelerator()),
        detector,
        lambda uri, length: reserve.moments(windows, uri, length, every),
        device=accelerator(),
        frame_height=frame_height,
        videos=reserve.videos,
        progress=progress,
    )


def _report(
    checkpoint: Path,
    info: CheckpointInfo,
    reserve: Reserve,
    windows: WindowSet,
    on_true: WindowScores,
    found: dict[str, FoundBoxes],
    detector: str,
    every: int,
    max_rows_per_image: int | None,
) -> EvaluationReport:
    names = info.behaviours
    true, of_true = true_boxes(windows, on_true)
    of_found = _numbered(found, reserve.videos, len(names))
    recall, precision = box_agreement(true, of_found)
    return EvaluationReport(
        checkpoint=checkpoint.name,
        digest=info.digest,
        architecture=info.architecture,
        trained_on=info.trained_on,
        detector=detector,
        reserve=reserve.root.name,
        part=reserve.part,
        is_split=reserve.is_split,
        simulated=reserve.simulated,
        behaviours=names,
        videos=len(reserve.videos),
        keyframes=sum(boxes.keyframes for boxes in found.values()),
        every=every,
        max_rows_per_image=max_rows_per_image,
        replicates=REPLICATES,
        scores=three_scores(true, of_true, of_found, names, reserve.of_light(), max_rows_per_image),
        box_recall=recall,
        box_precision=precision,
        true_boxes=summarise(names, windows, on_true),
    )


def _in_words(detector: DetectorSpec) -> str:
    _, taught = detector_facts(detector)
    motion = ", and motion" if detector.name == "auto" else ""
    return detector.name + (f": a detector {taught}{motion}" if taught else "")


def three_scores(
    true: TrueBoxes,
    on_true: ScoredBoxes,
    on_found: ScoredBoxes,
    names: Sequence[str],
    of_light: dict[str, NDArray[np.bool_]],
    max_rows_per_image: int | None = None,
) -> dict[str, dict[str, ScoreColumn]]:
    """The three scores by lighting; all replicates of all of them draw the same videos."""
    num_videos = len(of_light[ALL])
    draws = draw_videos(num_videos)
    rankings = {
        "paper_map": instance_rankings(true, on_true.probabilities, names, num_videos),
        "frame_map_true": frame_rankings(true, on_true, names, num_videos, max_rows_per_image),
        "frame_map_detected": frame_rankings(true, on_found, names, num_videos, max_rows_per_image),
    }
    return {
        score: {light: score_column(of_score, chosen, draws) for light, chosen in of_light.items()}
        for score, of_score in rankings.items()
    }


def _check_names(reserve: Reserve, info: CheckpointInfo, checkpoint: Path) -> None:
    if reserve.behaviours is not None and reserve.behaviours != info.behaviours:
        raise SettingsError(
            f"{checkpoint.name} was trained for {', '.join(info.behaviours)}, the truth of {reserve.root} is of "
            f"{', '.join(reserve.behaviours)}; take a checkpoint that was trained for the truth's ethogram"
        )


def _check_labels(windows: WindowSet, names: Sequence[str], checkpoint: Path) -> None:
    highest = int(windows.label.max(initial=-1)) + 1
    if highest > len(names):
        raise SettingsError(
            f"{checkpoint.name} knows {len(names)} behaviours ({', '.join(names)}), the truth has label {highest}; "
            "take a checkpoint that was trained for the truth's ethogram"
        )


def true_boxes(windows: WindowSet, scores: WindowScores) -> tuple[TrueBoxes, ScoredBoxes]:
    """The individuals among the scored boxes, and what the network says of them, row by row."""
    row = scores.row[windows.label[scores.row] >= 0]
    video = video_of_boxes(windows)[row]
    image = video * _IMAGES_PER_VIDEO + np.repeat(windows.grid, np.diff(windows.box_start))[row]
    xyxy = windows.xyxy[row].astype(np.float64)
    probabilities = scores.probabilities[windows.label[scores.row] >= 0]
    return (
        TrueBoxes(video, image, xyxy, windows.label[row], windows.learnable[row]),
        ScoredBoxes(video, image, xyxy, probabilities),
    )


def _numbered(found: dict[str, FoundBoxes], videos: Sequence[str], num_behaviours: int) -> ScoredBoxes:
    """The found boxes of all videos, with the numbers of the true ones."""
    parts = [found[uri] for uri in videos]
    video = np.repeat(np.arange(len(parts), dtype=np.int64), [len(boxes.grid) for boxes in parts])
    return ScoredBoxes(
        video,
        video * _IMAGES_PER_VIDEO + np.concatenate([boxes.grid for boxes in parts]),
        np.concatenate([boxes.xyxy for boxes in parts]).astype(np.float64),
        np.concatenate([boxes.probabilities for boxes in parts]).reshape(-1, num_behaviours),
    )
