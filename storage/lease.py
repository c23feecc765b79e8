"""One writer at a time: an object that names who is at work on a store, and that its holder renews.

The same on a local disk and on S3: a conditional write (``StoreFilesystem.write_if``) decides between two who come at
once, and reading it again decides where the answer was lost. A holder whose process is gone is noticed at once on the
same machine, and on another one after ``EXPIRES_S`` without a sign of life. The lease saves work done twice; that no
row is lost or doubled rests on the objects being published whole, not on it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage.errors import LeaseHeldError, LeaseLostError, StorageError
from storage.filesystem import StoreFilesystem
from storage.layout import LEASE_JSON

HEARTBEAT_S: Final = 10.0
EXPIRES_S: Final = 60.0
"""A holder on another machine that did not renew for so long is gone; clocks may differ by less than this."""
POLL_S: Final = 2.0
"""Pause of one that waits for the lease."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who is at work on a store."""

    token: str
    """Random: tells this holder from every other."""
    host: str
    machine: str
    """Boot and process namespace in which ``process`` counts; empty where the system does not tell."""
    process: int
    process_start: int
    """When the process was started, in ticks since the boot: process ids are used again."""
    since_s: float
    """Unix time."""
    renewed_s: float
    """Unix time."""

    def __str__(self) -> str:
        since = dt.datetime.fromtimestamp(self.since_s, dt.UTC)
        return f"process {self.process} on {self.host} since {since:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and processes as the lease sees them."""

    now_s: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    is_running: Callable[[Holder], bool | None] = lambda holder: _is_running(holder)
    """None where the system does not tell."""


class Lease:
    """What the holder has in hand; made by ``take``."""

    def __init__(self, fs: StoreFilesystem, holder: Holder, clock: Clock) -> None:
        self._fs, self._holder, self._clock = fs, holder, clock
        self._taken_by = ""

    def check(self) -> None:
        """Raise ``LeaseLostError`` if another process took the store over, as after a long standby."""
        if self._taken_by:
            raise LeaseLostError(
                f"{self._fs.uri}: {self._taken_by} took this store over, since this process gave no sign of life for "
                f"{EXPIRES_S:.0f} s; what is finished is kept"
            )

    def renew(self) -> None:
        """Give a sign of life; a store that fails for now is tried again at the next one."""
        with suppress(StorageError):
            found = _read(self._fs)
            if found is not None and found[0].token == self._holder.token:
                self._holder = dataclasses.replace(self._holder, renewed_s=self._clock.now_s())
                self._fs.write_if(LEASE_JSON, _to_json(self._holder), found[1])
            elif found is not None:
                self._taken_by = str(found[0])
            elif self._clock.now_s() - self._holder.renewed_s > EXPIRES_S:
                self._taken_by = "another process, which is done by now,"
            else:
                self._fs.write_if(LEASE_JSON, _to_json(self._holder), None)

    def renew_until(self, ended: threading.Event) -> None:
        """Renew every ``HEARTBEAT_S``; the body of a thread, which must have ended before ``release``."""
        while not ended.wait(HEARTBEAT_S) and not self._taken_by:
            self.renew()

    def release(self) -> None:
        """Let another one in at once; where that fails the lease expires."""
        with suppress(StorageError):
            found = _read(self._fs)
            if found is not None and found[0].token == self._holder.token:
                self._fs.delete(LEASE_JSON)


def take(
    fs: StoreFilesystem,
    *,
    wait: bool = False,
    say: Callable[[str], None] = lambda line: None,
    clock: Clock | None = None,
) -> Lease:
    """Become the one who works on a store.

    Args:
        fs: the store.
        wait: until the present holder is done, instead of raising.
        say: told once for each holder that is waited for.
        clock: of the system, unless a test brings another one.

    Raises:
        LeaseHeldError: another process is at work; the message says who.
        StorageError: the store cannot be written.
    """
    clock = clock or Clock()
    waited_for = ""
    while True:
        mine = _this_process(clock)
        other = _try_to_take(fs, mine, clock)
        if other is None:
            return Lease(fs, mine, clock)
        if not wait:
            raise LeaseHeldError(
                f"{fs.uri}: another aviaflow is at work on this store: {other}; run again when it is done, "
                "or with --wait"
            )
        if other.token != waited_for:
            say(f"{fs.uri}: waiting for {other}")
            waited_for = other.token
        clock.sleep(POLL_S)


@contextmanager
def store_lease(
    fs: StoreFilesystem, *, wait: bool = False, say: Callable[[str], None] = lambda line: None
) -> Iterator[None]:
    """Hold the lease of a store, renewed by a thread, while the body runs; see ``take``.

    A lease that this process already holds is used and left alone.
    """
    if fs.uri in _held:
        yield
        return
    lease = take(fs, wait=wait, say=say)
    ended = threading.Event()
    beat = threading.Thread(target=lease.renew_until, args=(ended,), name="lease", daemon=True)
    _held[fs.uri] = lease
    beat.start()
    try:
        yield
    finally:
        del _held[fs.uri]
        ended.set()
        beat.join()
        lease.release()


def check_lease(fs: StoreFilesystem) -> None:
    """Raise ``LeaseLostError`` if this process held the lease of the store and another one took it over."""
    if fs.uri in _held:
        _held[fs.uri].check()


_held: dict[str, Lease] = {}
"""Leases of this process, by the address of the store."""


def _try_to_take(fs: StoreFilesystem, mine: Holder, clock: Clock) -> Holder | None:
    """None where the lease is ``mine`` now, else who has it."""
    while True:
        found = _read(fs)
        if found is not None and not _is_gone(found[0], mine, clock):
            return found[0]
        fs.write_if(LEASE_JSON, _to_json(mine), None if found is None else found[1])
        now = _read(fs)
        if now is not None:  # else another one took it, and was done at once
            return None if now[0].token == mine.token else now[0]


def _is_gone(holder: Holder, mine: Holder, clock: Clock) -> bool:
    is_here = bool(holder.machine) and holder.machine == mine.machine
    is_running = clock.is_running(holder) if is_here else None
    if is_running is not None:
        return not is_running
    return clock.now_s() - holder.renewed_s > EXPIRES_S


def _read(fs: StoreFilesystem) -> tuple[Holder, str] | None:
    """Who holds the lease, and its version. One that cannot be understood is nobody's."""
    found = fs.read_versioned(LEASE_JSON)
    if found is None:
        return None
    try:
        return Holder(**json.loads(found[0])), found[1]
    except (ValueError, TypeError):
        return Holder("", "an unknown machine", "", 0, 0, 0.0, 0.0), found[1]


def _to_json(holder: Holder) -> bytes:
    return (json.dumps(dataclasses.asdict(holder), indent=2, sort_keys=True) + "\n").encode()


def _this_process(clock: Clock) -> Holder:
    now_s = clock.now_s()
    return Holder(
        token=secrets.token_hex(16),
        host=socket.gethostname(),
        machine=_machine(),
        process=os.getpid(),
        process_start=_start_of(os.getpid()) or -1,
        since_s=now_s,
        renewed_s=now_s,
    )


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _is_running(holder: Holder) -> bool | None:
    start = _start_of(holder.process)
    return None if start is None else start == holder.process_start


def _start_of(process: int) -> int | None:
    """Ticks from the boot to the start of a running process; -1 where there is none, or only its remains, and None
    where it is hidden, as another account's is with ``hidepid``.
    """
    try:
        # The name before the last bracket may hold anything.
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if _exists(process) else -1
    return -1 if state in "ZX" else int(fields[18])


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
