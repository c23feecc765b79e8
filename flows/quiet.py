"""Prefect's environment for a run without a server: quiet, and sending nothing out."""

from __future__ import annotations

import os


def quiet_prefect() -> None:
    """Set what is not set already; call before prefect is imported."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("DO_NOT_TRACK", "1")
