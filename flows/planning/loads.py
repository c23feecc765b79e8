"""What there is to do in an archive: camera-days, videos, and the segments in which something is there."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from workers.segments import cut_to_fill

WHOLE = 0.95
"""From this share on something is there all the time: a video is one span."""


@dataclass(frozen=True, slots=True)
class VideoLoad:
    """One video."""

    duration_s: float
    segments_s: tuple[float, ...]
    """Seconds of each segment that is decoded."""


@dataclass(frozen=True, slots=True)
class DayLoad:
    """One camera-day."""

    videos: tuple[VideoLoad, ...]
    after: int | None = None
    """Place of the day before it of the same camera in the list of days."""

    @property
    def video_s(self) -> float:
        """Seconds of its videos."""
        return sum(video.duration_s for video in self.videos)


@dataclass(frozen=True, slots=True)
class Presence:
    """How much of a video is looked at, in pieces of which length."""

    share: float
    span_s: float
    """Mean length of the pieces where it is not all of it."""
    segment_s: float | None
    """Longest segment; None where spans are cut for idle workers only."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.span_s <= 0 or (self.segment_s or 1.0) <= 0:
            raise ValueError(f"need a share from 0 to 1 and lengths above 0, got {self}")

    def load(self, duration_s: float) -> VideoLoad:
        """The segments of a video, all of one length, before any is cut for idle workers."""
        present_s = duration_s * self.share
        if present_s == 0:
            return VideoLoad(duration_s, ())
        span_s = present_s if self.share >= WHOLE else self.span_s
        piece_s = min(span_s, self.segment_s or span_s)
        count = max(1, math.ceil(present_s / piece_s - 1e-6))
        return VideoLoad(duration_s, (present_s / count,) * count)


def load_days(
    placed: Sequence[tuple[Hashable, Hashable, float]], presence: Presence, workers: int
) -> tuple[DayLoad, ...]:
    """Camera-days in order of camera and date, as a run takes them.

    Args:
        placed: camera, date and seconds of each video.
        presence: in all of them.
        workers: that decode a camera-day at once.
    """
    videos: defaultdict[tuple[str, str], list[VideoLoad]] = defaultdict(list)
    for camera, date, duration_s in placed:
        videos[str(camera), str(date)].append(presence.load(duration_s))
    days: list[DayLoad] = []
    latest: dict[str, int] = {}
    for camera_name, date_name in sorted(videos):
        of_day = videos[camera_name, date_name]
        cut = of_day if presence.segment_s else _cut_for(workers, of_day)
        days.append(DayLoad(tuple(cut), latest.get(camera_name)))
        latest[camera_name] = len(days) - 1
    return tuple(days)


def _cut_for(workers: int, videos: Sequence[VideoLoad]) -> list[VideoLoad]:
    """Videos of a camera-day with the segments that a run would cut, by the same rule."""
    pieces_s = iter(cut_to_fill([seconds for video in videos for seconds in video.segments_s], workers))
    return [
        VideoLoad(video.duration_s, tuple(piece for _ in video.segments_s for piece in next(pieces_s)))
        for video in videos
    ]


def even_days(
    camera_days: int, videos: int, video_s: float, presence: Presence, workers: int
) -> tuple[DayLoad, ...]:
    """Camera-days of which only the sums are known: videos of one length, dealt out in turn, each camera another."""
    placed = [(f"{number % max(1, camera_days):06d}", "", video_s / videos) for number in range(videos)]
    return load_days(placed, presence, workers)
