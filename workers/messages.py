"""What flows between the stages: ``Recording -> Probe -> Survey -> FrameChunk -> Boxes -> Scores``.

Every stage returns a type of its own. Grids are in time, not in frame numbers: grid index ``k`` is the
moment ``k / GRID_HZ`` seconds after the first frame of the video, and every ``KEYFRAME_STEP``-th grid index
is a keyframe, a moment at which the model looks.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

GRID_HZ = 15.0
"""Rate at which frames leave the decoder: the fast pathway's."""
KEYFRAME_STEP = 4
"""Grid steps between keyframes: 4 / 15 s, 3.75 keyframes a second."""
CLIP_BEFORE, CLIP_AFTER = 8, 8
"""A clip is the grid frames ``[k - 8, k + 8)`` around keyframe ``k``: 16 frames, 32 / 30 s. Architectures with
clips of 32 frames reach twice as far on both sides."""

MIN_BEHAVIOUR_FPS = 10.0
"""Below this frame rate individuals are found and tracked, and behaviour is not scored."""
LOST_SHARE = 0.05
"""Of its frames a camera may lose this share and still count as one of its rate."""

FIRST_YEAR = 1990
"""Cameras whose clock was never set write 1904, 1970 or 1980."""

DecoderName = Literal["decord", "pyav"]


def scores_behaviour(fps: float) -> bool:
    """Whether behaviour is scored in a video of this frame rate."""
    return fps >= MIN_BEHAVIOUR_FPS * (1 - LOST_SHARE)


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """What a demuxer knows about one video, without decoding a pixel."""

    container: str
    codec: str
    pixel_format: str
    width: int
    """Displayed width in pixels, after rotation."""
    height: int
    """Displayed height in pixels, after rotation."""
    rotation_deg: int
    """Degrees counter-clockwise by which a decoded picture is turned for display: 0, 90, 180 or 270."""
    fps: float
    """Frames a second while the camera recorded, from the packet timestamps; frames of one time count once."""
    times_s: NDArray[np.float64]
    """Presentation time of every frame in presentation order, the first at 0, shape ``(N,)``."""
    is_iframe: NDArray[np.bool_]
    """Which frames are intra coded, shape ``(N,)``."""
    packet_bytes: NDArray[np.int64]
    """Size of each frame's packet, in presentation order, shape ``(N,)``."""
    duration_s: float
    """Time from the first frame to the end of the last one."""
    container_start: dt.datetime | None
    """Creation time from the container (UTC), if it has one."""
    decoder: DecoderName
    """Which decoder is trusted with this file."""
    decoder_reason: str
    """Why, in words."""
    origin_s: float = 0.0
    """Time of the first frame on the container's own clock, in seconds: ``times_s`` counts from it."""
    has_frame_times: bool = True
    """Whether every packet carries its own presentation time; if not, frames can only be counted."""
    is_plain: bool = False
    """Whether nothing but the machine, for which decord may not be built, keeps decord from reading it."""

    def __post_init__(self) -> None:
        count = self.times_s.shape
        for name in ("is_iframe", "packet_bytes"):
            if getattr(self, name).shape != count:
                raise ValueError(f"{name} must have shape {count}, got {getattr(self, name).shape}")

    @property
    def frame_count(self) -> int:
        """Number of frames that the packets hold."""
        return int(self.times_s.shape[0])


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file of an archive, before anything is known about its content."""

    video_id: str
    """16 hex digits: a hash of ``uri``."""
    uri: str
    """Path relative to the archive's root, with forward slashes."""
    path: str
    """Where it can be opened on this machine."""
    size_bytes: int
    fingerprint: str
    """Hash of the size and of samples of the content."""
    file_time: dt.datetime
    """The file's own modification time (UTC): a last resort for the start time, never for identity."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A readable video with its place in space and time."""

    file: ArchiveFile
    probe: Probe
    site: str
    camera: str
    start_time: dt.datetime
    """UTC."""
    start_source: Literal["path", "container", "file_time"]
    """``file_time`` marks an estimate."""
    date: dt.date
    """Local date on which the recording starts."""

    @property
    def end_time(self) -> dt.datetime:
        """UTC end of the last frame."""
        return self.start_time + dt.timedelta(seconds=self.probe.duration_s)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that could not be used, and why, in words for the person who keeps the archive."""

    file: ArchiveFile
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Plate:
    """The empty scene of one camera under one lighting regime."""

    plate_id: str
    """Hash of the pixels."""
    regime: str
    """``day``, ``dim`` or ``infrared``, numbered where a camera-day has several, as ``day-2``."""
    pixels: NDArray[np.uint8]
    """RGB means over 3 x 3 pixels, shape ``(H, W, 3)``, at the survey's working size."""
    noise: NDArray[np.float32]
    """Robust standard deviation around the plate in grey levels (of the channel that differs most), shape
    ``(H, W)``."""

    def __post_init__(self) -> None:
        if self.pixels.shape != (*self.noise.shape, 3):
            raise ValueError(f"pixels must have shape {(*self.noise.shape, 3)}, got {self.pixels.shape}")


