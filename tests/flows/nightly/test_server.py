"""Servers end with the process that started them, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.errors import PrefectServerError
from flows.nightly.server import ends_with_this_process, temporary_server

PATIENCE_S = 120.0
STARTER = """
import subprocess, sys, time
from flows.nightly.server import ends_with_this_process
child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
with ends_with_this_process(child):
    print(child.pid, flush=True)
    time.sleep(600)
"""


def is_running(pid: int) -> bool:
    """Whether there is such a process that is more than an entry left for its parent to read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_child_ends_with_a_process_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        child = int(starter.stdout.readline())
        try:
            assert is_running(child)
            starter.kill()
            deadline = time.monotonic() + PATIENCE_S
            while is_running(child) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not is_running(child)
        finally:
            if is_running(child):
                os.kill(child, signal.SIGKILL)


def test_a_child_is_left_alone_afterwards() -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        try:
            with ends_with_this_process(child):
                pass
            time.sleep(0.2)
            assert child.poll() is None
        finally:
            child.kill()


def test_a_temporary_server_that_does_not_start_is_one_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.server.api.server import SubprocessASGIServer

    def never(self: object, timeout: int) -> None:
        raise RuntimeError(f"no answer within {timeout} s")

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(SubprocessASGIServer, "start", never)
    with pytest.raises(PrefectServerError, match="did not start: no answer within 300 s"), temporary_server():
        pytest.fail("the body ran without a server")
