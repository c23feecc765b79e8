"""What an evaluation says: as text, as JSON, as CSV, and as plots whose data lie beside them."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flows.evaluation.box_scores import Estimate
from flows.evaluation.evaluate import EvaluationReport
from flows.evaluation.instances import ALL, DAY, INFRARED
from flows.evaluation.plots import plot_average_precision, plot_confusion

SCORE_NAMES = {
    "paper_map": "mAP, true boxes",
    "frame_map_true": "frame-mAP, true boxes",
    "frame_map_detected": "frame-mAP, found boxes",
}
_MEAN = "mean"


def report_json(report: EvaluationReport) -> dict[str, Any]:
    """The report as one JSON document; what has no value is None."""
    document: dict[str, Any] = _without_nan(dataclasses.asdict(report))
    return document


def write_report(report: EvaluationReport, out: Path) -> list[Path]:
    """Write the report, its tables and its plots into the folder ``out``; returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    files = [
        out / name
        for name in (
            "evaluation.json",
            "average_precision.csv",
            "average_precision.png",
            "confusion.csv",
            "confusion.png",
        )
    ]
    files[0].write_text(json.dumps(report_json(report), indent=1, allow_nan=False) + "\n")
    _write_csv(
        files[1],
        ("score", "lighting", "behaviour", "instances", "average_precision", "low_95", "high_95"),
        average_precision_rows(report),
    )
    _write_csv(files[3], ("true", "said", "instances", "share_of_true"), confusion_rows(report))
    plot_average_precision(
        {name: report.scores[key][ALL] for key, name in SCORE_NAMES.items()}, report.behaviours, files[2]
    )
    plot_confusion(report.true_boxes.confusion, report.behaviours, files[4])
    return files


def average_precision_rows(report: EvaluationReport) -> list[tuple[object, ...]]:
    """One row for every score, lighting and behaviour, and their mean."""
    rows: list[tuple[object, ...]] = []
    for score, by_light in report.scores.items():
        for light, column in by_light.items():
            for name, estimate in {**column.per_class, _MEAN: column.mean}.items():
                instances = sum(column.instances.values()) if name == _MEAN else column.instances[name]
                rows.append((score, light, name, instances, estimate.value, estimate.low, estimate.high))
    return rows


def confusion_rows(report: EvaluationReport) -> list[tuple[object, ...]]:
    """One row for every pair of a true behaviour and the one that scored highest."""
    rows: list[tuple[object, ...]] = []
    for name, counts in zip(report.behaviours, report.true_boxes.confusion, strict=True):
        total = sum(counts)
        for said, count in zip(report.behaviours, counts, strict=True):
            rows.append((name, said, count, count / total if total else None))
    return rows


def describe_evaluation(report: EvaluationReport) -> str:
    """The report as a text for people."""
    return "\n".join(
        [
            f"{report.checkpoint} ({report.architecture}, {report.trained_on}, digest {report.digest[:16]})",
            f"{report.reserve}{_part(report)}: {_videos(report.videos)}{', simulated' if report.simulated else ''}; "
            f"{_every(report.every)}, {report.keyframes} in all",
            *_split_words(report),
            "in brackets: 95 % interval, bootstrap over videos "
            f"({report.replicates} replicates)" + _cap_words(report),
            "",
            *_score_table(report),
            "",
            f"found boxes by {report.detector}",
            f"box recall {_number(report.box_recall)}, precision {_number(report.box_precision)} at IoU 0.5",
            f"motion state right {_number(report.true_boxes.motion_accuracy)}; "
            f"birds rejected {_per_cent(report.true_boxes.birds_rejected)}",
            "",
            "per cent of the instances of a true behaviour (row) whose strongest score was the column's",
            *_confusion_table(report),
        ]
    )


def _score_table(report: EvaluationReport) -> list[str]:
    columns = [report.scores[key] for key in SCORE_NAMES]
    lines = [f"{'':<20}{'instances':>9}" + "".join(f"{name:>27}" for name in SCORE_NAMES.values())]
    instances = columns[0][ALL].instances
    for name in report.behaviours:
        cells = (_shown(column[ALL].per_class[name]) for column in columns)
        lines.append(f"{name:<20}{instances[name]:>9}" + "".join(f"{cell:>27}" for cell in cells))
    for light in (ALL, DAY, INFRARED):
        total = sum(columns[0][light].instances.values())
        cells = (_shown(column[light].mean) for column in columns)
        label = {ALL: "mean", DAY: "mean, day and dim"}.get(light, f"mean, {light}")
        lines.append(f"{label:<20}{total:>9}" + "".join(f"{cell:>27}" for cell in cells))
    return lines


def _confusion_table(report: EvaluationReport) -> list[str]:
    lines = [f"{'':<14}" + "".join(f"{name:>13}" for name in report.behaviours)]
    for name, counts in zip(report.behaviours, report.true_boxes.confusion, strict=True):
        total = max(1, sum(counts))
        lines.append(f"{name:<14}" + "".join(f"{100 * count / total:>13.1f}" for count in counts))
    return lines


def _cap_words(report: EvaluationReport) -> str:
    cap = report.max_rows_per_image
    return "" if cap is None else f"; frame-mAP keeps the best {cap} rows of an image"


def _part(report: EvaluationReport) -> str:
    return "" if report.part is None else f", part {report.part}"


def _videos(count: int) -> str:
    return "1 video" if count == 1 else f"{count} videos"


def _split_words(report: EvaluationReport) -> list[str]:
    """A warning where a checkpoint may have been trained on some of these videos."""
    if report.part == "train":
        return ["this is the part that 'aviaflow train' trains on: its scores say nothing of unseen videos"]
    if report.part is None and report.is_split:
        return [
            "all parts of split.csv together: take --part test if the checkpoint was trained on this folder"
        ]
    return []


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f}-{estimate.high:.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _per_cent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _every(number: int) -> str:
    if number == 1:
        return "every keyframe"
    ending = "th" if 10 <= number % 100 <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"every {number}{ending} keyframe"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(["" if value is None else value for value in row] for row in rows)
