"""What tells one content of a file from another: its size and samples, the same wherever the file lies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

SAMPLE_BYTES = 64 * 1024
UNREADABLE = "unreadable"
"""Fingerprint of links and of files that cannot be opened."""


def fingerprint(size_bytes: int, read: Callable[[int, int], bytes]) -> str:
    """Hash of the size and of samples from the start, the middle and the end.

    Args:
        size_bytes: of the file.
        read: gives up to so many bytes from an offset on: ``read(start, count)``.
    """
    digest = hashlib.blake2b(str(size_bytes).encode(), digest_size=16)
    for start in (0, (size_bytes - SAMPLE_BYTES) // 2, size_bytes - SAMPLE_BYTES):
        digest.update(read(max(0, start), SAMPLE_BYTES))
    return digest.hexdigest()


def file_fingerprint(path: Path, size_bytes: int) -> str:
    """The fingerprint of a local file."""
    with path.open("rb") as file:

        def read(start: int, count: int) -> bytes:
            file.seek(start)
            return file.read(count)

        return fingerprint(size_bytes, read)
