"""The command ``aviaflow evaluate``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from storage.analysis.split import PARTS

EXIT_DONE = 0


def add_evaluate(commands: Any) -> None:
    """Add the command to the parser's commands."""
    summary = "Score a checkpoint on a reserve whose truth is known, with true and with found boxes."
    parser = commands.add_parser("evaluate", help=summary, description=summary)
    parser.set_defaults(command=call_evaluate)
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", metavar="CHECKPOINT", help="by default the embedded weights"
    )
    parser.add_argument(
        "--reserve", type=Path, required=True, metavar="DIR", help="folder with archive/ and truth/"
    )
    parser.add_argument(
        "--part", choices=PARTS, help="score one part of the folder's split.csv; by default all videos"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="gets the scores as JSON, CSV and PNG")
    parser.add_argument(
        "--every", type=_at_least_one, default=2, metavar="N", help="take every Nth keyframe (default 2)"
    )
    parser.add_argument(
        "--max-rows-per-image",
        type=_at_least_one,
        metavar="N",
        help="rows of an image that frame-mAP keeps; AVA's evaluator has 50, the default is all",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def call_evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate, write what ``--out`` asks for, and print the result."""
    from flows.evaluation.evaluate import evaluate_reserve
    from flows.evaluation.report import describe_evaluation, report_json, write_report
    from model.checkpoint import embedded_checkpoint

    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    report = evaluate_reserve(
        arguments.checkpoint or embedded_checkpoint(),
        arguments.reserve,
        part=arguments.part,
        every=arguments.every,
        max_rows_per_image=arguments.max_rows_per_image,
        scratch=arguments.out,
        progress=_say,
    )
    files = [] if arguments.out is None else write_report(report, arguments.out)
    if arguments.json:
        sys.stdout.write(json.dumps(report_json(report), indent=2, allow_nan=False) + "\n")
    else:
        written = "".join(f"\nwritten {file}" for file in files)
        sys.stdout.write(describe_evaluation(report) + written + "\n")
    return EXIT_DONE


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value
