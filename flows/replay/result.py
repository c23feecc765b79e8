"""What a replayed stage says beside what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

MOST_EXAMPLES = 5


@dataclass(slots=True)
class Differences:
    """Counts what was compared while a stage is replayed."""

    items: int = 0
    different: int = 0
    largest: float = 0.0
    """Greatest difference of a number that was compared."""
    busy_s: float = 0.0
    """Of the stage itself, reading and comparing left out."""
    examples: list[str] = field(default_factory=list)

    def add(self, what: str, is_same: bool, difference: float = 0.0) -> None:
        """Count one item; ``what`` says which, and what is different about it."""
        self.items += 1
        self.largest = max(self.largest, difference)
        if not is_same:
            self.different += 1
            if len(self.examples) < MOST_EXAMPLES:
                self.examples.append(what)


@dataclass(frozen=True, slots=True)
class StageReplay:
    """The outcome of one stage."""

    stage: str
    unit: str
    """What its items are."""
    items: int
    different: int
    largest_difference: float
    items_per_s: float
    examples: tuple[str, ...]

    @classmethod
    def of(cls, stage: str, unit: str, found: Differences) -> StageReplay:
        """What was counted."""
        per_s = found.items / found.busy_s if found.busy_s else 0.0
        return cls(
            stage, unit, found.items, found.different, found.largest, round(per_s, 2), tuple(found.examples)
        )


def describe_replay(replays: Sequence[StageReplay]) -> str:
    """For a person to read: a line a stage, and what differs."""
    lines = []
    for one in replays:
        verdict = "as stored" if not one.different else f"{one.different} DIFFER"
        lines.append(
            f"{one.stage:<8} {one.items:>8} {one.unit:<12} {verdict:<16} largest difference "
            f"{one.largest_difference:.2g}, {one.items_per_s:.1f} {one.unit} a second"
        )
        lines += [f"         {example}" for example in one.examples]
    return "\n".join(lines)
