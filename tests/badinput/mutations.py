"""Small valid files changed at random: the probe names what is wrong, or reads them; it neither crashes nor hangs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.numbered import write_video
from workers.errors import UnreadableVideoError
from workers.limits import ended_after
from workers.messages import Probe
from workers.probe import MAX_DURATION_S, MAX_SIDE_PX, probe_video

SEEDS: dict[str, dict[str, Any]] = {
    ".mp4": {"options": {"bf": "2"}},
    ".mkv": {"options": {"bf": "2"}},
    ".ts": {"options": {"bf": "2"}},
    ".avi": {"codec": "mpeg4"},
}
ONE_FILE_S = 20.0
"""No file of a few kilobytes may take longer."""
SIZES = (0, 1, 7, 8, 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a file's bytes."""

    kind: str
    at: float
    """Where, as a share of the length."""
    value: int

    def apply(self, content: bytearray) -> bytearray:
        """The changed content; an empty one stays as it is."""
        place = int(self.at * len(content))
        if self.kind == "flip" and content:
            content[place] ^= 1 << self.value % 8
        elif self.kind == "size":
            content[place : place + 4] = SIZES[self.value % len(SIZES)].to_bytes(4, "big")
        elif self.kind == "truncate":
            del content[place:]
        elif self.kind == "delete":
            del content[place : place + self.value]
        elif self.kind == "repeat":
            content[place:place] = content[place : place + self.value]
        return content


KINDS = ("flip", "flip", "size", "size", "truncate", "delete", "repeat")
# Half of the changes lie in the first and last tenth, where headers and indices are.
places = st.floats(0, 1, exclude_max=True) | st.floats(0, 0.1) | st.floats(0.9, 1, exclude_max=True)
changes = st.lists(
    st.builds(Change, st.sampled_from(KINDS), places, st.integers(0, 400)), min_size=1, max_size=4
)


def write_seed(folder: Path, suffix: str) -> bytes:
    """A valid file of 24 frames."""
    path = write_video(folder / f"seed{suffix}", 24, size=(32, 48), **SEEDS[suffix])
    return path.read_bytes()


def check(content: bytes, path: Path) -> str:
    """Probe a file of this content; the reason why it is refused, empty for one that is read.

    Raises:
        AssertionError: the probe contradicts itself.
    """
    path.write_bytes(content)
    try:
        with ended_after(ONE_FILE_S):
            probe = probe_video(path)
    except UnreadableVideoError as error:
        return error.reason
    assert_sound(probe)
    return ""


def assert_sound(probe: Probe) -> None:
    """What later stages rely on."""
    assert probe.times_s[0] == 0.0
    assert (np.diff(probe.times_s) >= 0).all()
    assert 0 < probe.duration_s <= 2 * MAX_DURATION_S
    assert np.isfinite([probe.fps, probe.duration_s, probe.origin_s]).all()
    assert probe.fps > 0
    assert 0 < probe.width <= 4 * MAX_SIDE_PX
    assert 0 < probe.height <= 4 * MAX_SIDE_PX


def run(suffix: str, examples: int, last: Path) -> int:
    """Try so many changed files; the last one tried lies in ``last``. Returns how many were refused."""
    refused = 0
    with tempfile.TemporaryDirectory(prefix="aviaflow-fuzz-") as folder:
        seed = write_seed(Path(folder), suffix)

        @settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=examples,
            suppress_health_check=list(HealthCheck),
        )
        @given(made=changes)
        def try_one(made: list[Change]) -> None:
            nonlocal refused
            content = bytearray(seed)
            for change in made:
                content = change.apply(content)
            refused += bool(check(bytes(content), last))

        try_one()
    return refused
