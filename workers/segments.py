"""Cut what has to be decoded into segments, such that the cut changes no result."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.grid import FrameGrid
from workers.messages import (
    CLIP_AFTER,
    GRID_HZ,
    KEYFRAME_STEP,
    FrameChunk,
    GridSpan,
    Presence,
    Probe,
    Recording,
)
from workers.pyav_reader import iframe_before

CHUNK_FRAMES = 64
"""Grid frames in one chunk; at least a clip, so that two neighbouring chunks hold every clip."""
MIN_PIECE_S = 20.0
"""A shorter piece of a span is not worth a process of its own and the frames that are decoded twice."""
IDLE_SHARE = 0.05
"""Of their time workers may be idle at the end before a span is cut for them."""
SNAP_S = 5.0
"""Of the I-frames this near to a moment at which a span is to be cut the one is taken before which least is decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """What one decode task reads, and which keyframes are scored from it."""

    recording: Recording
    frames: GridSpan
    """Grid frames to decode: the keyframes and the frames that their clips reach into."""
    keyframes: GridSpan
    """The keyframes are the multiples of ``KEYFRAME_STEP`` in this span."""
    clip_reach: int = CLIP_AFTER
    """Grid frames that a clip takes on each side of keyframe ``k``: ``[k - clip_reach, k + clip_reach)``."""
    repeats: int = 0
    """Frames of the video that the segment before decodes, too, since both are of one span; 0 where a span begins."""

    @property
    def seconds(self) -> float:
        """Length of what it reads."""
        return (self.frames.stop - self.frames.first) / GRID_HZ

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


