"""Serve the nightly flow on a cron: with Prefect's server of the team, or one on loopback of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.errors import ScheduleError
from flows.quiet import notice, quiet_prefect
from flows.settings import Settings

SERVER_START_S = 300.0
STOP_S = 10.0


def serve_nightly(
    archive: str,
    out: str,
    settings: Settings,
    *,
    cron: str,
    zone: str,
    address: str | None = None,
    reprocess: bool = False,
) -> None:
    """Serve the nightly flow until interrupted.

    Args:
        archive: folder of videos.
        out: the store.
        settings: of every run.
        cron: five fields, in ``zone``.
        zone: IANA time zone of the cron.
        address: of a running Ray cluster.
        reprocess: also redo videos made with another model or settings.

    Raises:
        ScheduleError: the cron is not understood, or no Prefect server could be started.
    """
    quiet_prefect()
    with prefect_server() as api:
        # Read at import: the address must be set before.
        from prefect.schedules import Cron

        from flows.nightly.flow import nightly

        try:
            schedule = Cron(cron, timezone=zone)
        except ValueError as error:
            raise ScheduleError(f"cron {cron!r} in {zone}: {error}") from error
        notice(f"serving nightly runs of {archive} into {out} at {cron!r} ({zone})\nPrefect API {api}")
        nightly.serve(
            name="aviaflow-nightly",
            schedule=schedule,
            parameters={
                "archive": _absolute(archive),
                "out": _absolute(out),
                "settings": settings.model_dump(mode="json"),
                "address": address,
                "reprocess": reprocess,
            },
            limit=1,
            print_starting_message=False,
        )


@contextmanager
def prefect_server() -> Iterator[str]:
    """The API of the configured Prefect server, or of one started on loopback and stopped afterwards."""
    configured = os.environ.get("PREFECT_API_URL")
    if configured:
        yield configured
        return
    port = _free_port()
    api = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    # In a session of its own, or Ctrl-C would end it before the deployment's schedule is paused.
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_until_healthy(api, server)
        os.environ["PREFECT_API_URL"] = api
        yield api
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _absolute(uri: str) -> str:
    """A folder as it is found from any working directory; an address as it is."""
    return uri if "://" in uri else str(Path(uri).resolve())


def _wait_until_healthy(api: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SERVER_START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ScheduleError(
                f"Prefect's server ended with status {server.returncode}; `prefect server start` says why"
            )
        try:
            with urllib.request.urlopen(f"{api}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise ScheduleError(f"Prefect's server did not answer at {api} within {SERVER_START_S:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
