"""What is stored: one frozen type per table. Times are UTC; seconds count from the start of the video."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EMBEDDING_SIZE = 64


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """A file of the archive."""

    video_id: str
    uri: str
    camera: str
    start_time: dt.datetime
    start_source: str
    """``path``, ``container`` or ``file_time`` (an estimate)."""
    fps: float
    frame_count: int
    duration_s: float
    width: int
    height: int
    container: str
    codec: str
    fingerprint: str
    status: str
    """``done`` or ``quarantined``."""
    reason: str
    """Why it was quarantined, or what is worth knowing about how it was read; else empty."""
    frames_decoded: int
    """That its spans took, those before a span in its first group of pictures included; what was decoded twice since
    a span was cut counts once, so that the row does not depend on the cuts."""
    survey_mode: str
    """``spans`` or ``whole``."""


@dataclass(frozen=True, slots=True, eq=False)
class DetectionColumns:
    """All boxes of one video, by column, sorted by (frame, x1, y1); M rows."""

    video_id: str
    frame: NDArray[np.int32]
    """Index of the keyframe in the video, from 0, shape ``(M,)``."""
    time_s: NDArray[np.float64]
    """Presentation time of the keyframe, shape ``(M,)``."""
    xyxy: NDArray[np.float32]
    """Corners as fractions of width and height, shape ``(M, 4)``."""
    box_score: NDArray[np.float32]
    p_behaviour: NDArray[np.float32]
    """Shape ``(M, C)``; NaN where behaviour is not scored."""
    p_other: NDArray[np.float32]
    p_dynamic: NDArray[np.float32]
    embedding: NDArray[np.int8]
    """Shape ``(M, 64)``."""

    def __post_init__(self) -> None:
        rows = self.frame.shape[0]
        for name in ("time_s", "xyxy", "box_score", "p_behaviour", "p_other", "p_dynamic", "embedding"):
            if getattr(self, name).shape[0] != rows:
                raise ValueError(f"{name} must have {rows} rows, got {getattr(self, name).shape[0]}")


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """Which individual one detection belongs to."""

    video_id: str
    row: int
    """Row of the video's detections object, from 0."""
    frame: int
    individual_id: str


@dataclass(frozen=True, slots=True)
class IndividualRecord:
    """One individual of one camera-day: a track's identity, not an animal's."""

    individual_id: str
    camera: str
    kind: str
    """``subject`` (of the ethogram's taxon) or ``other``."""
    first_seen: dt.datetime
    last_seen: dt.datetime
    visible_s: float
    boxes: int
    track_quality: float
    """Boxes over the keyframes between first and last seen, 0 to 1."""
    p_other: float
    """Mean over its boxes."""


@dataclass(frozen=True, slots=True)
class EffortRecord:
    """One hour of one camera-day: the denominators of every rhythm."""

    camera: str
    hour_start: dt.datetime
    """UTC start of the local clock hour."""
    recorded_min: float
    readable_min: float
    surveyed_min: float
    """Looked at, with whatever result: what a rate is of."""
    decoded_min: float
    """Of the spans in which something may be, as ``scored_min``: no denominator, empty time is not in it."""
    scored_min: float
    max_individuals: int
    """Most individuals seen at once."""


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One bout of one individual, or a stretch in which it was ``unscored`` or ``not_visible``."""

    event_id: str
    camera: str
    video_id: str
    """The video in which the bout starts."""
    individual_id: str
    behaviour: str
    start_time: dt.datetime
    end_time: dt.datetime
    start_s: float
    """Seconds from the start of ``video_id``."""
    end_s: float
    """Seconds from the start of ``video_id``; beyond its duration when the bout goes on in the next file."""
    start_frame: int
    end_frame: int
    duration_s: float
    score_mean: float
    score_peak: float
    """Of the behaviour's probability over its keyframes, as the refiner reads it where there is one."""
    motion: str
    """``static`` or ``dynamic``."""
    p_dynamic: float
    x1: float
    y1: float
    x2: float
    y2: float
    """Mean box, as fractions of width and height."""
    observations: int
    """Keyframes in which it was seen."""
    model_digest: str
    config_digest: str
