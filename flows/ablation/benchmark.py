"""What the cells of a table are trained and tested on: two reserves, simulated where none are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.ablation.cells import Fact
from flows.ablation.locks import held
from flows.annotations.labelled import read_labelled
from flows.errors import AblationError
from flows.evaluation.reserve import open_reserve
from flows.training.settings import TrainSettings
from flows.training.simulated import (
    SOCIAL_BOOST,
    TEST,
    TEST_SEED,
    TRAINING,
    TRAINING_SEED,
    SimulatedReserve,
    simulate_once,
)
from flows.training.windows import check_labels, check_learnable, cut_windows
from model.ethogram import Ethogram
from workers.clips import open_windows, windows_digest

QUICK_TRAINING = SimulatedReserve(TRAINING_SEED, 2, 8, social_boost=SOCIAL_BOOST)
QUICK_TEST = SimulatedReserve(TEST_SEED, 2, 8)
"""Enough to see that everything works, and no more."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Windows to train on and windows to test on."""

    training: Path
    """Folder of windows."""
    test: Path
    facts: dict[str, Fact]
    """What a table's protocol says of them; the same for the same pixels and truth, wherever they lie."""


def prepare_benchmark(
    settings: TrainSettings,
    out: Path,
    ethogram: Ethogram,
    *,
    quick: bool,
    workers: int,
    progress: Callable[[str], None],
) -> Benchmark:
    """Simulate what is not given, cut the windows, each once; other processes wait meanwhile.

    Args:
        settings: name the reserves, or neither.
        out: gets ``benchmark`` with the simulated reserves, and ``windows``.
        ethogram: of the labels.
        quick: simulate tiny ones.
        workers: processes that render; 1 renders in this one.
        progress: called with lines of words.

    Raises:
        AblationError: only one of the two reserves is named.
        SettingsError: it was annotated for other behaviours.
        TrainingError: ``out`` holds another simulated reserve, a reserve has labels beyond the ethogram's, or none.
        TruthMissingError: a reserve lacks a file.
        BadTruthError: its truth and its archive do not fit together.
    """
    if (settings.data is None) != (settings.test is None):
        given, missing = ("--data", "--test") if settings.test is None else ("--test", "--data")
        raise AblationError(f"{given} is named without {missing}: name both, or neither to simulate both")
    out.mkdir(parents=True, exist_ok=True)
    with held(out / "benchmark.lock", wait=True):
        training, test = settings.data, settings.test
        if training is None or test is None:
            plans = (QUICK_TRAINING, QUICK_TEST) if quick else (TRAINING, TEST)
            training, test = (out / "benchmark" / name for name in ("train", "test"))
            for root, plan in zip((training, test), plans, strict=True):
                simulate_once(root, plan, workers, progress)
        for root in (training, test):
            read_labelled(root).check_behaviours(root, ethogram.names, f"the ethogram {ethogram.name!r}")
        simulated = all(open_reserve(root).simulated for root in (training, test))
        folders = [cut_windows(root, settings, out) for root in (training, test)]
    facts: dict[str, Fact] = {"simulated": simulated}
    for name, root, folder in zip(("training", "test"), (training, test), folders, strict=True):
        windows = open_windows(folder)
        check_labels(windows, ethogram, root)
        check_learnable(windows, root)
        facts |= {
            f"{name}_videos": len(windows.light),
            f"{name}_keyframes": len(windows.grid),
            f"{name}_digest": windows_digest(windows),
        }
    return Benchmark(folders[0], folders[1], facts)
