"""The dataset card: what annotations hold, as AviaTAD's section 3.1 and Figure 2 describe theirs."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flows.annotations.plots import plot_quantiles, plot_shares, plot_split
from model.ethogram import Ethogram
from storage.analysis.agreement import MIN_IOU, PairAgreement
from storage.analysis.split import PARTS, TARGET_GAP, VideoSplit, part_sizes
from storage.formats.annotations import Annotation, Defect

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOTIONS = ("static", "dynamic")
SHOWN_DEFECTS = 50
"""Rows of a table of defects; the file has all."""
SHOWN_VALUE = 40
"""Characters of a value in a table of defects; the file has all."""

Cells = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card tells."""

    ethogram: Ethogram
    files: tuple[str, ...]
    annotators: dict[str, int]
    """Usable annotations of each."""
    videos: int
    seconds: float
    """Of all annotated videos."""
    infrared: int
    """Videos under infrared light."""
    boxes: tuple[Annotation, ...]
    """What is taught: one box of each individual at each moment, with one behaviour and a motion state."""
    others: int
    """Boxes of what is no individual of the taxon."""
    seen_by: dict[int, int]
    """Boxes by the number of annotators who drew them."""
    aspects: dict[str, float]
    """Width by height of each video's frame."""

    @property
    def behaviours(self) -> dict[str, int]:
        """Boxes of each behaviour."""
        counted = Counter(one.behaviours[0] for one in self.boxes)
        return {name: counted[name] for name in self.ethogram.names}

    @property
    def motion(self) -> dict[str, int]:
        """Boxes of each motion state."""
        dynamic = sum(one.dynamic is True for one in self.boxes)
        return {"static": len(self.boxes) - dynamic, "dynamic": dynamic}


def write_card(
    out: Path,
    facts: CardFacts,
    defects: Sequence[Defect],
    agreement: Sequence[PairAgreement],
    split: VideoSplit | None,
    notes: Sequence[str],
) -> None:
    """Write ``CARD.md``, and into ``card/`` its plots with the numbers that they show beside them as CSV."""
    folder = out / "card"
    folder.mkdir(parents=True, exist_ok=True)
    colours = {one.name: one.colour for one in facts.ethogram.behaviours}
    shares = share_rows(facts)
    _write(folder / "shares.csv", ("behaviour", "boxes", "share", *MOTIONS), shares)
    plot_shares(folder / "shares.png", shares, MOTIONS)
    for name, unit, measured in (
        ("area", "% of the frame", [_area(one) for one in facts.boxes]),
        ("aspect", "width / height, pixels", [_aspect(one, facts.aspects[one.video]) for one in facts.boxes]),
    ):
        rows = quantile_rows(facts, measured)
        _write(
            folder / f"box_{name}.csv", ("behaviour", "boxes", *(f"q{100 * q:.0f}" for q in QUANTILES)), rows
        )
        plot_quantiles(folder / f"box_{name}.png", rows, f"box {name} ({unit})", colours)
    if agreement:
        pairs = [asdict(pair) for pair in agreement]
        _write(folder / "agreement.csv", list(pairs[0]), [list(pair.values()) for pair in pairs])
    if split is not None:
        classes = class_shares(split, facts.ethogram)
        rounded = [[one.group, one.name, *(round(v, 4) for v in (*one.shares, one.gap))] for one in classes]
        _write(folder / "split_shares.csv", ("group", "class", *PARTS, "largest_gap"), rounded)
        plot_split(folder / "split_shares.png", rounded, PARTS)
    (out / "CARD.md").write_text(render_card(facts, defects, agreement, split, notes), encoding="utf-8")


def share_rows(facts: CardFacts) -> list[tuple[str, int, float, int, int]]:
    """Behaviour, boxes, share of all boxes, static boxes, dynamic boxes."""
    dynamic = Counter(one.behaviours[0] for one in facts.boxes if one.dynamic)
    total = max(1, len(facts.boxes))
    return [
        (name, count, round(count / total, 4), count - dynamic[name], dynamic[name])
        for name, count in facts.behaviours.items()
    ]


def quantile_rows(facts: CardFacts, measured: Sequence[float]) -> list[tuple[str, int, *tuple[float, ...]]]:
    """Behaviour, boxes and ``QUANTILES`` of what was measured of each box; behaviours without boxes are left out."""
    rows: list[tuple[str, int, *tuple[float, ...]]] = []
    for name in facts.ethogram.names:
        values = [
            value for one, value in zip(facts.boxes, measured, strict=True) if one.behaviours[0] == name
        ]
        if values:
            rows.append((name, len(values), *np.quantile(values, QUANTILES).round(4).tolist()))
    return rows


@dataclass(frozen=True, slots=True)
class ClassShares:
    """How much of each part one class is."""

    group: str
    name: str
    shares: tuple[float, ...]
    """In the order of ``PARTS``, 0 to 1."""

    @property
    def gap(self) -> float:
        """Largest difference between two parts."""
        return max(self.shares) - min(self.shares)


def class_shares(split: VideoSplit, ethogram: Ethogram) -> list[ClassShares]:
    """Shares of all classes in the parts of a split, those of a group in the ethogram's order."""
    order = (*ethogram.names, *MOTIONS)
    return [
        ClassShares(group, name, tuple(classes[name][part] for part in PARTS))
        for group, classes in split.shares.items()
        for name in sorted(classes, key=order.index)
    ]


def _area(one: Annotation) -> float:
    x1, y1, x2, y2 = one.xyxy
    return 100 * (x2 - x1) * (y2 - y1)


