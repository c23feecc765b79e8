"""Drive decode tasks and inference actors for the videos of one camera-day, with bounded memory.

One loop per camera-day: a bounded number of decode generators runs ahead by a bounded number of chunks, and a
bounded number of chunks is with the actors. Frames never pass through this process, only references and rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayTaskError, WorkerCrashedError

from model.errors import ModelError
from storage.records import DetectionColumns
from workers.actors import DecodeLimits, DecodeReport, decode_segment
from workers.errors import NO_VIDEO_TO_BLAME, UnreadableVideoError
from workers.messages import MIN_BEHAVIOUR_FPS, Plate, Recording
from workers.score import ScoredKeyframes, join_rows
from workers.segments import Segment, keyframe_indices

PROCESS_ENDED = (
    "the process that decoded it was ended twice: it made no progress, or needed more memory than it may use"
)
NEEDS_MEMORY = "decoding it needs more memory than one process may use; raise decode.memory_gib"
CHUNKS_AHEAD = 3
"""Chunks that one decode task may have finished before they are taken."""
CHUNKS_PER_ACTOR = 2
"""Chunks with one actor: one it works on and one that waits."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How much may be under way at once."""

    decode_workers: int
    decode: DecodeLimits
    frame_size: tuple[int, int]
    """Height and width of the decoded frames."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoredVideo:
    """One finished video: its rows and how they came about."""

    recording: Recording
    rows: DetectionColumns
    keyframes: int
    frames_decoded: int
    decoder: str
    decode_s: float
    detect_s: float
    infer_s: float


@dataclass(frozen=True, slots=True)
class FailedVideo:
    """One video that could not be decoded, and why, in words."""

    recording: Recording
    reason: str


@dataclass(slots=True)
class _OpenSegment:
    segment: Segment
    items: Any
    """Ray's generator of references."""
    chunks_taken: int = 0
    previous: Any = None
    """Reference to the chunk before."""


@dataclass(slots=True, eq=False)
class _OpenVideo:
    recording: Recording
    unfinished: int
    """Segments that are not decoded to their end, plus scorings under way."""
    parts: list[ScoredKeyframes] = field(default_factory=list)
    reports: list[DecodeReport] = field(default_factory=list)
    failure: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Scoring:
    """A chunk that is with an actor."""

    actor: int
    video: _OpenVideo
    chunks: tuple[Any, Any]
    """References to the chunk before and the chunk itself."""


