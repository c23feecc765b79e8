"""The command line: ``aviaflow COMMAND``. Results go to stdout, progress and logs to stderr.

Exit status: 0 all done; 1 nothing could be done, one line on stderr says why; 3 done, but some videos were
quarantined or some annotations have defects.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from flows.commands.ablation import add_ablate, add_sweep
from flows.commands.annotations import add_annotations
from flows.commands.doctor import add_doctor
from flows.commands.evaluate import add_evaluate
from flows.commands.export import add_export
from flows.commands.parts import add_train_detector, add_train_refiner
from flows.commands.plan import add_plan
from flows.commands.replay import add_replay
from flows.commands.run import add_run, add_schedule
from flows.commands.shared import EXIT_DONE, EXIT_NOTHING
from flows.commands.simulate import add_demo, add_simulate
from flows.commands.store import add_events, add_query, add_score, add_upgrade
from flows.commands.training import add_models, add_train
from flows.errors import AviaflowError
from model.errors import ModelError
from storage.errors import StorageError
from workers.errors import WorkerError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except (AviaflowError, ModelError, StorageError, WorkerError) as error:
        print(f"aviaflow: {error}", file=sys.stderr)
        return EXIT_NOTHING
    except KeyboardInterrupt:
        what_next = "; the same command goes on where it stopped" if arguments.goes_on else ""
        print(f"aviaflow: stopped{what_next}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return EXIT_DONE


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command in one line, with the exit status of every bad request."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_NOTHING, f"aviaflow: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="aviaflow", description="From a reserve's video archive to per-individual behaviour events."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        add_simulate,
        add_run,
        add_plan,
        add_events,
        add_upgrade,
        add_score,
        add_replay,
        add_query,
        add_annotations,
        add_train,
        add_train_detector,
        add_train_refiner,
        add_evaluate,
        add_ablate,
        add_sweep,
        add_export,
        add_schedule,
        add_models,
        add_doctor,
        add_demo,
    ):
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
