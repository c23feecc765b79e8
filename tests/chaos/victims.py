"""Which processes of a job there are to kill: found in /proc, by what Ray calls them."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

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


def descendants(root: int) -> dict[int, str]:
    """Command lines of all processes below one, by process id."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children[parent].append(int(entry.name))
    found: dict[int, str] = {}
    open_ = [root]
    while open_:
        for child in children[open_.pop()]:
            open_.append(child)
            found[child] = command_of(child)
    return found


def command_of(process: int) -> str:
    """Command line of a process; empty where it is gone."""
    try:
        return (Path("/proc") / str(process) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def victims(root: int) -> dict[str, list[int]]:
    """Processes at work below one, by what they do."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for process, command in descendants(root).items():
        for title, kind in TITLES.items():
            if command.startswith(title):
                found[kind].append(process)
    return dict(found)


def kill(process: int) -> bool:
    """End a process at once; False where it was gone."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
