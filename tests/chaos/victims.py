"""Which processes of a job there are to kill: found in /proc, by what Ray calls them."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TITLES = {
    "ray::probe_file": "probe task",
    "ray::build_plates": "survey task",
    "ray::survey_recording": "survey task",
    "ray::decode_segment": "decode worker",
    "ray::InferenceActor": "inference actor",
    "ray::derive_day": "tracking task",
}
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
DRIVER, NODE, COMMIT = "driver", "worker node", "commit point"
ONCE_A_RUN = ("probe task", "survey task", "decode worker", "tracking task")
"""Tasks that are tried twice: killed a second time, a video is quarantined until the next run, and that is right."""


class Process(NamedTuple):
    """One process, which its number alone does not name: a busy machine gives numbers away again within minutes."""

    number: int
    started: int
    """When, in the clock ticks of ``/proc``."""

    @property
    def is_there(self) -> bool:
        """Whether it still runs, and its number has not gone to another."""
        with suppress(OSError):
            fields = _stat(self.number)
            return fields[_STARTED] == str(self.started) and fields[_STATE] != "Z"
        return False

    @property
    def command(self) -> str:
        """Its command line; empty where it is gone."""
        with suppress(OSError):
            line = (Path("/proc") / str(self.number) / "cmdline").read_bytes()
            return line.replace(b"\0", b" ").decode(errors="replace") if self.is_there else ""
        return ""


_STATE, _PARENT, _STARTED = 0, 1, 19
"""Fields of ``/proc/*/stat`` behind the name."""


def _stat(number: int) -> list[str]:
    return (Path("/proc") / str(number) / "stat").read_text().rpartition(")")[2].split()


def process(number: int) -> Process:
    """The process that has a number now.

    Raises:
        OSError: there is none.
    """
    return Process(number, int(_stat(number)[_STARTED]))


def descendants(root: int) -> dict[Process, str]:
    """Command lines of all processes below one."""
    children: defaultdict[int, list[Process]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                fields = _stat(int(entry.name))
                children[int(fields[_PARENT])].append(Process(int(entry.name), int(fields[_STARTED])))
    found: dict[Process, str] = {}
    open_ = [root]
    while open_:
        for child in children[open_.pop()]:
            open_.append(child.number)
            found[child] = child.command
    return found


def victims(root: int) -> dict[str, list[Process]]:
    """Processes at work below one, by what they do."""
    found: defaultdict[str, list[Process]] = defaultdict(list)
    for child, command in descendants(root).items():
        for title, kind in TITLES.items():
            if command.startswith(title):
                found[kind].append(child)
    return dict(found)


def kill(victim: Process) -> bool:
    """End a process at once, and no other that was given its number meanwhile; False where it was gone."""
    try:
        handle = os.pidfd_open(victim.number)
    except ProcessLookupError:
        return False
    try:
        if not victim.is_there:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True
