"""``python -m flows.training.embedded``: make the embedded weights, from nothing but seeds.

It simulates a reserve to train on and another to test on, trains as ``aviaflow train`` does, writes the weights
and their card, and measures what it has written. What the work folder holds already (simulations, windows, a
training that was stopped or is finished) is used again.
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
from flows.settings import CONFIGS, load_ethogram, load_train_settings
from flows.training.fit import train
from flows.training.model_card import Beginning, CardFacts, DataUsed, facts_json, read_facts, write_facts
from flows.training.settings import TrainSettings
from flows.training.simulated import (
    CAMERAS,
    SECONDS,
    SOCIAL_BOOST,
    TEST_CAMERAS,
    TEST_SEED,
    TRAINING_SEED,
    SimulatedReserve,
    simulate_once,
)
from flows.training.train import train_archive
from flows.training.windows import cut_windows
from model.checkpoint import embedded_checkpoint, load_checkpoint, save_checkpoint
from model.ethogram import Ethogram
from workers.clips import WindowSet, open_windows

TRAINED_ON = "trained on simulated birds"
EVALUATE_EVERY = 2
"""Every second keyframe of the test archive is scored; neighbours differ by a quarter of a second."""


@dataclass(frozen=True, slots=True)
class Source:
    """A simulated reserve, made where it is not there yet, and the windows cut from it."""

    folder: Path
    plan: SimulatedReserve

    def windows(self, settings: TrainSettings, work: Path) -> WindowSet:
        """Its windows, cut if they are not there yet."""
        simulate_once(self.folder, self.plan, torch.get_num_threads(), report)
        return open_windows(cut_windows(self.folder, settings, work))

    def used(self, windows: WindowSet, ethogram: Ethogram) -> DataUsed:
        """What the card says about it."""
        counts = np.bincount(windows.label[windows.learnable], minlength=len(ethogram.names))
        return DataUsed(
            self.plan.seed,
            self.plan.cameras,
            self.plan.seconds,
            self.plan.social_boost,
            len(windows.grid),
            dict(zip(ethogram.names, counts.tolist(), strict=True)),
            int(windows.other.sum()),
        )


def make_weights(
    settings: TrainSettings, training: Source, test: Source, out: Path, command: str
) -> CardFacts:
    """Train, write ``out`` with its scores and card beside it, and return what the card says."""
    assert settings.out is not None
    ethogram = load_ethogram(CONFIGS / "ethogram_crane.yaml")
    windows = training.windows(settings, settings.out)
    initial = None if settings.initial is None else settings.initial.file
    before = None if initial is None else card_of(initial)
    start = None if initial is None else describe_start(initial, before)
    summary = train_archive(settings)
    unseen = test.windows(settings, settings.out)
    network, _ = load_checkpoint(Path(summary["weights"]))
    save_checkpoint(network, out, trained_on=TRAINED_ON, ethogram=ethogram.name)
    # What is measured is what was written: rounded to half precision, read back.
    network, info = load_checkpoint(out)
    facts = CardFacts(
        architecture=info.architecture,
        input_height=info.input_height,
        digest=info.digest,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        recipe=settings.recipe(len(windows.grid)),
        training=training.used(windows, ethogram),
        test=test.used(unseen, ethogram),
        minutes=summary["train_s"] / 60,
        threads=torch.get_num_threads(),
        evaluation=evaluate(network, unseen, every=EVALUATE_EVERY),
        # Of the simulated birds rather than of these weights: it holds for those that went on, too.
        single_frame=None if before is None else before.single_frame,
        single_frame_clips=0 if before is None else before.single_frame_clips,
        command=command,
        start=start,
    )
    write_facts(facts, out.parent)
    return facts


def card_of(checkpoint: Path) -> CardFacts | None:
    """The card beside a checkpoint, where there is one of these very weights."""
    if not (checkpoint.parent / "scores.json").exists():
        return None
    facts = read_facts(checkpoint.parent)
    return facts if facts.digest == load_checkpoint(checkpoint)[1].digest else None


def describe_start(initial: Path, card: CardFacts | None) -> Beginning:
    """What the card says of the weights that a training went on from."""
    if card is None:
        return Beginning(load_checkpoint(initial)[1].digest, None, None, None, None)
    score = card.evaluation.mean_average_precision["all"]
    return Beginning(card.digest, card.recipe.weighting, card.recipe.total_clips, card.training.seed, score)


def measure_single_frame(settings: TrainSettings, training: Source, test: Source, out: Path) -> CardFacts:
    """Train a network that sees only the keyframe and add its scores to the card of ``out``."""
    assert settings.out is not None
    facts = read_facts(out.parent)
    ethogram = load_ethogram(CONFIGS / "ethogram_crane.yaml")
    windows = training.windows(settings, settings.out)
    recipe = replace(settings.recipe(len(windows.grid)), single_frame=True)
    network = train(windows, ethogram.names, recipe, report)
    scores = evaluate(network, test.windows(settings, settings.out), every=EVALUATE_EVERY, single_frame=True)
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
        "--work", type=Path, default=Path("build/weights"), help="folder for archives, windows and training"
    )
    parser.add_argument(
        "--out", type=Path, default=embedded_checkpoint(), help="where the weights are written"
    )
    parser.add_argument(
        "--config", type=Path, default=CONFIGS / "train.yaml", help="recipe, as of aviaflow train"
    )
    parser.add_argument("--initial", type=Path, help="checkpoint to go on from; by default random weights")
    parser.add_argument("--seed", type=int, default=TRAINING_SEED, help="of the cameras to train on")
    parser.add_argument("--cameras", type=int, default=CAMERAS, help="simulated cameras to train on")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="length of each camera's recording")
    parser.add_argument("--clips", type=int, help="clips of the whole schedule; by default the recipe's")
    parser.add_argument(
        "--single-frame",
        action="store_true",
        help="measure what posture alone gives; keeps the weights as they are",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Run the command; the scores go to stdout as JSON."""
    options = parse(arguments)
    training = Source(
        options.work / f"train-{options.seed}",
        SimulatedReserve(options.seed, options.cameras, options.seconds, SOCIAL_BOOST),
    )
    test = Source(options.work / "test", SimulatedReserve(TEST_SEED, TEST_CAMERAS, options.seconds))
    settings = load_train_settings(
        options.config,
        {
            "data": training.folder,
            "out": options.work / f"run-{options.seed}",
            "clips": options.clips,
            "initial": options.initial,
            "trained_on": TRAINED_ON,
        },
    )
    if options.single_frame:
        facts = measure_single_frame(settings, training, test, options.out)
    else:
        command = shlex.join(["python", "-m", "flows.training.embedded", *arguments])
        facts = make_weights(settings, training, test, options.out, command)
    print(facts_json(facts))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
