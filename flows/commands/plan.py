"""The command ``aviaflow plan``."""

from __future__ import annotations

import argparse
from typing import Any

from flows.commands.shared import EXIT_DONE, add_command, json_option, positive, positive_int, print_result


def add_plan(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands, "plan", "Predict what a run would take elsewhere, from one that was measured.", call_plan
    )
    parser.add_argument("archive", metavar="ARCHIVE", help="folder of videos; only their headers are read")
    parser.add_argument("--cpus", type=positive_int, required=True, metavar="N")
    parser.add_argument("--gpus", type=_count, required=True, metavar="M", help="0: score on the processors")
    parser.add_argument("--profile", required=True, metavar="STORE", help="whose last run is the measurement")
    parser.add_argument(
        "--presence",
        type=_share,
        metavar="SHARE",
        help="of the video in which something is there; by default that of the profile",
    )
    parser.add_argument(
        "--clips-per-s",
        type=positive,
        metavar="RATE",
        help="keyframes that one actor detects and scores in a second; needed for GPUs with a profile of a CPU",
    )
    parser.add_argument(
        "--decode-workers", type=positive_int, metavar="N", help="for each camera-day under way"
    )
    parser.add_argument(
        "--actors", type=positive_int, metavar="N", help="by default one for each GPU, or one"
    )
    json_option(parser)


def call_plan(arguments: argparse.Namespace) -> int:
    """Predict the run and print it."""
    from flows.planning.rates import Hardware
    from flows.planning.report import describe_prediction, plan_document, predict_archive

    hardware = Hardware(
        arguments.cpus, arguments.gpus, arguments.actors, arguments.decode_workers, arguments.clips_per_s
    )
    plan = plan_document(predict_archive(arguments.archive, arguments.profile, hardware, arguments.presence))
    print_result(plan, describe_prediction(plan), arguments.json)
    return EXIT_DONE


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, got {text}")
    return value
