"""The commands ``aviaflow simulate`` and ``aviaflow demo``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flows.commands.shared import EXIT_DONE, add_command, json_option, positive, positive_int, print_result


def add_simulate(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(commands, "simulate", "Make a simulated archive with exact truth.", call_simulate)
    parser.add_argument("directory", type=Path, metavar="DIR", help="gets archive/ and truth/")
    parser.add_argument("--videos", type=positive_int, default=4, metavar="N")
    parser.add_argument("--seconds", type=positive, default=90.0, metavar="S", help="length of each video")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="K", help="the same seed gives the same pixels"
    )
    parser.add_argument("--scene", choices=("marsh", "forest", "night"), help="one kind of scene only")
    json_option(parser)


def call_simulate(arguments: argparse.Namespace) -> int:
    """Simulate the archive and print where it lies and what to do next."""
    from workers.simulate.archive import simulate_archive

    made = simulate_archive(
        arguments.directory,
        videos=arguments.videos,
        seconds=arguments.seconds,
        seed=arguments.seed,
        scene=arguments.scene,
    )
    summary = {
        "archive": str(made.archive),
        "truth": str(made.truth),
        "videos": made.videos,
        "birds": made.birds,
        "seconds": made.seconds,
        "simulated": True,
    }
    text = (
        f"simulated {made.videos} videos with {made.birds} birds\n"
        f"archive {made.archive}\ntruth   {made.truth}\nnext    aviaflow run {made.archive} --out STORE"
    )
    print_result(summary, text, arguments.json)
    return EXIT_DONE


def add_demo(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands,
        "demo",
        "Simulate a small archive, run it, and compare with the truth.",
        call_demo,
        goes_on=True,
    )
    parser.add_argument("directory", type=Path, metavar="DIR")


def call_demo(arguments: argparse.Namespace) -> int:
    """Run the demonstration and print how close it came to the truth."""
    from flows.nightly.demo import run_demo

    print(run_demo(arguments.directory))
    return EXIT_DONE
