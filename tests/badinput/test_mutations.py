"""The probe on files changed at random, in a process of its own, always with the same random numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.badinput.mutations import SEEDS, Change, run
from tests.badinput.sandbox import in_sandbox

EXAMPLES, MANY = 60, 2000


def tried(suffix: str, examples: int, folder: Path) -> int:
    """How many of the changed files were refused; the one that ends the process lies in the folder."""
    last = folder / f"last{suffix}"
    result = in_sandbox(run, (suffix, examples, last), timeout_s=540)
    assert isinstance(result, int), f"{result}; the file is {last}"
    return result


@pytest.mark.parametrize("suffix", SEEDS)
def test_changed_files_are_read_or_refused_by_name(tmp_path: Path, suffix: str) -> None:
    refused = tried(suffix, EXAMPLES, tmp_path)
    assert 0 < refused < 2 * EXAMPLES


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SEEDS)
def test_many_changed_files(tmp_path: Path, suffix: str) -> None:
    assert tried(suffix, MANY, tmp_path) > 0


def test_changes_change() -> None:
    content = b"0123456789"
    made = {
        kind: bytes(Change(kind, 0.5, 2).apply(bytearray(content)))
        for kind in ("flip", "size", "truncate", "delete", "repeat")
    }
    assert made == {
        "flip": b"012341" + b"6789",
        "size": b"01234\x00\x00\x00\x07" + b"9",
        "truncate": b"01234",
        "delete": b"01234789",
        "repeat": b"012345656789",
    }  # fmt: skip
