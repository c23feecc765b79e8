"""Cut what has to be decoded into segments, such that the cut changes no result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from workers.grid import FrameGrid
from workers.messages import CLIP_AFTER, GRID_HZ, KEYFRAME_STEP, GridSpan, Presence, Recording

CHUNK_FRAMES = 64
"""Grid frames in one chunk; at least a clip, so that two neighbouring chunks hold every clip."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """What one decode task reads, and which keyframes are scored from it."""

    recording: Recording
    frames: GridSpan
    """Grid frames to decode: the keyframes and the frames that their clips reach into."""
    keyframes: GridSpan
    """The keyframes to score are the multiples of ``KEYFRAME_STEP`` in this span."""
    clip_reach: int = CLIP_AFTER
    """Grid frames that a clip takes on each side of keyframe ``k``: ``[k - clip_reach, k + clip_reach)``."""

    @property
    def chunk_count(self) -> int:
        """Chunks that decoding this segment yields."""
        return -(-(self.frames.stop - self.frames.first) // CHUNK_FRAMES)

    def keyframes_ready(self, chunk: int) -> GridSpan | None:
        """Keyframes whose clips end within chunk number ``chunk`` and did not within the one before."""
        first = max(self.keyframes.first, self._complete_before(chunk - 1)) if chunk else self.keyframes.first
        stop = min(self.keyframes.stop, self._complete_before(chunk))
        return GridSpan(first, stop) if first < stop else None

    def _complete_before(self, chunk: int) -> int:
        """Grid index below which every keyframe's clip lies within the chunks up to ``chunk``."""
        if chunk == self.chunk_count - 1:
            return self.keyframes.stop
        return self.frames.first + (chunk + 1) * CHUNK_FRAMES - self.clip_reach + 1


def keyframe_indices(span: GridSpan) -> range:
    """Grid indices of the keyframes in a span."""
    first = -(-span.first // KEYFRAME_STEP) * KEYFRAME_STEP
    return range(first, span.stop, KEYFRAME_STEP)


def plan_segments(
    recording: Recording, presence: Presence, segment_s: float, clip_reach: int = CLIP_AFTER
) -> list[Segment]:
    """Segments of one video that cover its presence spans.

    Cuts lie at fixed moments of the video, and each segment brings the frames that its first and last clips
    reach into, so that every keyframe is scored from the same pixels whatever ``segment_s`` is.
    """
    grid_stop = FrameGrid.of(recording.probe).length
    step = max(1, round(segment_s * GRID_HZ / KEYFRAME_STEP)) * KEYFRAME_STEP
    segments = []
    for wanted in presence_keyframes(presence, grid_stop):
        for piece in _cut(wanted, step):
            frames = GridSpan(max(0, piece.first - clip_reach), min(grid_stop, piece.stop - 1 + clip_reach))
            segments.append(Segment(recording, frames, piece, clip_reach))
    return segments


def presence_keyframes(presence: Presence, grid_stop: int) -> list[GridSpan]:
    """Keyframe spans (first and last are keyframes, stop is one past the last) within the presence spans."""
    spans: list[GridSpan] = []
    for start_s, end_s in presence.spans_s:
        low = int(np.floor(start_s * GRID_HZ / KEYFRAME_STEP)) * KEYFRAME_STEP
        high = int(np.ceil(end_s * GRID_HZ / KEYFRAME_STEP)) * KEYFRAME_STEP
        low, stop = max(0, low), min(high, (grid_stop - 1) // KEYFRAME_STEP * KEYFRAME_STEP) + 1
        if spans and low < spans[-1].stop:
            low = spans[-1].stop - 1 + KEYFRAME_STEP
        if low < stop:
            spans.append(GridSpan(low, stop))
    return spans


def _cut(span: GridSpan, step: int) -> Iterator[GridSpan]:
    first = span.first
    while first < span.stop:
        stop = min(span.stop, (first // step + 1) * step)
        yield GridSpan(first, stop)
        first = stop
