"""Prefect's server where none is configured: started on loopback, and never left behind."""

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
from typing import Any

from flows.errors import PrefectServerError

SERVER_START_S = 300
STOP_S = 10.0
GUARD = f"""
read -r nothing
kill "$0"
for second in $(seq {STOP_S:.0f}); do sleep 1; kill -0 "$0" || exit; done
kill -9 "$0"
"""
"""Waits for the end of its input, which the kernel closes with the process that holds the other end."""


@contextmanager
def prefect_server() -> Iterator[str]:
    """The API of the configured Prefect server, or of one started on loopback and stopped afterwards.

    Raises:
        PrefectServerError: it could not be started.
    """
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
        with ends_with_this_process(server):
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


@contextmanager
def temporary_server() -> Iterator[None]:
    """Prefect's own temporary server for one run, where the settings name none.

    Raises:
        PrefectServerError: it could not be started.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        yield
        return
    server = SubprocessASGIServer()  # the one that Prefect's clients ask for and that it stops at exit
    try:
        server.start(SERVER_START_S)
    except RuntimeError as error:
        raise PrefectServerError(f"Prefect's temporary server did not start: {error}") from error
    assert server.server_process is not None
    with ends_with_this_process(server.server_process):
        yield


@contextmanager
def ends_with_this_process(child: subprocess.Popen[Any]) -> Iterator[None]:
    """See that a child is ended should this process be killed before it can do so itself.

    Linux has a parent-death signal, but only the child itself can ask for it; a shell that waits on a pipe can be
    put beside any child.
    """
    guard = subprocess.Popen(
        ["/bin/sh", "-c", GUARD, str(child.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what is sent to the whole group of a run must not end its guard
    )
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()


def _wait_until_healthy(api: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SERVER_START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise PrefectServerError(
                f"Prefect's server ended with status {server.returncode}; `prefect server start` says why"
            )
        try:
            with urllib.request.urlopen(f"{api}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise PrefectServerError(f"Prefect's server did not answer at {api} within {SERVER_START_S} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
