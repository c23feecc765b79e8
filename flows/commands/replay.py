"""The command ``aviaflow replay``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.commands.shared import (
    EXIT_DONE,
    EXIT_NOTHING,
    add_command,
    json_option,
    positive_int,
    print_result,
)

STAGES = ("probe", "survey", "decode", "detect", "infer", "track", "segment")


def add_replay(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands,
        "replay",
        "Run stages of a finished run again, each alone on what it had, and compare with what is stored; writes "
        "nothing. Exit status 1 where something differs.",
        call_replay,
    )
    parser.add_argument("stages", nargs="+", choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--store", required=True, metavar="STORE")
    parser.add_argument("--archive", metavar="ARCHIVE", help="the videos; track and segment need none")
    parser.add_argument(
        "--videos",
        type=positive_int,
        metavar="N",
        help="only so many videos, by their paths; track and segment take all",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML, the one of the run")
    json_option(parser)


def call_replay(arguments: argparse.Namespace) -> int:
    """Replay, and print what differs."""
    from flows.replay.result import describe_replay
    from flows.replay.run import replay
    from flows.settings import load_settings

    found = replay(
        arguments.stages,
        arguments.store,
        arguments.archive,
        load_settings(arguments.config),
        most_videos=arguments.videos,
    )
    print_result([asdict(one) for one in found], describe_replay(found), arguments.json)
    return EXIT_NOTHING if any(one.different for one in found) else EXIT_DONE
