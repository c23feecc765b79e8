"""What became of annotation files, as a document and as a text for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.annotations.card import (
    AGREEMENT_HEADER,
    DEFECT_HEADER,
    SHOWN_DEFECTS,
    CardFacts,
    agreement_cells,
    defect_cells,
    split_text,
)
from storage.analysis.agreement import MIN_IOU, PairAgreement
from storage.analysis.split import VideoSplit
from storage.formats.annotations import Defect


@dataclass(frozen=True, slots=True)
class AnnotationSummary:
    """What became of the annotation files."""

    out: Path
    facts: CardFacts
    defects: tuple[Defect, ...]
    agreement: tuple[PairAgreement, ...]
    split: VideoSplit | None
    notes: tuple[str, ...]
    """What the reader must know about how the set was made."""

    def as_dict(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        split: dict[str, Any] | None = None
        if self.split is not None:
            split = {**asdict(self.split), "is_balanced": self.split.is_balanced}
        return {
            "out": str(self.out),
            "annotators": self.facts.annotators,
            "videos": self.facts.videos,
            "boxes": len(self.facts.boxes),
            "behaviours": self.facts.behaviours,
            "motion": self.facts.motion,
            "others": self.facts.others,
            "defects": [asdict(defect) for defect in self.defects],
            "agreement": [asdict(pair) for pair in self.agreement],
            "split": split,
            "notes": list(self.notes),
        }


def describe_import(summary: AnnotationSummary) -> str:
    """The defects as a table, the agreement, the split, and what was written."""
    facts = summary.facts
    parts = []
    if summary.defects:
        shown = summary.defects[:SHOWN_DEFECTS]
        more = len(summary.defects) - len(shown)
        found = "1 defect" if len(summary.defects) == 1 else f"{len(summary.defects)} defects"
        listed = f", {more} of them only in {summary.out / 'defects.csv'}" if more else ""
        parts.append(f"{found}{listed}; what they are of is left out, all else is used")
        parts.append(_columns(DEFECT_HEADER, [defect_cells(one) for one in shown]))
    if summary.agreement:
        parts.append(
            f"agreement at moments at which both drew boxes: boxes matched at an IoU of {MIN_IOU:g}, Cohen's kappa of "
            "the matched\n" + _columns(AGREEMENT_HEADER, agreement_cells(summary.agreement))
        )
    if summary.split is not None:
        parts.append(split_text(summary.split))
    parts += [f"note: {note}" for note in summary.notes]
    behaviours = ", ".join(f"{name} {count}" for name, count in facts.behaviours.items())
    parts.append(
        f"{len(facts.boxes)} boxes in {facts.videos} videos ({behaviours}; {facts.motion['dynamic']} dynamic), "
        f"from {', '.join(facts.annotators)}\n"
        f"truth {summary.out / 'truth'}\n"
        + (f"split {summary.out / 'split.csv'}\n" if summary.split is not None else "")
        + f"card  {summary.out / 'CARD.md'}\nnext  aviaflow train --data {summary.out} --out RUN"
    )
    return "\n\n".join(parts)


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns are as wide as what is in them."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (header, *rows)
    )
    return "\n".join(line.rstrip() for line in lines)
