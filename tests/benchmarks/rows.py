"""What a benchmark says, as rows with units and goals, kept as they come, so that one that is cut off leaves them."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RATIO = "ratio"


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that a figure is to keep."""

    limit: float
    is_least: bool
    """Whether the figure is to be at least ``limit``, else at most."""

    def is_met_by(self, value: float) -> bool:
        """Whether a figure keeps it."""
        return value >= self.limit if self.is_least else value <= self.limit

    def __str__(self) -> str:
        return f"at {'least' if self.is_least else 'most'} {self.limit:g}"


def at_least(limit: float) -> Goal:
    return Goal(limit, is_least=True)


def at_most(limit: float) -> Goal:
    return Goal(limit, is_least=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure."""

    name: str
    value: float
    unit: str = RATIO
    goal: Goal | None = None

    @property
    def verdict(self) -> str:
        """Whether the goal is met, in words; empty where there is none."""
        if self.goal is None:
            return ""
        return f"{self.goal}: {'met' if self.goal.is_met_by(self.value) else 'MISSED'}"

    def document(self, section: str) -> dict[str, Any]:
        """As JSON values."""
        found: dict[str, Any] = {
            "section": section,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
        }
        if self.goal is not None:
            found |= {"goal": str(self.goal), "met": self.goal.is_met_by(self.value)}
        return found

    def __str__(self) -> str:
        ending = f"  ({self.verdict})" if self.goal else ""
        unit = "" if self.unit == RATIO else f" [{self.unit}]"
        return f"{figure(self.value):>12}  {self.name}{unit}{ending}"


def figure(value: float) -> str:
    """A number for a table: enough digits to tell two of them apart, no more."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3g}"


@dataclass(slots=True)
class Report:
    """Rows as they come, and which sections failed and why; written after each row."""

    out: Path
    machine: dict[str, str]
    is_quick: bool = False
    """Whether the sizes were too small for the figures to mean anything."""
    started: float = field(default_factory=time.perf_counter)
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def elapsed_s(self) -> float:
        """Seconds since the benchmark began."""
        return time.perf_counter() - self.started

    def add(self, section: str, row: Row) -> None:
        """Keep a row, and print it."""
        self.rows.append(row.document(section))
        self.write()
        print(row, flush=True)

    def fail(self, section: str, why: str) -> None:
        """Keep and print why a section gave no further rows."""
        self.failed.append(f"{section}: {why}")
        self.write()
        print(f"      failed  {self.failed[-1]}", flush=True)

    def write(self) -> None:
        """Bring the file up to date."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        found: dict[str, Any] = {"machine": self.machine, "rows": self.rows, "failed": self.failed}
        if self.is_quick:
            found["quick"] = True
        self.out.write_text(json.dumps(found, indent=1) + "\n")


def run_section(report: Report, name: str, measure: Callable[[], Iterable[Row]]) -> None:
    """Take the rows of a section; whatever ends it early is reported, and costs no row of another one."""
    print(f"{report.elapsed_s():6.0f} s  {name}", flush=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for row in measure():
                report.add(name, row)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other sections are wanted
        report.fail(name, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    sys.stdout.flush()
