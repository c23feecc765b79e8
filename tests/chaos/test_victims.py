"""Chaos ends the processes that it means, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.chaos.victims import descendants, kill, process, victims

SLEEP = "import sys, time; sys.stdout.write('here\\n'); sys.stdout.flush(); time.sleep(60)"


@contextmanager
def sleeper(title: str = sys.executable) -> Iterator[subprocess.Popen[str]]:
    """A process that does nothing, under a title of its own."""
    with subprocess.Popen(
        [title, "-c", SLEEP], executable=sys.executable, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        try:
            yield child
        finally:
            child.kill()


def wait_for(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 10.0
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_a_process_is_found_by_its_title_and_killed() -> None:
    with sleeper("ray::decode_segment") as child:
        one = process(child.pid)
        assert one in victims(os.getpid())["decode worker"]
        assert kill(one)
        assert child.wait() == -9
        assert not kill(one)


def test_a_process_that_was_given_the_number_of_another_is_spared() -> None:
    with sleeper() as child:
        now = process(child.pid)
        before = now._replace(started=now.started - 1)
        assert now.is_there
        assert not before.is_there
        assert before.command == ""
        assert not kill(before)
        assert child.poll() is None


def test_a_process_that_ended_and_was_not_waited_for_is_gone() -> None:
    with sleeper() as child:
        one = process(child.pid)
        assert one in descendants(os.getpid())
        os.kill(child.pid, 9)
        wait_for(lambda: not one.is_there)
        assert not kill(one)
