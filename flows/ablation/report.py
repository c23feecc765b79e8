"""What is finished of a table, as Markdown, JSON, CSV and PNG, and what is missing."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.ablation.cells import (
    Cell,
    CellResult,
    Fact,
    as_document,
    grid_point,
    publish,
    read_cells,
    read_protocol,
)
from flows.ablation.plots import plot_grid, plot_weightings
from flows.ablation.run import CELLS, CONTROL, Kind
from flows.ablation.table import (
    SeedSummary,
    VariantSummary,
    mean_facts,
    render_ablation,
    render_sweep,
    summarise_variants,
)
from flows.errors import AblationError
from model.weighting.registry import WEIGHTINGS

PLUMBING = "plumbing check, not a result"
_RULE_FACTS = ("mean_rho", "conflict_share", "mean_lambda", "training_s")
_NAMED_MISSING = 12


@dataclass(frozen=True, slots=True)
class TableReport:
    """A table as far as it is finished."""

    kind: Kind
    protocol: dict[str, Fact]
    results: tuple[CellResult, ...]
    """Finished cells, by variant and seed."""
    rows: tuple[VariantSummary, ...]
    missing: tuple[str, ...]
    """Cells that were asked for and are not finished."""

    @property
    def quick(self) -> bool:
        """Whether it is a plumbing check, not a result."""
        return bool(self.protocol.get("quick"))

    @property
    def alphas(self) -> list[float]:
        """Of the finished points of a grid, ascending."""
        return sorted({grid_point(row.variant)[0] for row in self.rows})

    @property
    def lambdas(self) -> list[float]:
        """Of the finished points of a grid, ascending."""
        return sorted({grid_point(row.variant)[1] for row in self.rows})


def report_table(out: Path, kind: Kind, asked: Sequence[Cell]) -> TableReport:
    """What is finished in the folder of a table, whoever trained it.

    Args:
        out: folder of the table.
        kind: of the table that is expected there.
        asked: cells that should be there.

    Raises:
        AblationError: no cell is finished there, one cannot be read, or the table is of the other kind.
    """
    folder = out / CELLS
    protocol = read_protocol(folder)
    if protocol.get("table") != kind:
        raise AblationError(
            f"{folder}: holds a table of {protocol.get('table')}, not of {kind}: name another folder"
        )
    results = sorted(read_cells(folder), key=lambda result: (_place(kind, result.variant), result.seed))
    if not results:
        raise AblationError(f"{folder}: no cell is finished yet, there is nothing to show")
    finished = {(result.variant, result.seed) for result in results}
    control = CONTROL if kind == "weightings" and any(r.variant == CONTROL for r in results) else None
    missing = tuple(cell.name for cell in asked if (cell.variant, cell.seed) not in finished)
    rows = tuple(summarise_variants(results, control))
    return TableReport(kind, protocol, tuple(results), rows, missing)


def describe_table(report: TableReport) -> str:
    """The table as Markdown, with what was trained on what before it."""
    notes = _notes(report)
    if report.kind == "weightings":
        text = render_ablation(report.rows, CONTROL, notes, mean_facts(report.results, _RULE_FACTS))
    else:
        text = render_sweep(report.rows, report.alphas, report.lambdas, notes)
    return f"{text}\n\n**{PLUMBING}**" if report.quick else text


def table_json(report: TableReport) -> dict[str, Any]:
    """The table as one JSON document."""
    return {
        "note": PLUMBING if report.quick else None,
        "table": report.kind,
        "complete": not report.missing,
        "missing": list(report.missing),
        "control": CONTROL if report.kind == "weightings" else None,
        "protocol": report.protocol,
        "rows": [asdict(row) for row in report.rows],
        "cells": as_document(report.results),
    }


def write_table(report: TableReport, out: Path) -> list[Path]:
    """Write ``table.md``, ``table.csv``, ``cells.csv`` and ``table.png`` into a folder; returns the files."""
    files = [out / name for name in ("table.md", "table.csv", "cells.csv", "table.png")]
    publish(files[0], (describe_table(report) + "\n").encode())
    _write_csv(files[1], _table_rows(report))
    _write_csv(files[2], _cell_rows(report))
    title = _title(report)
    partial = out / ".table.png"
    if report.kind == "weightings":
        scores = {
            row.variant: [r.scores.mean_average_precision for r in report.results if r.variant == row.variant]
            for row in report.rows
        }
        plot_weightings(report.rows, scores, CONTROL, title, partial)
    else:
        plot_grid(report.rows, report.alphas, report.lambdas, title, partial)
    partial.replace(files[3])
    return files


def _place(kind: Kind, variant: str) -> tuple[float, ...]:
    """Where a variant stands in its table."""
    if kind == "grid":
        return grid_point(variant)
    return (float(list(WEIGHTINGS).index(variant)) if variant in WEIGHTINGS else float(len(WEIGHTINGS)),)


def _notes(report: TableReport) -> list[str]:
    protocol = report.protocol
    birds = "simulated birds" if protocol.get("simulated") else "annotated birds"
    notes = [
        f"Trained and tested on {birds}: each cell took {protocol.get('total_clips')} clips of "
        f"{protocol.get('training_videos')} videos in steps of {protocol.get('batch_clips')}; scored on every "
        f"{_ordinal(protocol.get('every'))}keyframe of {protocol.get('test_videos')} others, with true boxes.",
        f"Computed on {'; '.join(_machines(report.results))}.",
    ]
    if report.quick:
        notes.insert(0, f"**{PLUMBING}**: each cell took a few steps only, the scores mean nothing.")
    if report.missing:
        named = ", ".join(report.missing[:_NAMED_MISSING])
        more = len(report.missing) - _NAMED_MISSING
        notes.append(
            f"Not finished: {named}{f' and {more} more' if more > 0 else ''}; the same command goes on."
        )
    if report.kind == "weightings" and not any(row.variant == CONTROL for row in report.rows):
        notes.append(f"The control {CONTROL} has no finished cell yet: there are no differences.")
    return notes


def _title(report: TableReport) -> str:
    what = "LGH over alpha and lambda_base" if report.kind == "grid" else "Weightings of the motion task"
    birds = ", simulated birds" if report.protocol.get("simulated") else ""
    seeds = sorted({row.score.seeds for row in report.rows})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    plural = "" if seeds == [1] else "s"
    text = f"{what}{birds}\n{report.protocol.get('total_clips')} clips a cell, {count} seed{plural} each"
    return f"{PLUMBING.upper()}\n{text}" if report.quick else text


def _machines(results: Sequence[CellResult]) -> list[str]:
    """What computed the cells, each once."""
    said = [_machine(result.facts) for result in results]
    return list(dict.fromkeys(said))


def _machine(facts: Mapping[str, Fact]) -> str:
    device = facts.get("device", "cpu")
    beside = "" if device == "cpu" else f" with {device}"
    threads = f"{facts.get('threads')} of {facts.get('cores')} cores"
    precision = f" in {facts['precision']}" if "precision" in facts else ""
    return f"{facts.get('processor')}{beside}, {threads}, torch {facts.get('torch')}{precision}"


def _ordinal(every: Fact) -> str:
    if every == 1:
        return ""
    number = int(every or 0)
    ending = "th" if 10 <= number % 100 <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending} "


def _table_rows(report: TableReport) -> list[dict[str, object]]:
    facts = mean_facts(report.results, _RULE_FACTS)
    rows = []
    for row in report.rows:
        point = (
            dict(zip(("alpha", "lambda_base"), grid_point(row.variant), strict=True))
            if (report.kind == "grid")
            else {}
        )
        rows.append(
            {
                "variant": row.variant,
                **point,
                **_summary_columns(row.score, "map"),
                **_summary_columns(row.difference, "minus_control"),
                **{f"ap_{name}": value for name, value in row.per_class.items()},
                **facts[row.variant],
                "note": PLUMBING if report.quick else None,
            }
        )
    return rows


def _summary_columns(score: SeedSummary | None, name: str) -> dict[str, object]:
    if score is None:
        return dict.fromkeys([name, *(f"{name}_{end}" for end in _ENDS)])
    low_seeds, high_seeds = score.over_seeds or (None, None)
    low_videos, high_videos = score.over_videos or (None, None)
    values = (score.seeds, score.deviation, low_seeds, high_seeds, low_videos, high_videos)
    return {name: score.mean} | {f"{name}_{end}": value for end, value in zip(_ENDS, values, strict=True)}


_ENDS = ("seeds", "sd", "low_95_seeds", "high_95_seeds", "low_95_videos", "high_95_videos")


def _cell_rows(report: TableReport) -> list[dict[str, object]]:
    return [
        {
            "variant": result.variant,
            "seed": result.seed,
            "map": result.scores.mean_average_precision,
            **{f"ap_{name}": value for name, value in result.scores.per_class.items()},
            **result.facts,
            "note": PLUMBING if report.quick else None,
        }
        for result in report.results
    ]


def _write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    publish(path, buffer.getvalue().encode())
