"""``make bench-table``: the JSON files beside docs/benchmarks/README.md as the table in it, so that none is typed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import RATIO, figure

DOCS = Path("docs/benchmarks")
BEGIN, END = (
    "<!-- begin: written by make bench-table -->",
    "<!-- end: written by make bench-table -->",
)
_CEILINGS = {"flops_per_s": (1e12, "TFLOP/s"), "bytes_per_s": (1e12, "TB/s")}
_GPU_FIGURES = {
    "clips_per_s": "clips/s",
    "share_of_roofline": "of the roofline",
    "peak_gib": "GiB",
    "plain_s": "s",
}
"""Of a row of ``make bench-gpu``: what a reader wants of all that it holds."""


def main(arguments: list[str] | None = None) -> int:
    """Write the table, or say that it is not what the files say."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.table", description=__doc__)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the JSON files and of README.md")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; 1 where the table is out of date"
    )
    options = parser.parse_args(arguments)
    page = options.docs / "README.md"
    before = page.read_text()
    after = with_table(before, table_of(options.docs))
    if options.check:
        return int(before != after)
    page.write_text(after)
    print(f"{page}: {'as it was' if before == after else 'written'}")
    return 0


def with_table(page: str, table: str) -> str:
    """A page whose text between the two marks is the table.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def table_of(docs: Path) -> str:
    """What was measured, by all JSON files of a folder: the machines, then a table of the rows.

    Raises:
        ValueError: a file is of a quick run, whose figures mean nothing.
    """
    found = {path.name: json.loads(path.read_text()) for path in sorted(docs.glob("*.json"))}
    quick = [name for name, report in found.items() if report.get("quick")]
    if quick:
        raise ValueError(f"{', '.join(quick)}: of a quick run, whose figures mean nothing")
    machines = [machine_line(name, report) for name, report in found.items()]
    head = ["| on | section | what | figure | goal |", "| --- | --- | --- | ---: | --- |"]
    rows = [row for name, report in found.items() for row in report_rows(Path(name).stem, report)]
    return "\n".join([*machines, "", *head, *rows])


def machine_line(name: str, report: Mapping[str, Any]) -> str:
    """Where the figures of a file come from, and what it lacks."""
    facts = ", ".join(
        f"{fact} {value}" for fact, value in report["machine"].items() if fact != "gpu" or value != "none"
    )
    lacking = [*report.get("failed", ()), *report.get("skipped", ())]
    ending = f" Not measured: {'; '.join(lacking)}." if lacking else ""
    return f"- [{name}]({name}): {facts}.{ending}"


def report_rows(on: str, report: Mapping[str, Any]) -> Iterator[str]:
    """Lines of the table, of either kind of file."""
    for row in report["rows"]:
        if "section" in row:
            yield line(on, row["section"], row["name"], figure_of(row), goal_of(row))
        else:
            yield line(on, "GPU", row["row"], ", ".join(gpu_figures(row)), "")
            for name, ratio in row.get("ratios", {}).items():
                yield line(on, "GPU", f"{row['row']}: {name}", figure(ratio), "")


def figure_of(row: Mapping[str, Any]) -> str:
    """A value with its unit; ratios have none."""
    return figure(row["value"]) + ("" if row["unit"] == RATIO else f" {row['unit']}")


def goal_of(row: Mapping[str, Any]) -> str:
    """A goal, and in bold where it is missed."""
    if "goal" not in row:
        return ""
    return f"{row['goal']}: met" if row["met"] else f"**{row['goal']}: missed**"


def gpu_figures(row: Mapping[str, Any]) -> Iterator[str]:
    """The figures of a row of ``make bench-gpu``; one of another kind shows its numbers by name."""
    for name, (unit, word) in _CEILINGS.items():
        if name in row:
            yield f"{figure(row[name] / unit)} {word}"
    known = {name: word for name, word in _GPU_FIGURES.items() if name in row}
    for name, word in known.items():
        yield f"{row[name]:.0%} {word}" if name.startswith("share") else f"{figure(row[name])} {word}"
    if not known and not _CEILINGS.keys() & row.keys():
        yield from (f"{name} {figure(value)}" for name, value in row.items() if isinstance(value, float))


def line(*cells: str) -> str:
    """A line of a table; a bar would end a cell."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main())