def _aspect(one: Annotation, frame_aspect: float) -> float:
    x1, y1, x2, y2 = one.xyxy
    return frame_aspect * (x2 - x1) / (y2 - y1)


def render_card(
    facts: CardFacts,
    defects: Sequence[Defect],
    agreement: Sequence[PairAgreement],
    split: VideoSplit | None,
    notes: Sequence[str],
) -> str:
    """The card as Markdown."""
    sections = [
        f"# Annotations: {facts.ethogram.name}",
        _overview(facts),
        *([_notes(notes)] if notes else []),
        "## Behaviours and motion",
        table(("behaviour", "boxes", "share", *MOTIONS), [
            (name, str(count), f"{100 * share:.1f} %", str(static), str(dynamic))
            for name, count, share, static, dynamic in share_rows(facts)
        ]),
        _motion(facts),
        "![shares](card/shares.png)",
        "## Boxes",
        f"Quantiles {', '.join(f'{q:g}' for q in QUANTILES)} of the area and of width / height per behaviour.",
        "![area](card/box_area.png)\n![aspect](card/box_aspect.png)",
        "## Agreement between annotators",
        _agreement(facts, agreement),
        "## Split by videos",
        _split(split, facts.ethogram),
        *(["![shares of the parts](card/split_shares.png)"] if split else []),
        "## Defects",
        _defects(defects),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _overview(facts: CardFacts) -> str:
    annotators = ", ".join(f"{name} ({count})" for name, count in facts.annotators.items())
    return (
        f"{len(facts.boxes)} boxes of individuals and {facts.others} of others in {facts.videos} videos "
        f"({facts.seconds / 60:.1f} minutes, {facts.infrared} of the videos in infrared light).\n\n"
        f"Files: {', '.join(f'`{Path(file).name}`' for file in facts.files)}. "
        f"Usable annotations by annotator: {annotators}."
    )


def _notes(notes: Sequence[str]) -> str:
    return "\n".join(f"- {note}." for note in notes)


def _motion(facts: CardFacts) -> str:
    total = max(1, len(facts.boxes))
    return ", ".join(f"{100 * count / total:.1f} % {name}" for name, count in facts.motion.items()) + "."


def _agreement(facts: CardFacts, agreement: Sequence[PairAgreement]) -> str:
    if not agreement:
        return "No two annotators drew boxes at a common moment."
    by_number = ", ".join(f"{boxes} by {number}" for number, boxes in facts.seen_by.items())
    return (
        f"At the moments at which both drew boxes; boxes that overlap by an IoU of {MIN_IOU:g} are matched.\n\n"
        + table(AGREEMENT_HEADER, agreement_cells(agreement))
        + f"\n\nBoxes of one behaviour after merging, by how many annotators drew them: {by_number}."
    )


AGREEMENT_HEADER = ("annotators", "moments", "boxes", "matched", "mean IoU", "kappa behaviour",
                    "same behaviour", "kappa motion")  # fmt: skip


def agreement_cells(agreement: Sequence[PairAgreement]) -> list[tuple[str, ...]]:
    """Rows of a table of agreement."""
    return [
        (f"{pair.first} - {pair.second}", str(pair.moments), f"{pair.first_boxes} - {pair.second_boxes}",
         str(pair.matched), *(shown(value) for value in (pair.mean_iou, pair.behaviour_kappa,
                                                         pair.behaviour_agreement, pair.motion_kappa)))
        for pair in agreement
    ]  # fmt: skip


def _split(split: VideoSplit | None, ethogram: Ethogram) -> str:
    if split is None:
        return "None was made."
    rows = [
        (one.group, one.name, *(f"{100 * value:.1f} %" for value in (*one.shares, one.gap)))
        for one in class_shares(split, ethogram)
    ]
    return f"{split_text(split)}\n\n{table(('group', 'class', *PARTS, 'largest gap'), rows)}"


def split_text(split: VideoSplit) -> str:
    """How many videos each part has and how alike the parts are, in a sentence."""
    sizes = ", ".join(f"{count} {part}" for part, count in part_sizes(split).items())
    reached = f"{100 * split.largest_gap:.1f} points, of {split.widest}"
    verdict = "within" if split.is_balanced else "more than"
    return f"Videos: {sizes}. Largest gap of a share between two parts: {reached}; {verdict} {100 * TARGET_GAP:g}."


def _defects(defects: Sequence[Defect]) -> str:
    if not defects:
        return "None."
    counts = Counter(defect.kind for defect in defects)
    listed = table(("defect", "count"), [(kind, str(count)) for kind, count in counts.most_common()])
    rows = [tuple(_cell(text) for text in defect_cells(one)) for one in defects[:SHOWN_DEFECTS]]
    return f"{listed}\n\n{table(DEFECT_HEADER, rows)}\n\nAll of them are in `defects.csv`."


DEFECT_HEADER = ("file", "entry", "seen in", "defect", "value", "why")


def defect_cells(defect: Defect) -> tuple[str, ...]:
    """A row of a table of defects."""
    value = defect.value if len(defect.value) <= SHOWN_VALUE else f"{defect.value[: SHOWN_VALUE - 3]}..."
    return Path(defect.file).name, defect.place, defect.seen, defect.kind, value, defect.message


def table(header: Sequence[str], rows: Cells) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(value: float) -> str:
    """A figure as people read it; ``-`` where it is undefined."""
    return "-" if np.isnan(value) else f"{value:.3f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
