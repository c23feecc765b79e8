"""How the cases of one video file are made: a sound recording of numbered frames, to which something is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests.badinput.case import Case, Found
from tests.badinput.reading import Expected, read_all
from tests.numbered import write_video

Make = Callable[[Path], object]
NO_REORDERING = {"options": {"bf": "0"}}
REORDERED = {"options": {"bf": "2"}}
MPEG4 = {"codec": "mpeg4"}
TABLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def place(folder: Path, suffix: str) -> Path:
    """Where a recording of the north camera lies in an archive."""
    path = folder / "marsh" / "north" / f"north_20240517T032000Z{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def numbered(
    folder: Path, suffix: str, settings: Mapping[str, object] | None = None, frames: int = 60
) -> Path:
    """A sound recording of numbered frames."""
    return write_video(place(folder, suffix), frames, **(settings or {}))  # type: ignore[arg-type]


def video(
    name: str,
    make: Make,
    outcome: str,
    reason: str,
    expected: Expected | None = None,
    slow: bool = False,
) -> Case:
    """A case of one file, which ``make`` writes into an archive."""
    return Case(name, partial(_act, make, expected), outcome, reason, slow)  # type: ignore[arg-type]


def _act(make: Make, expected: Expected | None, folder: Path) -> Found:
    make(folder)
    return read_all(folder, expected)


def of(
    suffix: str,
    change: Callable[[Path], object],
    settings: Mapping[str, object] | None = None,
    frames: int = 60,
) -> Make:
    """A sound recording to which something is done."""
    return lambda folder: change(numbered(folder, suffix, settings, frames))


def sound(suffix: str, settings: Mapping[str, object] | None = None, frames: int = 60) -> Make:
    """A recording to which nothing is done."""
    return of(suffix, lambda path: path, settings, frames)


def content(suffix: str, data: bytes) -> Make:
    """A file of these bytes."""
    return lambda folder: place(folder, suffix).write_bytes(data)
