"""Ways in which the bytes of a video file go wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def cut(path: Path, share: float = 0.5, start: float = 0.0) -> Path:
    """Keep only a stretch of a file."""
    content = path.read_bytes()
    path.write_bytes(content[int(len(content) * start) : int(len(content) * share)])
    return path


def find_box(content: bytes, *kinds: bytes) -> tuple[int, int]:
    """Start of the content and end of a box of an MP4 file, by the kinds of the boxes around it and its own."""
    start, end = 0, len(content)
    for kind in kinds:
        start, end = next(
            (first, last) for found, first, last in _boxes(content, start, end) if found == kind
        )
    return start, end


def _boxes(content: bytes, start: int, end: int) -> list[tuple[bytes, int, int]]:
    found = []
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, start)
        found.append((kind, start + 8, start + size))
        start += size
    return found


def flip_bits(path: Path, start: int, end: int, count: int, seed: int) -> Path:
    """Flip some bits of a stretch of a file."""
    content = bytearray(path.read_bytes())
    draw = np.random.default_rng(seed)
    for place, bit in zip(draw.integers(start, end, count), draw.integers(0, 8, count), strict=True):
        content[place] ^= 1 << int(bit)
    path.write_bytes(content)
    return path


def flip_bits_of_box(path: Path, kinds: Sequence[bytes], count: int, seed: int) -> Path:
    """Flip some bits within one box of an MP4 file."""
    start, end = find_box(path.read_bytes(), *kinds)
    return flip_bits(path, start, end, count, seed)


def flip_bits_of_share(path: Path, first: float, last: float, count: int, seed: int) -> Path:
    """Flip some bits between two shares of a file's length."""
    size = path.stat().st_size
    return flip_bits(path, int(size * first), int(size * last), count, seed)


def overwrite(path: Path, place: int, data: bytes) -> Path:
    """Put other bytes in the place of those that are there."""
    content = bytearray(path.read_bytes())
    content[place : place + len(data)] = data
    path.write_bytes(content)
    return path


def without(path: Path, first: float, last: float) -> Path:
    """Leave out what lies between two shares of a file's length."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * first)] + content[int(len(content) * last) :])
    return path


def rename_box(path: Path, kinds: Sequence[bytes], new: bytes) -> Path:
    """Call a box of an MP4 file something else."""
    start, _ = find_box(path.read_bytes(), *kinds)
    return overwrite(path, start - 4, new)


def set_edit_list(path: Path, edits: Sequence[tuple[int, int]]) -> Path:
    """Replace the edit list of an MP4 file whose index comes last: durations in milliseconds, starts in ticks."""
    content = path.read_bytes()
    around = [find_box(content, *(b"moov", b"trak", b"edts", b"elst")[: depth + 1]) for depth in range(4)]
    start, end = around[-1]
    rows = b"".join(struct.pack(">IiI", duration, first, 1 << 16) for duration, first in edits)
    replaced = struct.pack(">II", 0, len(edits)) + rows
    content = content[:start] + replaced + content[end:]
    for first, last in around:
        size = last - first + 8 + len(replaced) - (end - start)
        content = content[: first - 8] + struct.pack(">I", size) + content[first - 4 :]
    path.write_bytes(content)
    return path


def turn(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a rotation into the track's header of an MP4 file."""
    start, _ = find_box(path.read_bytes(), b"moov", b"trak", b"tkhd")
    return overwrite(path, start + 40, struct.pack(">iiiii", a << 16, b << 16, 0, c << 16, d << 16))
