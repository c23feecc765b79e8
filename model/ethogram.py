"""The ethogram: which behaviours there are, and the rules by which scores become bouts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BoutRule:
    """How the score series of one behaviour becomes bouts; all durations in seconds."""

    enter_score: float = 0.5
    """A bout starts where the smoothed score reaches this probability."""
    leave_score: float = 0.35
    """A bout ends where the smoothed score falls below this probability."""
    smoothing_s: float = 0.8
    """Width of the centred moving mean over the score series."""
    max_gap_s: float = 1.0
    """Interruptions by another behaviour up to this long are part of the bout."""
    min_bout_s: float = 0.5
    """Shorter bouts are dropped."""

    def __post_init__(self) -> None:
        if not 0.0 < self.leave_score <= self.enter_score < 1.0:
            raise ValueError(
                f"need 0 < leave_score <= enter_score < 1, got leave {self.leave_score}, enter {self.enter_score}"
            )
        for name in ("smoothing_s", "max_gap_s", "min_bout_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One behaviour of an ethogram."""

    name: str
    description: str
    colour: str
    """``#rrggbb``, used by every plot and overlay."""
    rule: BoutRule = BoutRule()


@dataclass(frozen=True, slots=True)
class Ethogram:
    """A closed list of mutually exclusive behaviours of one taxon; label ids count from 1, as in AVA."""

    name: str
    taxon: str
    behaviours: tuple[Behaviour, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or not self.names:
            raise ValueError(f"behaviour names must be unique and at least one, got {self.names}")
        for name in self.names:
            if not name.isidentifier() or name in RESERVED_STATES:
                raise ValueError(
                    f"{name!r} cannot name a behaviour: use letters, digits and _, not one of {RESERVED_STATES}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Behaviour names in the order of the model's outputs."""
        return tuple(behaviour.name for behaviour in self.behaviours)

    def label_id(self, name: str) -> int:
        """AVA label id (from 1) of a behaviour; raises ``ValueError`` for an unknown name."""
        return self.names.index(name) + 1


RESERVED_STATES = ("unscored", "not_visible", "other")
"""States of an individual that are no behaviour: seen but not scored, hidden, and not of the taxon."""
