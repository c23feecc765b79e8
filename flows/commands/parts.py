"""The commands that train what stands beside the action network: ``train-detector`` and ``train-refiner``."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.commands.shared import (
    EXIT_DONE,
    add_command,
    json_option,
    positive,
    positive_int,
    print_progress,
    print_result,
)
from flows.errors import TrainingError


def add_train_detector(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands,
        "train-detector",
        "Train the detector of boxes on an annotated archive.",
        call_train_detector,
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="archive/ and truth/; split.csv is kept to"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="weights; the card comes beside"
    )
    parser.add_argument(
        "--initial", metavar="FILE", help="weights to start from; embedded for those that ship"
    )
    parser.add_argument("--test", type=Path, metavar="DIR", help="other videos, for the figures of the card")
    parser.add_argument(
        "--frames", type=positive_int, metavar="N", help="frames to learn from, repeats counted"
    )
    parser.add_argument(
        "--keyframes", type=positive_int, metavar="N", help="different ones among them, at most"
    )
    parser.add_argument("--learning-rate", type=positive, metavar="R")
    _frame_height_option(parser)
    parser.add_argument("--threads", type=positive_int, metavar="N", help="by default all processors")
    json_option(parser)


def call_train_detector(arguments: argparse.Namespace) -> int:
    """Train the detector, and print what it finds."""
    from flows.training.detector import DetectorRequest, train
    from flows.training.detector_card import card_json, describe_scores
    from model.detector import embedded_detector

    _check_weights_file(arguments.out)
    _take_threads(arguments.threads)
    request = DetectorRequest(arguments.data, arguments.out, _command(), arguments.test)
    initial = embedded_detector() if arguments.initial == "embedded" else arguments.initial
    recipe = replace(
        request.recipe, **_given(frame_budget=arguments.frames, learning_rate=arguments.learning_rate)
    )
    given = _given(keyframes=arguments.keyframes, frame_height=arguments.frame_height)
    request = replace(request, recipe=recipe, initial=None if initial is None else Path(initial), **given)
    card = train(request, print_progress)
    print_result(card_json(card), f"{describe_scores(card)}\nweights  {arguments.out}", arguments.json)
    return EXIT_DONE


def add_train_refiner(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands,
        "train-refiner",
        "Teach a refiner to read a network's scores in the light of those before and after them.",
        call_train_refiner,
    )
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", metavar="CHECKPOINT", help="whose scores; by default the embedded"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="archive/ and truth/ of individuals followed from keyframe to keyframe, not trained on; of a split.csv "
        "the validation part; by default simulated",
    )
    parser.add_argument(
        "--test",
        type=Path,
        metavar="DIR",
        help="other videos, for the figures of the card; by default the test part",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="weights; the card comes beside"
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps the scores; by default beside --out")
    parser.add_argument(
        "--steps", type=positive_int, metavar="N", help="of each of the networks that it is made of"
    )
    _frame_height_option(parser)
    parser.add_argument("--threads", type=positive_int, metavar="N", help="by default all processors")
    json_option(parser)


def call_train_refiner(arguments: argparse.Namespace) -> int:
    """Teach the refiner, and print what it changes."""
    from flows.training.refiner import RefinerRequest, make_refiner
    from flows.training.refiner_card import card_json, describe_change
    from model.checkpoint import embedded_checkpoint
    from model.refiner_training import RefinerRecipe

    _check_weights_file(arguments.out)
    _take_threads(arguments.threads)
    request = RefinerRequest(
        checkpoint=arguments.checkpoint or embedded_checkpoint(),
        data=arguments.data,
        test=arguments.test,
        out=arguments.out,
        work=arguments.work or arguments.out.parent / "refiner",
        recipe=replace(RefinerRecipe(), **_given(steps=arguments.steps)),
        command=_command(),
        **_given(frame_height=arguments.frame_height),
    )
    card = make_refiner(request, print_progress)
    print_result(card_json(card), f"{describe_change(card)}\nweights  {arguments.out}", arguments.json)
    return EXIT_DONE


def _frame_height_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--frame-height", type=positive_int, metavar="N", help="decode.frame_height of the run"
    )


def _check_weights_file(path: Path) -> None:
    """Raise :class:`TrainingError` where weights cannot be written to a path, before they are trained."""
    if path.is_dir():
        raise TrainingError(
            f"--out {path}: this is a folder, name a file in it, as {path / 'weights.safetensors'}"
        )


def _take_threads(threads: int | None) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)


def _given(**options: Any) -> dict[str, Any]:
    """Those options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _command() -> str:
    return shlex.join(["aviaflow", *sys.argv[1:]])
