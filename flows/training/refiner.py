"""``python -m flows.training.refiner``: teach a refiner to read the scores of a checkpoint.

It needs individuals that are followed through videos which the checkpoint was not trained on, for a network is
surer of what it has learnt by heart. Without ``--reserve`` it simulates them, and others to test on. The scores that
it makes are kept in the work folder.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flows.evaluation.instances import WindowScores, score_windows, video_of_boxes
from flows.settings import CONFIGS, load_train_settings
from flows.training.refiner_card import RefinerCard, write_card
from flows.training.simulated import TEST, SimulatedReserve, simulate_once
from flows.training.train import cut_windows
from model.checkpoint import CheckpointInfo, embedded_checkpoint, load_checkpoint
from model.network import ActionNetwork
from model.refiner import Refiner, RefinerShape, embedded_refiner, refine, save_refiner, series_channels
from model.refiner_training import UNKNOWN, LabelledSeries, RefinerRecipe, train_refiner
from workers.clips import WindowSet, open_windows
from workers.messages import KEYFRAME_STEP

RESERVE = SimulatedReserve(7000, 60, 60)
"""At the natural shares of the behaviours, which the refiner learns too."""
PART_KEYFRAMES = 500
REPORT_STEPS = 500


def score_all(network: ActionNetwork, info: CheckpointInfo, folder: Path) -> WindowScores:
    """What the network says of all true boxes of the windows in a folder, kept beside them."""
    path = folder / f"scores-{info.digest[:16]}.npz"
    if not path.exists():
        windows = open_windows(folder)
        parts = []
        for start in range(0, len(windows.grid), PART_KEYFRAMES):
            chosen = np.arange(start, min(start + PART_KEYFRAMES, len(windows.grid)))
            parts.append(score_windows(network, windows, chosen))
            report(f"scored {chosen[-1] + 1} of {len(windows.grid)} keyframes")
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


def make_refiner(
    checkpoint: Path,
    training: Source,
    test: Source,
    out: Path,
    recipe: RefinerRecipe,
    work: Path,
    command: str,
) -> RefinerCard:
    """Score both sources, train, write ``out`` with its card beside it, and return what the card says.

    Raises:
        ModelError: the checkpoint cannot be used.
        TruthMissingError: a reserve is incomplete.
        SplitFileError: it has no such part.
        BadTruthError: its truth and its videos do not fit together.
    """
    network, info = load_checkpoint(checkpoint)
    settings = load_train_settings(CONFIGS / "train.yaml", {"architecture": info.architecture})
    folders = [cut_windows(source.root, settings, work, source.part) for source in (training, test)]
    scores = [score_all(network, info, folder) for folder in folders]
    windows, unseen = (open_windows(folder) for folder in folders)
    series = labelled_series(windows, scores[0])
    started, shape = time.monotonic(), RefinerShape()
    refiner = train_refiner(series, len(info.behaviours), shape, recipe, _report_step)
    minutes = (time.monotonic() - started) / 60
    written = save_refiner(
        refiner,
        out,
        info.behaviours,
        reads=info.digest,
        trained_on=info.trained_on.removeprefix("trained on "),
    )
    card = RefinerCard(
        info=written,
        recipe=recipe,
        parameters=sum(tensor.size for tensor in refiner.tensors.values()),
        individuals=len(series),
        keyframes=sum(int((one.label != UNKNOWN).sum()) for one in series),
        minutes=minutes,
        threads=torch.get_num_threads(),
        before=confusion(unseen, scores[1], None).tolist(),
        after=confusion(unseen, scores[1], refiner).tolist(),
        command=command,
    )
    write_card(card, out.with_suffix(".CARD.md"))
    return card


def _sources(reserve: Path | None, test: Path | None, work: Path) -> tuple[Source, Source]:
    """What to learn from and what to measure on; simulated where nothing is named."""
    if reserve is not None and test is None:
        return Source(reserve, "validation"), Source(reserve, "test")
    roots = reserve or work / f"refine-{RESERVE.seed}", test or work / "test"
    for root, given, plan in zip(roots, (reserve, test), (RESERVE, TEST), strict=True):
        if given is None:
            simulate_once(root, plan, torch.get_num_threads(), report)
    return Source(roots[0]), Source(roots[1])


def _report_step(step: int, loss: float) -> None:
    if (step + 1) % REPORT_STEPS == 0:
        report(f"step {step + 1}: loss {loss:.3f}")


def report(line: str) -> None:
    """Say on stderr how far it has come."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)  # noqa: T201


def main(arguments: Sequence[str]) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(prog="python -m flows.training.refiner", description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=Path("build/weights"), help="folder for simulations and scores"
    )
    parser.add_argument(
        "--checkpoint", type=Path, default=embedded_checkpoint(), help="whose scores it reads"
    )
    parser.add_argument(
        "--reserve",
        type=Path,
        help="folder with archive/ and truth/ of individuals followed from keyframe to keyframe; without --test "
        "it learns from the validation part of its split.csv and is measured on the test part",
    )
    parser.add_argument("--test", type=Path, help="another such folder, for the figures of the card")
    parser.add_argument("--out", type=Path, default=embedded_refiner(), help="where the weights are written")
    parser.add_argument("--steps", type=int, default=RefinerRecipe().steps)
    parser.add_argument("--threads", type=int, help="CPU threads; by default all processors")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    training, test = _sources(options.reserve, options.test, options.work)
    recipe = replace(RefinerRecipe(), steps=options.steps)
    command = shlex.join(["python", "-m", "flows.training.refiner", *arguments])
    card = make_refiner(options.checkpoint, training, test, options.out, recipe, options.work, command)
    before, after = card.share_right(card.before), card.share_right(card.after)
    report(f"right at {before:.1%} of the unseen keyframes before, {after:.1%} after")


if __name__ == "__main__":
    main(sys.argv[1:])