def places_to_score(span: GridSpan, chunk: FrameChunk) -> NDArray[np.int64]:
    """Places in a chunk of the keyframes of a span; of several that show one frame, as in a slow video or beside a
    pause, the one nearest to it in time, of two equally near the earlier.

    The chunk must reach to the keyframes before and after the span, or to the video's ends.
    """
    places = np.array(keyframe_indices(span), np.int64) - chunk.first_grid
    off_s = np.abs(chunk.times_s - np.arange(chunk.first_grid, chunk.stop_grid) / GRID_HZ)

    def shows_the_same(others: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        there = others.clip(0, len(off_s) - 1)
        return (others == there) & (chunk.frame_indices[there] == chunk.frame_indices[places]), there

    as_before, before = shows_the_same(places - KEYFRAME_STEP)
    as_after, after = shows_the_same(places + KEYFRAME_STEP)
    is_nearest = ~(as_before & (off_s[before] <= off_s[places])) & ~(
        as_after & (off_s[after] < off_s[places])
    )
    return np.extract(is_nearest, places)


def plan_segments(
    recording: Recording, presence: Presence, segment_s: float | None = None, clip_reach: int = CLIP_AFTER
) -> list[Segment]:
    """Segments of one video that cover its presence spans: one for each, or several with ``segment_s``.

    Cuts lie at fixed moments of the video with an I-frame between them, and each segment brings the frames that its
    first and last clips reach into, so that every keyframe is scored from the same pixels whatever ``segment_s`` is.
    """
    grid = FrameGrid.of(recording.probe)
    segments = []
    for wanted in presence_keyframes(presence, grid):
        (segment,) = _pieces(recording, grid, wanted, (), clip_reach)
        cuts = () if segment_s is None else _fixed_cuts(segment, grid, segment_s)
        segments += _pieces(recording, grid, wanted, cuts, clip_reach)
    return segments


def plan_day(
    looked_at: Sequence[tuple[Recording, Presence]],
    workers: int,
    segment_s: float | None = None,
    clip_reach: int = CLIP_AFTER,
) -> dict[str, list[Segment]]:
    """Segments of each video of a camera-day, by its id, in the order in which decode workers take them.

    Args:
        looked_at: the videos in that order, with their spans.
        workers: that decode at once.
        segment_s: a span is cut at multiples of this; by default at an I-frame, where a worker would be idle otherwise.
        clip_reach: grid frames that a clip takes on each side of its keyframe.
    """
    planned = [
        (recording, plan_segments(recording, seen, segment_s, clip_reach)) for recording, seen in looked_at
    ]
    if segment_s is not None:
        return {recording.file.video_id: segments for recording, segments in planned}
    spans = [segment for _, segments in planned for segment in segments]
    pieces_s = iter(cut_to_fill([span.seconds for span in spans], workers))
    return {
        recording.file.video_id: [
            piece for span in segments for piece in _cut_at_iframes(span, next(pieces_s))
        ]
        for recording, segments in planned
    }


def cut_to_fill(lengths_s: Sequence[float], workers: int) -> list[list[float]]:
    """Lengths of the pieces of each piece of work, cut so that no worker is idle for long before the others are done.

    Whoever is free takes what is next. What would then be done long after the moment at which all could be is cut
    at that moment, and the rest is for who is free next, which takes fewer cuts than there are workers (McNaughton,
    Scheduling with deadlines and loss functions, 1959). Where there is enough for all, nothing is cut.
    """
    even_s = sum(lengths_s) / workers
    free_s = [0.0] * workers
    pieces_s: list[list[float]] = []
    for length_s in lengths_s:
        pieces_s.append([])
        left_s = length_s
        while left_s > 0 or not pieces_s[-1]:
            at_s = heapq.heappop(free_s)
            room_s = max(even_s - at_s, MIN_PIECE_S)
            fits = at_s + left_s <= (1 + IDLE_SHARE) * even_s or left_s < room_s + MIN_PIECE_S
            pieces_s[-1].append(left_s if fits else room_s)
            heapq.heappush(free_s, at_s + pieces_s[-1][-1])
            left_s = 0.0 if fits else left_s - room_s
    return pieces_s


def presence_keyframes(presence: Presence, grid: FrameGrid) -> list[GridSpan]:
    """Keyframe spans (first and last are keyframes, stop is one past the last) of the presence spans, with the
    keyframes that stand for the frames shown at their ends.
    """
    spans: list[GridSpan] = []
    for start_s, end_s in presence.spans_s:
        low = int(np.floor(start_s * GRID_HZ / KEYFRAME_STEP)) * KEYFRAME_STEP
        high = int(np.ceil(end_s * GRID_HZ / KEYFRAME_STEP)) * KEYFRAME_STEP
        low, stop = max(0, low), min(high, (grid.length - 1) // KEYFRAME_STEP * KEYFRAME_STEP) + 1
        if low < stop:
            low, stop = (
                min(low, _nearest_keyframe(grid, low)),
                max(stop - 1, _nearest_keyframe(grid, stop - 1)) + 1,
            )
        if spans and low < spans[-1].stop:
            low = spans[-1].stop - 1 + KEYFRAME_STEP
        if low < stop:
            spans.append(GridSpan(low, stop))
    return spans


def _nearest_keyframe(grid: FrameGrid, keyframe: int) -> int:
    """Of the keyframes that show the same frame as this one, the one that is scored."""
    shown, frame = grid.frame_indices[::KEYFRAME_STEP], grid.frame_indices[keyframe]
    alike = np.arange(*np.searchsorted(shown, [frame, frame + 1])) * KEYFRAME_STEP
    return int(alike[np.abs(grid.times_s[keyframe] - alike / GRID_HZ).argmin()])


def _fixed_cuts(span: Segment, grid: FrameGrid, segment_s: float) -> Iterator[int]:
    """Keyframes at multiples of a length within a span; not where both pieces would be read from the same frame on."""
    step = max(1, round(segment_s * GRID_HZ / KEYFRAME_STEP)) * KEYFRAME_STEP
    entry = decoded_from(span.recording.probe, int(grid.frame_indices[span.frames.first]))
    for keyframe in range((span.keyframes.first // step + 1) * step, span.keyframes.stop, step):
        first = max(0, keyframe - span.clip_reach)
        own_entry = decoded_from(span.recording.probe, int(grid.frame_indices[first]))
        if own_entry > entry:
            entry = own_entry
            yield keyframe


def _cut_at_iframes(span: Segment, pieces_s: Sequence[float]) -> list[Segment]:
    """Pieces of about the lengths wanted, fewer where there are too few I-frames to begin one at."""
    if len(pieces_s) == 1 or not span.recording.probe.has_frame_times:  # each piece would be read from 0 on
        return [span]
    grid = FrameGrid.of(span.recording.probe)
    entries = _entries(span, grid)
    cuts = set()
    for end_s in np.cumsum(pieces_s[:-1]).tolist():
        wanted = span.keyframes.first + end_s * GRID_HZ
        if entries:
            cuts.add(min(entries, key=lambda entry: _cost(entry, wanted))[0])
    return _pieces(span.recording, grid, span.keyframes, sorted(cuts), span.clip_reach)


def _entries(span: Segment, grid: FrameGrid) -> list[tuple[int, int]]:
    """For each I-frame well within a span: the first keyframe whose clip does not reach before it, and the frames
    between the two.
    """
    margin, entries = MIN_PIECE_S / 2 * GRID_HZ, []
    for iframe in np.flatnonzero(span.recording.probe.is_iframe).tolist():
        reached = int(np.searchsorted(grid.frame_indices, iframe)) + span.clip_reach
        keyframe = -(-reached // KEYFRAME_STEP) * KEYFRAME_STEP
        if span.keyframes.first + margin <= keyframe <= span.keyframes.stop - margin:
            entries.append((keyframe, int(grid.frame_indices[keyframe - span.clip_reach]) - iframe))
    return entries


def _cost(entry: tuple[int, int], wanted: float) -> tuple[float, int, float]:
    """Near ones first; among those the one before which fewest frames are decoded for nothing."""
    keyframe, frames_before = entry
    off_s = abs(keyframe - wanted) / GRID_HZ
    return max(0.0, off_s - SNAP_S), frames_before, off_s


def _pieces(
    recording: Recording, grid: FrameGrid, span: GridSpan, cuts: Iterable[int], clip_reach: int
) -> list[Segment]:
    """Segments between the keyframes at which a span is cut, the first of each piece's."""
    pieces: list[Segment] = []
    first = span.first
    for stop in (*cuts, span.stop - 1 + KEYFRAME_STEP):
        keyframes = GridSpan(first, stop - KEYFRAME_STEP + 1)
        frames = GridSpan(max(0, first - clip_reach), min(grid.length, keyframes.stop - 1 + clip_reach))
        repeats = 0
        if pieces:
            last = int(grid.frame_indices[pieces[-1].frames.stop - 1])
            repeats = max(0, last + 1 - decoded_from(recording.probe, int(grid.frame_indices[frames.first])))
        pieces.append(Segment(recording, frames, keyframes, clip_reach, repeats))
        first = stop
    return pieces


def decoded_from(probe: Probe, frame: int) -> int:
    """The frame from which a decoder has to read in order to show another."""
    return iframe_before(probe, frame) if probe.has_frame_times else 0
