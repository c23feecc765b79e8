"""Annotations of individuals in videos, whatever file they come from: what is written there, what of it can be
used, and a named defect for what cannot. ``judge.py`` tells the one from the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

DefectKind = Literal[
    "box outside the frame",
    "unknown label",
    "time beyond the video",
    "duplicate id",
    "duplicate box",
    "no label",
    "several labels",
    "unknown motion",
    "unknown video",
    "unreadable video",
    "unreadable",
    "segment without a box",
]
Box = tuple[float, float, float, float]
Whom = tuple[str, str, str]
"""Annotator, video, individual."""

OTHER: Final = "other"
"""Label of a box that holds no individual of the taxon: a deer, a boat, a person."""


@dataclass(frozen=True, slots=True)
class Defect:
    """Something in an annotation file that cannot be used."""

    file: str
    place: str
    """``line 7``, or a path into a JSON document."""
    kind: DefectKind
    value: str
    """What is written there."""
    message: str
    """What is wrong with it and what to do."""
    seen: str = ""
    """Video and time at which the annotation tool shows it; empty where it is at none."""

    def __str__(self) -> str:
        return f"{self.file}, {self.place}: {self.kind}: {self.value} ({self.message})"


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What must be known about a video to judge its annotations."""

    uri: str
    """Archive-relative path."""
    width: int
    """Displayed pixels."""
    height: int
    fps: float
    duration_s: float
    """From the first frame to the end of the last one."""
    last_frame_s: float
    """Presentation time of the last frame."""
    player_scale: float = 1.0
    """How many pixels of a browser's picture there are to one of these: where pixels are higher than they are wide, it
    makes the picture higher and keeps its width."""
    player_start_s: float = 0.0
    """Time of the first frame on a browser's clock: later than 0 where sound begins before it."""


@dataclass(frozen=True, slots=True)
class NoVideo:
    """Why the video of some annotations cannot be used."""

    kind: Literal["unknown video", "unreadable video"]
    message: str


@dataclass(frozen=True, slots=True)
class WrittenLabel:
    """A label and where it is written."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class WrittenBox:
    """One box as the file has it."""

    place: str
    annotator: str
    video: str
    time_s: float
    corners: Box
    """x1, y1, x2, y2 in the file's unit."""
    labels: tuple[WrittenLabel, ...]
    motion: str = ""
    individual: str = ""
    covered: float = 0.0
    """Share of the individual that something hides, 0 to 1."""
    inside: float = 1.0
    """Share of the individual that lies in the frame, 0 to 1."""

    @property
    def whom(self) -> Whom:
        """Segments with the same speak for it."""
        return self.annotator, self.video, self.individual


@dataclass(frozen=True, slots=True)
class WrittenSegment:
    """A stretch of time in which an individual does one thing; it speaks for boxes that do not say so."""

    place: str
    annotator: str
    video: str
    start_s: float
    end_s: float
    labels: tuple[WrittenLabel, ...]
    motion: str = ""
    individual: str = ""

    @property
    def whom(self) -> Whom:
        """Boxes with the same are spoken for."""
        return self.annotator, self.video, self.individual


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """What one annotation file holds."""

    path: str
    by_player: bool
    """Whether corners are pixels of the frame as a browser shows it, and times those of its clock; if not, fractions of
    the frame and seconds from the first one."""
    boxes: tuple[WrittenBox, ...]
    segments: tuple[WrittenSegment, ...] = ()
    defects: tuple[Defect, ...] = ()

    @property
    def videos(self) -> list[str]:
        """Names of the videos, as they are written, each once."""
        return list(dict.fromkeys([one.video for one in self.boxes] + [one.video for one in self.segments]))


@dataclass(frozen=True, slots=True)
class Annotation:
    """One individual at one moment, as one annotator saw it."""

    annotator: str
    video: str
    """Archive-relative path."""
    time_s: float
    xyxy: Box
    """Corners as fractions of width and height."""
    behaviours: tuple[str, ...]
    """A single ``other`` for what is no individual of the taxon; none where it is not known what it does."""
    dynamic: bool | None
    """Motion state; None where it was not annotated."""
    individual: str
    """Name of the individual within the video; empty where it has none."""
    covered: float = 0.0
    inside: float = 1.0


@dataclass(frozen=True, slots=True)
class Imported:
    """What can be used of annotation files, and what cannot."""

    annotations: tuple[Annotation, ...]
    defects: tuple[Defect, ...]
