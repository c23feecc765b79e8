"""The commands ``aviaflow train`` and ``aviaflow models``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flows.commands.shared import (
    EXIT_DONE,
    add_command,
    json_option,
    positive_int,
    print_progress,
    print_result,
)


def add_train(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands,
        "train",
        "Train the network on an annotated archive; goes on where it stopped.",
        call_train,
        goes_on=True,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML; configs/train.yaml has every key")
    parser.add_argument("--data", type=Path, metavar="DIR", help="archive/ and truth/; split.csv is kept to")
    parser.add_argument("--test", type=Path, metavar="DIR", help="other videos, to score the network on")
    parser.add_argument(
        "--ethogram",
        type=Path,
        metavar="FILE",
        help="YAML, the one of the annotations; by default the crane's",
    )
    parser.add_argument(
        "--initial", metavar="FILE", help="weights to start from; embedded, or NAME=FILE for published ones"
    )
    parser.add_argument("--sha256", metavar="HEX", help="of the file of published weights")
    parser.add_argument("--out", type=Path, metavar="DIR", help="gets weights, history, plots and logs")
    parser.add_argument("--workers", type=positive_int, metavar="N", help="the steps do not depend on it")
    parser.add_argument("--address", metavar="RAY", help="of a running Ray cluster, for example auto")
    json_option(parser)


def call_train(arguments: argparse.Namespace) -> int:
    """Train, or go on training, and print what came of it."""
    from flows.settings import CONFIGS, load_train_settings
    from flows.training.settings import initial_option
    from flows.training.train import describe_training, train_archive

    names = ("data", "test", "ethogram", "out", "workers")
    given = {name: getattr(arguments, name) for name in names}
    given["initial"] = initial_option(arguments.initial, arguments.sha256)
    settings = load_train_settings(arguments.config or CONFIGS / "train.yaml", given)
    summary = train_archive(settings, address=arguments.address)
    print_result(summary, describe_training(summary), arguments.json)
    return EXIT_DONE


def add_models(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(commands, "models", "Print size, cost and speed of each architecture.", call_models)
    parser.add_argument("architecture", nargs="*", metavar="ARCHITECTURE", help="by default all")
    parser.add_argument(
        "--no-speed", action="store_true", help="count only; the large ones take minutes to time"
    )
    json_option(parser)


def call_models(arguments: argparse.Namespace) -> int:
    """Count and time the architectures and print the survey."""
    from flows.training.models import describe_models, survey_models

    survey = survey_models(arguments.architecture, speed=not arguments.no_speed, progress=print_progress)
    print_result(survey.as_dict(), describe_models(survey), arguments.json)
    return EXIT_DONE
