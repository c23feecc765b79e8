"""What is said on stderr while work is under way, and that Prefect adds nothing to it."""

from __future__ import annotations

import os
import sys


def quiet_prefect() -> None:
    """Set what is not set already; call before prefect is imported."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("DO_NOT_TRACK", "1")


def quiet_console() -> None:
    """Keep tracebacks of a flow from the terminal of a command, which says in one line what happened.

    Call before prefect is imported. Prefect's server still has them.
    """
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


def notice(text: str) -> None:
    """Say something on stderr, where it does not mix with results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
