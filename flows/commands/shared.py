"""What the commands share: exit statuses, options, and how results and progress are printed."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from typing import Any

EXIT_DONE, EXIT_NOTHING, EXIT_QUARANTINED = 0, 1, 3


def add_command(
    commands: Any,
    name: str,
    summary: str,
    call: Callable[[argparse.Namespace], int],
    *,
    goes_on: bool = False,
) -> Any:
    """Add a command to the parser's commands and return its own parser.

    ``goes_on`` is of commands that, when they were stopped and are given again, go on where they were.
    """
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=call, goes_on=goes_on)
    return parser


def json_option(parser: Any) -> None:
    """Add the option ``--json``."""
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def wait_option(parser: Any) -> None:
    """Add the option ``--wait``."""
    parser.add_argument(
        "--wait", action="store_true", help="where another aviaflow is at work on the store, wait for it"
    )


def positive(text: str) -> float:
    """A number above 0, as the type of an argument."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be greater than 0, got {text}")
    return value


def positive_int(text: str) -> int:
    """A whole number from 1 on, as the type of an argument."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def print_result(document: Any, text: str, as_json: bool) -> None:
    """Print a result on stdout: the document as JSON, or its text."""
    print(json.dumps(plain(document), indent=2, default=str, allow_nan=False) if as_json else text)


def print_progress(line: str) -> None:
    """Print how far a command has come on stderr."""
    print(line, file=sys.stderr, flush=True)


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: what has no value is null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
