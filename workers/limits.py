"""What a process that reads strange files may use: memory, open files, and time without progress. Linux only.

Each limit ends or fails this process alone, from within C code too.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn


def limit_address_space(extra_bytes: int) -> None:
    """Let this process take at most ``extra_bytes`` of address space more than it has.

    A file of a few hundred kilobytes can decode to hundreds of megabytes: a process of its own with a limit
    fails alone.
    """
    pages = Path("/proc/self/statm")
    if pages.exists():
        used_bytes = int(pages.read_text().split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, used_bytes + extra_bytes)


def limit_open_files(extra_files: int) -> None:
    """Let this process open at most ``extra_files`` more files than it has open, connections included."""
    descriptors = Path("/proc/self/fd")
    if descriptors.exists():
        # The listing itself is one of those listed, and closed by then.
        open_now = [entry for entry in list(descriptors.iterdir()) if entry.is_symlink()]
        highest = max(int(entry.name) for entry in open_now)
        _lower(resource.RLIMIT_NOFILE, highest + 1 + extra_files)


def peak_resident_bytes() -> int:
    """Most memory that this process has had resident at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _lower(kind: int, limit: int) -> None:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit if soft == resource.RLIM_INFINITY else min(limit, soft), hard))


def end_process(why: str) -> NoReturn:
    """End this process at once, whatever its other threads do, with a line on standard error."""
    sys.stderr.write(why + "\n")
    sys.stderr.flush()
    os._exit(1)


def restart_limit(seconds: float) -> None:
    """Give the block of ``ended_after`` that is under way so long from now on, since it made progress."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer; of two blocks, one in the other, the outer one goes on after.

    SIGALRM keeps its default action: a decoder stuck in C cannot run a Python handler.
    """
    left_s, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left_s)