class CameraDayStream:
    """Scores the videos of one camera-day; iterate over it once."""

    def __init__(
        self,
        segments: dict[str, list[Segment]],
        recordings: list[Recording],
        plates: tuple[Plate, ...],
        actors: list[Any],
        limits: StreamLimits,
        behaviours: int,
    ) -> None:
        self._recordings = recordings
        self._limits = limits
        self._behaviours = behaviours
        self._actors = actors
        self._load = [0] * len(actors)
        self._plates = ray.put(plates)
        self._waiting = deque(s for r in recordings for s in segments[r.file.video_id])
        self._open: list[_OpenSegment] = []
        self._scoring: dict[Any, _Scoring] = {}
        self._videos = {r.file.video_id: _OpenVideo(r, len(segments[r.file.video_id])) for r in recordings}

    def __iter__(self) -> Iterator[ScoredVideo | FailedVideo]:
        """Yield each video as it is finished."""
        yield from self._finished()
        while self._videos:
            self._start_segments()
            ready = self._wait()
            for item in ready:
                if item in self._scoring:
                    self._take_scores(item)
                else:
                    self._take_decoded(next(o for o in self._open if o.items is item))
            yield from self._finished()

    def _start_segments(self) -> None:
        while self._waiting and len(self._open) < self._limits.decode_workers:
            segment = self._waiting.popleft()
            video = self._videos.get(segment.recording.file.video_id)
            if video is None or video.failure is not None:
                if video is not None:
                    video.unfinished -= 1
                continue
            items = decode_segment.options(_generator_backpressure_num_objects=CHUNKS_AHEAD).remote(
                segment, self._limits.frame_size, self._limits.decode
            )
            self._open.append(_OpenSegment(segment, items))

    def _wait(self) -> list[Any]:
        room = sum(self._load) < CHUNKS_PER_ACTOR * len(self._actors)
        waitable: list[Any] = list(self._scoring)
        if room:
            waitable += [opened.items for opened in self._open]
        if not waitable:
            return []
        ready, _ = ray.wait(waitable, num_returns=1, fetch_local=False)
        return list(ready)

    def _take_decoded(self, opened: _OpenSegment) -> None:
        """Pass the next chunk to the least loaded actor, or close the segment with its report."""
        video = self._videos[opened.segment.recording.file.video_id]
        item = next(opened.items, None)
        if item is None:
            # The generator ended early, so the reference taken last holds the error instead of a chunk.
            self._close(opened, video, decode_failure(opened.previous) or "the decoder ended early")
            return
        if opened.chunks_taken == opened.segment.chunk_count:
            self._close_with_report(opened, video, item)
            return
        keyframes = opened.segment.keyframes_ready(opened.chunks_taken)
        if keyframes is not None and video.failure is None:
            actor = min(range(len(self._actors)), key=self._load.__getitem__)
            behaviour = video.recording.probe.fps >= MIN_BEHAVIOUR_FPS
            scored = self._actors[actor].score.remote(
                opened.previous, item, keyframes, self._plates, behaviour
            )
            self._scoring[scored] = _Scoring(actor, video, (opened.previous, item))
            self._load[actor] += 1
            video.unfinished += 1
        opened.previous = item
        opened.chunks_taken += 1

    def _close_with_report(self, opened: _OpenSegment, video: _OpenVideo, item: Any) -> None:
        failure = decode_failure(item)
        if failure is None:
            video.reports.append(ray.get(item))
        self._close(opened, video, failure)

    def _close(self, opened: _OpenSegment, video: _OpenVideo, failure: str | None) -> None:
        self._open.remove(opened)
        video.unfinished -= 1
        video.failure = video.failure or failure

    def _take_scores(self, scored: Any) -> None:
        scoring = self._scoring.pop(scored)
        self._load[scoring.actor] -= 1
        scoring.video.unfinished -= 1
        try:
            part = ray.get(scored)
        except RayTaskError as error:
            if isinstance(error.cause, ModelError):
                raise error.cause from None
            failures = [decode_failure(chunk) for chunk in scoring.chunks if chunk is not None]
            unexpected = f"scoring failed unexpectedly: {type(error.cause).__name__}: {error.cause}"
            scoring.video.failure = scoring.video.failure or next(filter(None, failures), unexpected)
            return
        scoring.video.parts.append(part)

    def _finished(self) -> Iterator[ScoredVideo | FailedVideo]:
        for video_id, video in list(self._videos.items()):
            if video.unfinished == 0:
                del self._videos[video_id]
                yield self._outcome(video)

    def _outcome(self, video: _OpenVideo) -> ScoredVideo | FailedVideo:
        if video.failure is not None:
            return FailedVideo(video.recording, video.failure)
        parts = sorted(video.parts, key=lambda part: part.keyframes.first)
        rows = join_rows(video.recording.file.video_id, [part.rows for part in parts], self._behaviours)
        return ScoredVideo(
            recording=video.recording,
            rows=rows,
            keyframes=sum(len(keyframe_indices(part.keyframes)) for part in parts),
            frames_decoded=sum(report.frames_decoded for report in video.reports),
            decoder=", ".join(sorted({report.decoder for report in video.reports})),
            decode_s=sum(report.busy_s for report in video.reports),
            detect_s=sum(part.detect_s for part in parts),
            infer_s=sum(part.infer_s for part in parts),
        )


def decode_failure(item: Any) -> str | None:
    """Why a decode task failed, in words for the keeper of the archive; None where the item is whole.

    Raises ``NO_VIDEO_TO_BLAME``: S3 does not answer, or the scratch disk is full.
    """
    try:
        ray.get(item)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, NO_VIDEO_TO_BLAME):
            raise cause from None
        if isinstance(cause, UnreadableVideoError):
            return cause.reason
        if isinstance(cause, MemoryError):
            return NEEDS_MEMORY
        if isinstance(cause, WorkerCrashedError):
            return PROCESS_ENDED
        return f"decoding failed unexpectedly: {type(cause).__name__}: {cause}"
    except WorkerCrashedError:
        return PROCESS_ENDED
    return None
