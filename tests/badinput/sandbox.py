"""Runs what may hang or crash in a process of its own, so that this is a result like another."""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from storage.errors import StorageError
from tests.badinput.case import Case, Found
from workers.errors import UnreadableVideoError
from workers.limits import ended_after, limit_address_space, limit_open_files

TIMEOUT_S, SLOW_TIMEOUT_S = 120.0, 500.0
"""Far more than any case takes, to make the file included."""
MEMORY_BYTES, OPEN_FILES = 2 << 30, 32

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.badinput.corpus"])


def run_case(case: Case) -> tuple[Found, float]:
    """What came of a case of the corpus, and after how many seconds."""
    with tempfile.TemporaryDirectory(prefix="aviaflow-badinput-") as folder:
        started = time.perf_counter()
        timeout_s = SLOW_TIMEOUT_S if case.slow else TIMEOUT_S
        found = in_sandbox(_act, (case.name, Path(folder)), timeout_s, is_limited=not case.brings_torch)
        return found, time.perf_counter() - started


def in_sandbox(
    work: Callable[..., Any], arguments: tuple[Any, ...], timeout_s: float, is_limited: bool = True
) -> Any:
    """What a function of a module returns; a ``Found`` where its process hangs, dies or fails instead."""
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_child, args=(work, arguments, timeout_s, is_limited, sender))
    process.start()
    sender.close()
    try:
        # The process ends itself; the wait is longer, for one that does not even come so far.
        if receiver.poll(2 * timeout_s):
            return receiver.recv()
        process.kill()
        return Found("hung", f"no result within {2 * timeout_s:g} s")
    except EOFError:
        process.join()
        outcome = "hung" if process.exitcode == -signal.SIGALRM else "died"
        return Found(outcome, f"its process ended with {process.exitcode}")
    finally:
        process.join()


def _child(
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
    timeout_s: float,
    is_limited: bool,
    sender: Connection,
) -> None:
    if is_limited:
        limit_address_space(MEMORY_BYTES)
        limit_open_files(OPEN_FILES)
    try:
        with ended_after(timeout_s):
            result = work(*arguments)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what came of it
        result = Found("failed", "".join(traceback.format_exception(error, limit=-6)))
    sender.send(result)


def _act(name: str, folder: Path) -> Found:
    from tests.badinput.corpus import CASES

    (case,) = (case for case in CASES if case.name == name)
    try:
        return case.act(folder)
    except UnreadableVideoError as error:
        return Found("quarantined", error.reason)
    except StorageError as error:
        return Found("refused", str(error))
