"""One process at a time: a lock file that the kernel lets go when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.errors import LockedError


@contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file while the body runs. It names its holder, and is removed afterwards.

    A killed holder leaves the file behind, but not the lock: the next one takes it over. On a folder that several
    machines share, its file system must pass on ``flock``, as NFS 4 does.

    Args:
        path: of the lock file, in a folder that is there.
        wait: until the other process has ended, instead of raising.

    Raises:
        LockedError: another process holds it.
    """
    descriptor = _take(path, wait)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take(path: Path, wait: bool) -> int:
    """The locked file that is at this path now: the holder before may have removed the one that was opened."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # of a group, where the umask says so
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_at(path, descriptor):
                return descriptor
        except BlockingIOError as error:
            holder = os.read(descriptor, 200).decode() or "another process"
            os.close(descriptor)
            raise LockedError(f"{path}: held by {holder}") from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
