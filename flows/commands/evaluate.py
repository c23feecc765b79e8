"""The command ``aviaflow evaluate``."""

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
from storage.analysis.split import PARTS


def add_evaluate(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands,
        "evaluate",
        "Score a checkpoint on a reserve whose truth is known, with true and with found boxes.",
        call_evaluate,
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", metavar="CHECKPOINT", help="by default the run's")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML of a run, for its detector, height of frames and checkpoint; configs/local.yaml has every key",
    )
    parser.add_argument(
        "--reserve", type=Path, required=True, metavar="DIR", help="folder with archive/ and truth/"
    )
    parser.add_argument(
        "--part", choices=PARTS, help="score one part of the folder's split.csv; by default all videos"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="gets the scores as JSON, CSV and PNG")
    parser.add_argument(
        "--every", type=positive_int, default=2, metavar="N", help="take every Nth keyframe (default 2)"
    )
    parser.add_argument(
        "--max-rows-per-image",
        type=positive_int,
        metavar="N",
        help="rows of an image that frame-mAP keeps; AVA's evaluator has 50, the default is all",
    )
    json_option(parser)


def call_evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate, write what ``--out`` asks for, and print the result."""
    from flows.evaluation.evaluate import evaluate_reserve
    from flows.evaluation.report import describe_evaluation, report_json, write_report
    from flows.settings import load_settings
    from model.checkpoint import embedded_checkpoint

    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    settings = load_settings(arguments.config)
    report = evaluate_reserve(
        arguments.checkpoint or settings.infer.checkpoint or embedded_checkpoint(),
        arguments.reserve,
        settings=settings,
        part=arguments.part,
        every=arguments.every,
        max_rows_per_image=arguments.max_rows_per_image,
        scratch=arguments.out,
        progress=print_progress,
    )
    files = [] if arguments.out is None else write_report(report, arguments.out)
    written = "".join(f"\nwritten {file}" for file in files)
    print_result(report_json(report), describe_evaluation(report) + written, arguments.json)
    return EXIT_DONE
