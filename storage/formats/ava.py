"""Annotations in the form of AVA (Gu et al. 2018, "AVA: a video dataset of spatio-temporally localized atomic
visual actions"): a CSV of boxes, a label map, and a list of moments to leave out.

A line is ``video, timestamp, x1, y1, x2, y2, label id, entity id``, with corners as fractions of width and
height. The last column may be absent, more may follow, and a line of ``video, timestamp`` alone is a moment
in which nothing was found.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from storage.errors import FormatError
from storage.formats.annotations import Defect, WrittenBox, WrittenFile, WrittenLabel

_COLUMNS: Final = ("video", "timestamp", "x1", "y1", "x2", "y2", "label id", "entity id")
_HEADER_NAMES: Final = frozenset({"timestamp", "time_s", "frame_timestamp", "middle_frame_timestamp"})
_LABEL_ITEM: Final = re.compile(r"(?:item|label)\s*\{([^}]*)\}")
_LABEL_NAME: Final = re.compile(r"""\bname:\s*(?:"([^"]*)"|'([^']*)')""")
_LABEL_ID: Final = re.compile(r"\b(?:label_)?id:\s*(\d+)")
_DECIMALS: Final = 6

Moment = tuple[str, float]
"""A video and a time in it, in seconds."""


@dataclass(frozen=True, slots=True)
class AvaRow:
    """One label of one box; a box with several labels has several rows."""

    video: str
    time_s: float
    x1: float
    y1: float
    x2: float
    y2: float
    label_id: int | None
    """None for a box without a label."""
    entity_id: int | None
    """Which individual of the video it is."""
    extra: tuple[str, ...] = ()
    """Columns beyond the eight, as they are written."""


def read_boxes(
    path: Path,
    labels: Mapping[int, str] | None = None,
    excluded: frozenset[Moment] = frozenset(),
) -> list[AvaRow]:
    """Rows of an AVA CSV, in the file's order; a line of column names at its start is skipped.

    Args:
        path: the CSV.
        labels: the label map; with it, an id that it lacks is an error.
        excluded: moments to leave out.

    Raises:
        FormatError: a line is not of this form; the message has the file, the line and the value.
        FileNotFoundError: there is no such file.
    """
    rows = []
    for line, values in _lines(path):
        if len(values) == 2 or not any(values[2:]):
            _number(path, line, "timestamp", values[1])
            continue
        row = _row(path, line, values)
        _check_box(path, line, row)
        if labels is not None and row.label_id is not None and row.label_id not in labels:
            raise _error(path, line, f"label id {row.label_id} is not in the label map {sorted(labels)}")
        if (row.video, row.time_s) not in excluded:
            rows.append(row)
    return rows


def read_ava(
    path: Path, annotator: str, labels: Mapping[int, str], excluded: frozenset[Moment] = frozenset()
) -> WrittenFile:
    """Read an AVA CSV line by line; a line that cannot be read becomes a defect, the others are used.

    Lines with the same video, time, box and individual are one box with several labels. After the eight columns
    of AVA there may be the motion state, the covered share and the share inside the frame, as in the truth of a
    simulated archive.

    Args:
        path: the CSV.
        annotator: who made it.
        labels: the label map.
        excluded: moments to leave out.

    Raises:
        FormatError: the file is no text.
        FileNotFoundError: there is no such file.
    """
    boxes: dict[AvaRow, WrittenBox] = {}
    defects = []
    for line, text in enumerate(_text(path).splitlines(), start=1):
        try:
            row = _row_of_line(path, line, text)
        except FormatError as error:
            problem = str(error).removeprefix(f"{path}, line {line}: ")
            defects.append(Defect(str(path), f"line {line}", "unreadable", text.strip(), problem))
            continue
        if row is None or (row.video, row.time_s) in excluded:
            continue
        key = replace(row, label_id=None)
        written = _written_box(annotator, line, row, labels)
        if key not in boxes:
            boxes[key] = written
        elif written.labels and written.labels[0].text not in [one.text for one in boxes[key].labels]:
            boxes[key] = replace(boxes[key], labels=(*boxes[key].labels, *written.labels))
        else:
            problem = f"the same box and label as in {boxes[key].place}"
            defects.append(Defect(str(path), f"line {line}", "duplicate box", text.strip(), problem))
    return WrittenFile(str(path), False, tuple(boxes.values()), defects=tuple(defects))


