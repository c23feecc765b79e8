"""``python -m flows.training.embedded``: make the embedded weights, from nothing but seeds.

It simulates a reserve to train on and another to test on, cuts windows from both, trains, writes the weights
and their card, and measures what it has written. Finished simulations and windows in the work folder are used
again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from flows.evaluation.instances import evaluate
from flows.settings import CONFIGS, load_ethogram
from flows.training.fit import Recipe, train
from flows.training.model_card import CardFacts, DataUsed, facts_json, read_facts, write_facts
from model.checkpoint import embedded_checkpoint, load_checkpoint, save_checkpoint
from model.ethogram import Ethogram
from workers.clips import WindowSet, build_windows, open_windows
from workers.simulate.archive import simulate_archive

TRAINED_ON = "trained on simulated birds"
TRAINING_SEED, TEST_SEED = 1000, 5000
"""Far from each other and from every seed that is used to measure the whole pipeline."""
TEST_CAMERAS = 30
SOCIAL_BOOST = 3.0
EVALUATE_EVERY = 2
"""Every second keyframe of the test archive is scored; neighbours differ by a quarter of a second."""


@dataclass(frozen=True, slots=True)
class Source:
    """A simulated archive to be made, and the windows cut from it."""

    folder: Path
    seed: int
    cameras: int
    seconds: int
    social_boost: float

    def windows(self, workers: int) -> WindowSet:
        """Simulate and cut what is not there yet."""
        ready, index = self.folder / "READY", self.folder / "windows" / "index.npz"
        if not ready.exists():
            report(f"simulating {self.cameras} cameras of {self.seconds} s, seed {self.seed}")
            simulate_archive(
                self.folder,
                videos=self.cameras,
                seconds=self.seconds,
                seed=self.seed,
                videos_per_camera=1,
                social_boost=self.social_boost,
                workers=workers,
            )
            ready.write_text(f"seed {self.seed}\n")
        if not index.exists():
            build_windows(self.folder, self.folder / "windows", seed=self.seed, progress=report)
        return open_windows(self.folder / "windows")

    def used(self, windows: WindowSet, ethogram: Ethogram) -> DataUsed:
        """What the card says about it."""
        counts = np.bincount(windows.label[windows.learnable], minlength=len(ethogram.names))
        return DataUsed(
            self.seed,
            self.cameras,
            self.seconds,
            self.social_boost,
            len(windows.grid),
            dict(zip(ethogram.names, counts.tolist(), strict=True)),
            int(windows.other.sum()),
        )


def make_weights(recipe: Recipe, training: Source, test: Source, out: Path, command: str) -> CardFacts:
    """Train, write ``out`` with its scores and card beside it, and return what the card says."""
    ethogram = load_ethogram(CONFIGS / "ethogram_crane.yaml")
    threads = torch.get_num_threads()
    windows, unseen = training.windows(threads), test.windows(threads)
    started = time.monotonic()
    network = train(windows, ethogram.names, recipe, report)
    minutes = (time.monotonic() - started) / 60
    save_checkpoint(network, out, trained_on=TRAINED_ON, ethogram=ethogram.name)
    # What is measured is what was written: rounded to half precision, read back.
    network, info = load_checkpoint(out)
    facts = CardFacts(
        architecture=info.architecture,
        input_height=info.input_height,
        digest=info.digest,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        recipe=recipe,
        training=training.used(windows, ethogram),
        test=test.used(unseen, ethogram),
        minutes=minutes,
        threads=threads,
        evaluation=evaluate(network, unseen, every=EVALUATE_EVERY),
        single_frame=None,
        single_frame_clips=0,
        command=command,
    )
    write_facts(facts, out.parent)
    return facts


def measure_single_frame(recipe: Recipe, training: Source, test: Source, out: Path) -> CardFacts:
    """Train a network that sees only the keyframe and add its scores to the card of ``out``."""
    facts = read_facts(out.parent)
    ethogram = load_ethogram(CONFIGS / "ethogram_crane.yaml")
    threads = torch.get_num_threads()
    recipe = replace(recipe, single_frame=True)
    network = train(training.windows(threads), ethogram.names, recipe, report)
    scores = evaluate(network, test.windows(threads), every=EVALUATE_EVERY, single_frame=True)
    facts = replace(facts, single_frame=scores, single_frame_clips=recipe.total_clips)
    write_facts(facts, out.parent)
    return facts


def report(line: str) -> None:
    """Say on stderr how far it has come."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)  # noqa: T201


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.training.embedded", description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=Path("build/training"), help="folder for archives and windows"
    )
    parser.add_argument(
        "--out", type=Path, default=embedded_checkpoint(), help="where the weights are written"
    )
    parser.add_argument("--cameras", type=int, default=90, help="simulated cameras to train on")
    parser.add_argument("--seconds", type=int, default=40, help="length of each camera's recording")
    parser.add_argument("--clips", type=int, default=17_500, help="clips of the whole training schedule")
    parser.add_argument(
        "--single-frame",
        action="store_true",
        help="measure what posture alone gives; keeps the weights as they are",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Run the command; the scores go to stdout as JSON."""
    options = parse(arguments)
    recipe = Recipe(total_clips=options.clips)
    training = Source(options.work / "train", TRAINING_SEED, options.cameras, options.seconds, SOCIAL_BOOST)
    test = Source(options.work / "test", TEST_SEED, TEST_CAMERAS, options.seconds, 1.0)
    if options.single_frame:
        facts = measure_single_frame(recipe, training, test, options.out)
    else:
        command = shlex.join(["python", "-m", "flows.training.embedded", *arguments])
        facts = make_weights(recipe, training, test, options.out, command)
    print(facts_json(facts))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
