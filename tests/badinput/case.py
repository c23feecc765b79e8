"""What a case of the corpus is, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["done", "quarantined", "refused"]
"""``done``: read, and right; ``quarantined``: one file left out; ``refused``: the run ends before any work."""


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a case."""

    outcome: str
    """One of ``Outcome``, or what must never be: ``misaligned``, ``hung``, ``died`` or ``failed``."""
    reason: str
    """In words: the reason of a quarantine, else how the file was read."""


@dataclass(frozen=True, slots=True)
class Case:
    """One bad or odd input and what must come of it."""

    name: str
    act: Callable[[Path], Found]
    """Makes the input in an empty folder and does what a run does with it. May raise ``UnreadableVideoError``
    and the errors by which a run is refused."""
    outcome: Outcome
    reason: str
    """Part of the reason; a regular expression."""
    slow: bool = False
    brings_torch: bool = False
    """It plans a run: needs a module that loads torch, and so more address space than a decode process gets."""

    def expects(self, found: Found) -> bool:
        """Whether this must come of it."""
        return found.outcome == self.outcome and re.search(self.reason, found.reason, re.DOTALL) is not None