def write_boxes(path: Path, rows: Iterable[AvaRow]) -> None:
    """Write rows as an AVA CSV: eight columns, then those of ``extra``; numbers to six decimals."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in rows:
            corners = [f"{value:.{_DECIMALS}f}" for value in (row.x1, row.y1, row.x2, row.y2)]
            ids = ["" if value is None else str(value) for value in (row.label_id, row.entity_id)]
            writer.writerow([row.video, _timestamp(row.time_s), *corners, *ids, *row.extra])


def read_excluded(path: Path) -> frozenset[Moment]:
    """Moments to leave out, from a CSV of ``video, timestamp``; raises ``FormatError``."""
    return frozenset(
        (values[0], _number(path, line, "timestamp", values[1])) for line, values in _lines(path)
    )


def read_label_map(path: Path) -> dict[int, str]:
    """Names by label id, from AVA's ``.pbtxt`` (``item { name: "walk" id: 5 }``).

    Raises:
        FormatError: an item has no name or no id, an id comes twice, or there is no item at all.
    """
    text = _text(path)
    labels: dict[int, str] = {}
    for item in _LABEL_ITEM.finditer(text):
        line = text.count("\n", 0, item.start()) + 1
        name, number = _LABEL_NAME.search(item[1]), _LABEL_ID.search(item[1])
        if name is None or number is None:
            raise _error(path, line, f"an item needs a name and an id, got {' '.join(item[0].split())!r}")
        label_id = _whole(path, line, "id", number[1]) or 0
        if label_id in labels:
            raise _error(path, line, f"label id {label_id} comes twice")
        labels[label_id] = name[1] or name[2] or ""
    if not labels:
        raise FormatError(f'{path}: no label found; a label is written as item {{ name: "walk" id: 5 }}')
    return labels


def write_label_map(path: Path, labels: Mapping[int, str]) -> None:
    """Write names by label id as AVA's ``.pbtxt``."""
    items = [f'item {{\n  name: "{name}"\n  id: {label_id}\n}}\n' for label_id, name in labels.items()]
    path.write_text("".join(items), encoding="utf-8")


def _row_of_line(path: Path, line: int, text: str) -> AvaRow | None:
    """The row of one line of text; None for what holds no box."""
    try:
        values = [value.strip() for value in next(csv.reader([text], strict=True), [])]
    except csv.Error as error:
        raise _error(path, line, f"this is no CSV: {error}") from error
    if not any(values) or (line == 1 and len(values) > 1 and values[1].lower() in _HEADER_NAMES):
        return None
    if len(values) < 2 or not values[0]:
        raise _error(path, line, f"a line begins with video, timestamp, got {values}")
    if len(values) == 2 or not any(values[2:]):
        _number(path, line, "timestamp", values[1])
        return None
    row = _row(path, line, values)
    for name, value in zip(("covered share", "share inside"), row.extra[1:3], strict=False):
        _number(path, line, name, value or "0")
    return row


def _written_box(annotator: str, line: int, row: AvaRow, labels: Mapping[int, str]) -> WrittenBox:
    motion, covered, inside = (*row.extra, "", "", "")[:3]
    place = f"line {line}"
    label = [] if row.label_id is None else [labels.get(row.label_id, f"label id {row.label_id}")]
    return WrittenBox(
        place,
        annotator,
        row.video,
        row.time_s,
        (row.x1, row.y1, row.x2, row.y2),
        tuple(WrittenLabel(place, text) for text in label),
        motion,
        "" if row.entity_id is None else str(row.entity_id),
        float(covered or 0),
        float(inside or 1),
    )


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number (from 1) and values of each line that is not empty, without a line of column names."""
    reader = csv.reader(_text(path).splitlines(keepends=True), strict=True)
    try:
        for values in reader:
            stripped = [value.strip() for value in values]
            header = reader.line_num == 1 and len(stripped) > 1 and stripped[1].lower() in _HEADER_NAMES
            if not any(stripped) or header:
                continue
            if len(stripped) < 2 or not stripped[0]:
                raise _error(path, reader.line_num, f"a line begins with video, timestamp, got {values}")
            yield reader.line_num, stripped
    except csv.Error as error:
        raise _error(path, reader.line_num, f"this is no CSV: {error}") from error


def _row(path: Path, line: int, values: list[str]) -> AvaRow:
    if len(values) < len(_COLUMNS) - 1:
        raise _error(path, line, f"expected 7 columns or more ({', '.join(_COLUMNS)}), got {len(values)}")
    named = dict(zip(_COLUMNS, values, strict=False))
    time_s, x1, y1, x2, y2 = (_number(path, line, name, named[name]) for name in _COLUMNS[1:6])
    return AvaRow(
        video=values[0],
        time_s=time_s,
        x1=x1,
        y1=y1,
        x2=x2,
        y2=y2,
        label_id=_whole(path, line, "label id", named["label id"]),
        entity_id=_whole(path, line, "entity id", named.get("entity id", "")),
        extra=tuple(values[len(_COLUMNS) :]),
    )


def _check_box(path: Path, line: int, row: AvaRow) -> None:
    for name, value in zip(_COLUMNS[2:6], (row.x1, row.y1, row.x2, row.y2), strict=True):
        if not 0.0 <= value <= 1.0:
            raise _error(path, line, f"{name} is a fraction of the frame, 0 to 1, got '{value:g}'")
    if row.x1 >= row.x2 or row.y1 >= row.y2:
        corners = [f"{value:g}" for value in (row.x1, row.y1, row.x2, row.y2)]
        raise _error(path, line, f"need x1 < x2 and y1 < y2, got {corners}")


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _error(path, line, f"{name} is no number: {text!r}")
    return value


def _whole(path: Path, line: int, name: str, text: str) -> int | None:
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise _error(path, line, f"{name} is no whole number: {text!r}") from None


def _timestamp(time_s: float) -> str:
    # AVA's own files, and evaluators that compare text, write whole seconds as four digits.
    if float(time_s).is_integer():
        return f"{int(time_s):04d}"
    return f"{time_s:.{_DECIMALS}f}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: this is no text in UTF-8: {error}") from error


def _error(path: Path, line: int, problem: str) -> FormatError:
    return FormatError(f"{path}, line {line}: {problem}")