@dataclass(frozen=True, slots=True, eq=False)
class Presence:
    """When something is there in one video."""

    spans_s: NDArray[np.float64]
    """Start and end of each span in seconds of the video, sorted, disjoint, shape ``(S, 2)``."""
    mode: Literal["spans", "whole"]
    """``whole``: the file is decoded from end to end."""
    reason: str
    """Why this mode was chosen, in words."""
    blind_s: float = 0.0
    """Seconds between empty I-frames that are in the spans only since a visit between them may have been missed."""


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What the I-frames of one camera-day tell: the empty scene, and when something is in it."""

    plates: tuple[Plate, ...]
    presence: dict[str, Presence]
    """By ``video_id``."""


@dataclass(frozen=True, slots=True)
class GridSpan:
    """A stretch of one video's 15 Hz grid."""

    first: int
    """First grid index."""
    stop: int
    """One past the last grid index."""

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.stop:
            raise ValueError(f"need 0 <= first < stop, got first {self.first}, stop {self.stop}")


@dataclass(frozen=True, slots=True, eq=False)
class FrameChunk:
    """Consecutive frames of one video's 15 Hz grid."""

    video_id: str
    first_grid: int
    """Grid index of ``frames[0]``."""
    frames: NDArray[np.uint8]
    """RGB pixels, shape ``(T, H, W, 3)``."""
    times_s: NDArray[np.float64]
    """Presentation times in seconds from the start of the video, shape ``(T,)``."""
    frame_indices: NDArray[np.int64]
    """Index of each frame in the video, counted from 0, shape ``(T,)``."""

    def __post_init__(self) -> None:
        count = self.frames.shape[:1]
        for name in ("times_s", "frame_indices"):
            if getattr(self, name).shape != count:
                raise ValueError(f"{name} must have shape {count}, got {getattr(self, name).shape}")

    @property
    def stop_grid(self) -> int:
        """One past the grid index of the last frame."""
        return self.first_grid + int(self.frames.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Keyframes:
    """Frames of one video at which a detector looks."""

    video_id: str
    times_s: NDArray[np.float64]
    """Presentation times in seconds from the start of the video, shape ``(N,)``."""
    frames: NDArray[np.uint8]
    """RGB pixels, shape ``(N, H, W, 3)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes of individuals in one keyframe."""

    xyxy: NDArray[np.float32]
    """Corners as fractions of width and height, 0 to 1, shape ``(M, 4)``."""
    score: NDArray[np.float32]
    """How sure the detector is, 0 to 1, shape ``(M,)``."""

    def __post_init__(self) -> None:
        if self.xyxy.shape != (self.score.shape[0], 4):
            raise ValueError(f"xyxy must have shape {(self.score.shape[0], 4)}, got {self.xyxy.shape}")

    def where(self, kept: NDArray[np.bool_]) -> Boxes:
        """The boxes at which ``kept``, shape ``(M,)``, is true."""
        return Boxes(xyxy=self.xyxy[kept], score=self.score[kept])


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What the model says about M boxes."""

    p_behaviour: NDArray[np.float32]
    """Probability of each behaviour, shape ``(M, C)``; NaN where behaviour is not scored."""
    p_other: NDArray[np.float32]
    """Probability that the box holds no bird of the ethogram's taxon, shape ``(M,)``."""
    p_dynamic: NDArray[np.float32]
    """Probability of the dynamic motion state, shape ``(M,)``."""
    embedding: NDArray[np.int8]
    """Appearance, shape ``(M, 64)``."""
