"""The command ``aviaflow doctor``."""

from __future__ import annotations

import argparse
from typing import Any

from flows.commands.shared import EXIT_DONE, EXIT_NOTHING, add_command, json_option, print_result


def add_doctor(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(commands, "doctor", "Check this machine and what is installed on it.", call_doctor)
    parser.add_argument("--out", metavar="STORE", help="also check that this store can be written")
    json_option(parser)


def call_doctor(arguments: argparse.Namespace) -> int:
    """Run the checks and print what each found."""
    from flows.doctor import describe_checks, run_checks

    checks = run_checks(arguments.out)
    print_result([check.as_dict() for check in checks], describe_checks(checks), arguments.json)
    return EXIT_NOTHING if any(check.status == "bad" for check in checks) else EXIT_DONE
