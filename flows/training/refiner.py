"""``aviaflow train-refiner``: teach a refiner to read the scores of a checkpoint.

It needs individuals that are followed through videos which the checkpoint was not trained on, for a network is
surer of what it has learnt by heart. Without a folder of them it simulates some, and others to test on. The scores
that it makes are kept in the work folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flows.annotations.labelled import SPLIT_FILE, read_labelled, read_split
from flows.errors import TrainingError
from flows.evaluation.instances import WindowScores, accelerator, score_windows, video_of_boxes
from flows.evaluation.reserve import FRAME_HEIGHT
from flows.settings import CONFIGS, load_train_settings
from flows.training.refiner_card import RefinerCard, write_card
from flows.training.simulated import TEST, SimulatedReserve, simulate_once
from flows.training.windows import cut_windows
from model.checkpoint import CheckpointInfo, load_checkpoint
from model.network import ActionNetwork
from model.refiner import Refiner, RefinerShape, refine, save_refiner, series_channels
from model.refiner_training import UNKNOWN, LabelledSeries, RefinerRecipe, train_refiner
from workers.clips import WindowSet, open_windows
from workers.messages import KEYFRAME_STEP

RESERVE = SimulatedReserve(7000, 60, 60)
"""At the natural shares of the behaviours, which the refiner learns too."""
PART_KEYFRAMES = 500
Progress = Callable[[str], None]
REPORT_STEPS = 500


def score_all(network: ActionNetwork, info: CheckpointInfo, folder: Path, progress: Progress) -> WindowScores:
    """What the network says of all true boxes of the windows in a folder, kept beside them."""
    path = folder / f"scores-{info.digest[:16]}.npz"
    if not path.exists():
        windows = open_windows(folder)
        parts = []
        for start in range(0, len(windows.grid), PART_KEYFRAMES):
            chosen = np.arange(start, min(start + PART_KEYFRAMES, len(windows.grid)))
            parts.append(score_windows(network, windows, chosen, device=accelerator()))
            progress(f"scored {chosen[-1] + 1} of {len(windows.grid)} keyframes")
        names = ("row", "probabilities", "p_other", "p_dynamic")
        partial = path.with_suffix(".partial.npz")
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in names
        }
        np.savez(partial, **arrays)
        partial.replace(path)
    with np.load(path) as stored:
        return WindowScores(**{name: stored[name] for name in stored.files})


def individuals_of(windows: WindowSet, scores: WindowScores) -> list[NDArray[np.int64]]:
    """Rows of the scores of each individual of each video, in time order."""
    individual = windows.individual[scores.row]
    video = video_of_boxes(windows)[scores.row]
    birds = np.flatnonzero(individual != "")
    order = birds[
        np.lexsort((keyframe_of_boxes(windows)[scores.row[birds]], individual[birds], video[birds]))
    ]
    changes = (video[order][1:] != video[order][:-1]) | (individual[order][1:] != individual[order][:-1])
    return np.split(order, np.flatnonzero(changes) + 1) if len(order) else []


def keyframe_of_boxes(windows: WindowSet) -> NDArray[np.int64]:
    """Number in its video of each box's keyframe, shape ``(M,)``."""
    number: NDArray[np.int64] = np.repeat(windows.grid // KEYFRAME_STEP, np.diff(windows.box_start))
    return number


def labelled_series(windows: WindowSet, scores: WindowScores) -> list[LabelledSeries]:
    """The series of all individuals, to learn from."""
    return [_series(windows, scores, rows) for rows in individuals_of(windows, scores)]


def _series(windows: WindowSet, scores: WindowScores, rows: NDArray[np.int64]) -> LabelledSeries:
    box = scores.row[rows]
    place = keyframe_of_boxes(windows)[box]
    channels = series_channels(place, scores.probabilities[rows], scores.p_dynamic[rows], windows.xyxy[box])
    label = np.full(channels.shape[1], UNKNOWN, np.int64)
    label[place - place.min()] = np.where(windows.learnable[box], windows.label[box], UNKNOWN)
    return LabelledSeries(channels, label)


def confusion(windows: WindowSet, scores: WindowScores, refiner: Refiner | None) -> NDArray[np.int64]:
    """How often the strongest behaviour (column) was said of true ones (row), with or without a refiner."""
    classes = scores.probabilities.shape[1]
    counts = np.zeros((classes, classes), np.int64)
    for rows in individuals_of(windows, scores):
        box, said = scores.row[rows], scores.probabilities[rows]
        if refiner is not None:
            place = keyframe_of_boxes(windows)[box]
            said = refine(refiner, place, said, scores.p_dynamic[rows], windows.xyxy[box])
        counted = windows.learnable[box]
        np.add.at(counts, (windows.label[box][counted], said[counted].argmax(axis=1)), 1)
    return counts


@dataclass(frozen=True, slots=True)
class Source:
    """Videos with truth."""

    root: Path
    """Holds ``archive`` and ``truth``."""
    part: str | None = None
    """The only part of its ``split.csv`` that is taken."""


@dataclass(frozen=True, slots=True)
class RefinerRequest:
    """What the training of a refiner is told."""

    checkpoint: Path
    """Whose scores it reads."""
    data: Path | None
    """What to learn from; None simulates it."""
    test: Path | None
    """What to measure on; None is the test part of ``data``, or simulated."""
    out: Path
    """The file of weights; the card comes beside it."""
    work: Path
    """Gets simulations, windows and scores."""
    recipe: RefinerRecipe
    command: str
    frame_height: int = FRAME_HEIGHT
    """Lines at which a run decodes."""


def make_refiner(request: RefinerRequest, progress: Progress) -> RefinerCard:
    """Score both sources, train, write the weights with their card, and return what the card says.

    Raises:
        ModelError: the checkpoint cannot be used.
        TruthMissingError: a reserve is incomplete.
        SplitFileError: it has no such part, or truth and split do not fit together.
        BadTruthError: its truth and its videos do not fit together.
        SettingsError: the height of frames is none that a run takes, or the annotations are of other behaviours.
        TrainingError: there are no individuals to learn from, or only one source and no split of it.
    """
    network, info = load_checkpoint(request.checkpoint)
    cut = {"architecture": info.architecture, "frame_height": request.frame_height}
    settings = load_train_settings(CONFIGS / "train.yaml", cut)
    sources = _sources(request, progress)
    labelled = [read_labelled(source.root) for source in sources]
    for source, its in zip(sources, labelled, strict=True):
        its.check_behaviours(source.root, info.behaviours, str(request.checkpoint))
    folders = [cut_windows(source.root, settings, request.work, source.part) for source in sources]
    windows, unseen = (open_windows(folder) for folder in folders)
    for source, of_source in zip(sources, (windows, unseen), strict=True):
        _check_individuals(of_source, source.root)
    scores = [score_all(network, info, folder, progress) for folder in folders]
    series = labelled_series(windows, scores[0])
    started, shape = time.monotonic(), RefinerShape()
    refiner = train_refiner(series, len(info.behaviours), shape, request.recipe, _Losses(progress))
    minutes = (time.monotonic() - started) / 60
    written = save_refiner(
        refiner,
        request.out,
        info.behaviours,
        reads=info.digest,
        trained_on="simulated birds" if labelled[0].simulated else sources[0].root.resolve().name,
    )
    card = RefinerCard(
        info=written,
        recipe=request.recipe,
        parameters=sum(tensor.size for tensor in refiner.tensors.values()),
        individuals=len(series),
        keyframes=sum(int((one.label != UNKNOWN).sum()) for one in series),
        minutes=minutes,
        threads=torch.get_num_threads(),
        before=confusion(unseen, scores[1], None).tolist(),
        after=confusion(unseen, scores[1], refiner).tolist(),
        command=request.command,
    )
    write_card(card, request.out.with_suffix(".CARD.md"))
    return card


def _sources(request: RefinerRequest, progress: Progress) -> tuple[Source, Source]:
    """What to learn from and what to measure on; simulated where nothing is named.

    Of ``data`` with a split the training part is never taken: the checkpoint may know it by heart.
    """
    data, test = request.data, request.test
    has_split = data is not None and read_split(data) is not None
    if data is not None and test is None:
        if not has_split:
            raise TrainingError(
                f"{data / SPLIT_FILE}: there is no such file, so there is no part to measure on: name other videos "
                "with --test"
            )
        return Source(data, "validation"), Source(data, "test")
    if data is None:
        data = request.work / f"refine-{RESERVE.seed}"
        simulate_once(data, RESERVE, torch.get_num_threads(), progress)
    if test is None:
        test = request.work / "test"
        simulate_once(test, TEST, torch.get_num_threads(), progress)
    return Source(data, "validation" if has_split else None), Source(test)


def _check_individuals(windows: WindowSet, root: Path) -> None:
    if not (windows.learnable & (windows.individual != "")).any():
        raise TrainingError(
            f"{root / 'truth' / 'boxes.csv'}: no box has an individual with a behaviour, so there is nothing to follow "
            "through time: annotate who is who (`individual` in VIA) at every keyframe"
        )


class _Losses:
    """Tells the loss now and then."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __call__(self, step: int, loss: float) -> None:
        if (step + 1) % REPORT_STEPS == 0:
            self._progress(f"step {step + 1}: loss {loss:.3f}")
