"""Drive decode tasks and inference actors for the videos of one camera-day, with bounded memory.

One loop per camera-day: a bounded number of decode generators runs ahead by a bounded number of chunks, and a
bounded number of chunks is with the actors. Frames never pass through this process, only references and rows.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from model.errors import ModelError
from storage.records import DetectionColumns
from workers.actors import DecodeLimits, DecodeReport, decode_segment
from workers.errors import NO_VIDEO_TO_BLAME, ProcessEndedError, UnreadableVideoError
from workers.messages import GridSpan, Plate, Recording, scores_behaviour
from workers.pool import ActorPool, SharedActors
from workers.retries import INTERRUPTED, PROCESS_TRIES, Interruptions, is_alive
from workers.score import ScoredKeyframes, join_rows
from workers.segments import Segment

PROCESS_ENDED = (
    "the process that decoded it was ended twice: it made no progress, or needed more memory than it may use"
)
ACTOR_ENDED = (
    "scoring it ended the process of the inference actor, beside other chunks and alone: the device failed, or more "
    "memory was needed than there is"
)
NEEDS_MEMORY = "decoding it needs more memory than one process may use; raise decode.memory_gib"
CHUNKS_AHEAD = 3
"""Chunks that one decode task may have finished before they are taken."""

LOOK_AGAIN_S = 0.2
"""For what other camera-days did with the actors, while they hold this one up."""


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
    frames_repeated: int
    """Of those, the ones that two segments of one span both decoded, which depends on how it was cut."""
    decoder: str
    decode_s: float
    decoded_bytes: int
    """Of the pixels that went to the actors."""
    decode_peak_bytes: int
    """Most memory that one of its decode processes had resident."""
    detect_s: float
    infer_s: float
    actor_peak_bytes: int
    """Most memory that an actor had had resident by its last chunk."""
    segments: int
    cuts: int
    """Segments that go on with the span of the one before."""


@dataclass(frozen=True, slots=True)
class FailedVideo:
    """One video that could not be decoded, and why, in words."""

    recording: Recording
    reason: str
    may_pass: bool = False
    """Whether it was its process that was ended, which need not happen another time."""


@dataclass(slots=True, eq=False)
class _OpenVideo:
    recording: Recording
    segments: list[_OpenSegment] = field(default_factory=list)
    unfinished: int = 0
    """Segments that are not decoded and scored to their end."""
    failure: str | None = None
    may_pass: bool = False


@dataclass(slots=True, eq=False)
class _OpenSegment:
    """A segment, over all attempts to decode it; what was scored in one of them is not scored in the next."""

    segment: Segment
    video: _OpenVideo
    interruptions: Interruptions
    scored: dict[int, ScoredKeyframes] = field(default_factory=dict)
    """By the number of the chunk that completed them."""
    report: DecodeReport | None = None
    scorings: int = 0
    """Chunks that are with an actor."""
    interruption: Exception | None = None
    """What this attempt lost, and why."""
    items: Any = None
    """Ray's generator of references; None where nothing is being decoded."""
    chunks_taken: int = 0
    previous: Any = None
    """Reference to the chunk before."""

    def begin(self, items: Any) -> None:
        """Start an attempt."""
        self.items, self.chunks_taken, self.previous, self.interruption = items, 0, None, None


@dataclass(frozen=True, slots=True, eq=False)
class _Scoring:
    """A chunk that is with an actor."""

    actor: int
    opened: _OpenSegment
    number: int
    """Of the chunk in its segment."""
    chunks: tuple[Any, Any]
    """References to the chunk before and the chunk itself."""
    keyframes: GridSpan
    alone_on: str | None = None
    """Node of the actor, where nothing else is with it: one of several chunks may have ended its process before."""
    deaths_alone: int = 0
    """Of the actor's process, with this chunk alone."""


class CameraDayStream:
    """Scores the videos of one camera-day; iterate over it once."""

    def __init__(
        self,
        segments: dict[str, list[Segment]],
        recordings: list[Recording],
        plates: tuple[Plate, ...],
        actors: SharedActors,
        limits: StreamLimits,
        behaviours: int,
    ) -> None:
        self._limits = limits
        self._behaviours = behaviours
        self._pool = ActorPool(actors)
        self._plates = ray.put(plates)
        self._open: list[_OpenSegment] = []
        self._scoring: dict[Any, _Scoring] = {}
        self._suspects: deque[_Scoring] = deque()
        """Chunks whose actor died while it had them."""
        self._videos = {r.file.video_id: _opened(r, segments[r.file.video_id]) for r in recordings}
        self._waiting = deque(opened for video in self._videos.values() for opened in video.segments)

    def __iter__(self) -> Generator[ScoredVideo | FailedVideo, None, None]:
        """Yield each video as it is finished. Close it where it is not read to its end.

        Raises:
            UnstableClusterError: nodes or actors die faster than work gets done.
            StorageError, ScratchFullError: S3 does not answer, or there is no room for copies.
        """
        try:
            yield from self._finished()
            while self._videos:
                self._start_segments()
                self._start_suspect()
                for item in self._wait():
                    if item in self._pool.answers:
                        self._pool.take_answer(item)
                    elif item in self._scoring:
                        self._take_scores(item)
                    elif (actor := self._pool.reserve()) is not None:
                        self._take_decoded(next(o for o in self._open if o.items is item), actor)
                yield from self._finished()
        finally:
            # The traceback of an error would keep decode tasks waiting to be taken, each on its processor.
            for opened in self._open:
                ray.cancel(opened.items, force=True)
            self._pool.close()

    def _start_segments(self) -> None:
        while self._waiting and len(self._open) < self._limits.decode_workers:
            opened = self._waiting.popleft()
            if opened.video.failure is not None:
                opened.video.unfinished -= 1
                continue
            limits = self._limits.decode
            if opened.interruptions.ended_a_process:  # PyNvVideoCodec ends it where the driver fails
                limits = dataclasses.replace(limits, gpu_share=0.0)
            task = decode_segment.options(
                _generator_backpressure_num_objects=CHUNKS_AHEAD, num_gpus=limits.gpu_share
            )
            opened.begin(task.remote(opened.segment, self._limits.frame_size, limits))
            self._open.append(opened)

    def _start_suspect(self) -> None:
        """Score the next suspect alone, once there is an actor that is done with the others."""
        while self._suspects and self._suspects[0].opened.video.failure is not None:
            self._drop(self._suspects.popleft())
        if not self._suspects:
            self._pool.share_all()
        elif (free := self._pool.free_one()) is not None:
            actor, node = free
            self._submit(dataclasses.replace(self._suspects.popleft(), actor=actor, alone_on=node))

    def _wait(self) -> list[Any]:
        waitable: list[Any] = [*self._scoring, *self._pool.answers]
        if self._pool.has_room:
            waitable += [opened.items for opened in self._open]
        timeout_s = LOOK_AGAIN_S if self._pool.waits_for_others else None
        if not waitable:
            time.sleep(timeout_s or 0.0)
            return []
        ready, _ = ray.wait(waitable, num_returns=1, timeout=timeout_s, fetch_local=False)
        return list(ready)

    def _take_decoded(self, opened: _OpenSegment, actor: int) -> None:
        """Pass the next chunk to the actor that is reserved for it, or end the attempt with its report."""
        item = next(opened.items, None)
        if item is not None and opened.chunks_taken < opened.segment.chunk_count:
            self._hand_over(opened, item, actor)
            opened.previous = item
            opened.chunks_taken += 1
            return
        self._pool.returned(actor)
        # Where the generator ended early, the reference taken last holds the error instead of a chunk.
        self._end_attempt(opened, opened.previous if item is None else item)

    def _hand_over(self, opened: _OpenSegment, item: Any, actor: int) -> None:
        number, video = opened.chunks_taken, opened.video
        keyframes = opened.segment.keyframes_ready(number)
        if keyframes is None or video.failure is not None or number in opened.scored:
            self._pool.returned(actor)
            return
        opened.scorings += 1
        self._submit(_Scoring(actor, opened, number, (opened.previous, item), keyframes))

    def _submit(self, scoring: _Scoring) -> None:
        behaviour = scores_behaviour(scoring.opened.video.recording.probe.fps)
        chunk = (*scoring.chunks, scoring.keyframes, self._plates, behaviour)
        self._scoring[self._pool.submit(scoring.actor, *chunk)] = scoring

    def _end_attempt(self, opened: _OpenSegment, last: Any) -> None:
        self._open.remove(opened)
        try:
            failure = decode_failure(last)
            if failure is None:
                found = ray.get(last)
                opened.report = found if isinstance(found, DecodeReport) else None
                failure = None if opened.report else "the decoder ended early"
            opened.video.failure = opened.video.failure or failure
        except INTERRUPTED as error:
            opened.interruption = opened.interruption or error
        opened.items = opened.previous = None
        self._settle(opened)

    def _take_scores(self, scored: Any) -> None:
        scoring = self._scoring.pop(scored)
        opened = scoring.opened
        self._pool.returned(scoring.actor)
        try:
            found = _scores_or_failure(scored, scoring.chunks)
        except RayActorError as error:
            self._take_death(scoring, error)
            return
        except INTERRUPTED as error:  # the chunk is lost, or the process that was to decode it died
            opened.interruption = opened.interruption or error
        else:
            if isinstance(found, str):
                opened.video.failure = opened.video.failure or found
            else:
                opened.scored[scoring.number] = found
        self._drop(scoring)

    def _take_death(self, scoring: _Scoring, error: RayActorError) -> None:
        """Score a chunk alone whose actor died, or give its video up where that was tried."""
        self._pool.ask(scoring.actor)
        video, deaths = scoring.opened.video, scoring.deaths_alone
        if scoring.alone_on is not None:
            if is_alive(scoring.alone_on):
                deaths += 1
            else:
                scoring.opened.interruptions.count_loss(error)
        if deaths == PROCESS_TRIES:
            if video.failure is None:
                video.failure, video.may_pass = ACTOR_ENDED, True
            self._drop(scoring)
        else:
            self._suspects.append(dataclasses.replace(scoring, deaths_alone=deaths))

    def _drop(self, scoring: _Scoring) -> None:
        """Be done with a chunk, scored or not."""
        scoring.opened.scorings -= 1
        self._settle(scoring.opened)

    def _settle(self, opened: _OpenSegment) -> None:
        """Where nothing of an attempt is under way any more: the segment is finished, or begins again."""
        if opened.items is not None or opened.scorings:
            return
        video = opened.video
        if opened.interruption is not None and video.failure is None:
            try:
                opened.interruptions.count(opened.interruption)
            except ProcessEndedError:
                video.failure, video.may_pass = PROCESS_ENDED, True
            else:
                self._waiting.appendleft(opened)
                return
        video.unfinished -= 1

    def _finished(self) -> Iterator[ScoredVideo | FailedVideo]:
        for video_id, video in list(self._videos.items()):
            if video.unfinished == 0:
                del self._videos[video_id]
                yield self._outcome(video)

    def _outcome(self, video: _OpenVideo) -> ScoredVideo | FailedVideo:
        if video.failure is not None:
            return FailedVideo(video.recording, video.failure, video.may_pass)
        parts = [part for opened in video.segments for part in opened.scored.values()]
        parts.sort(key=lambda part: part.keyframes.first)
        reports = [opened.report for opened in video.segments if opened.report is not None]
        rows = join_rows(video.recording.file.video_id, [part.rows for part in parts], self._behaviours)
        return ScoredVideo(
            recording=video.recording,
            rows=rows,
            keyframes=sum(part.looked_at for part in parts),
            frames_decoded=sum(report.frames_decoded for report in reports),
            frames_repeated=sum(opened.segment.repeats for opened in video.segments),
            decoder=", ".join(sorted({report.decoder for report in reports})),
            decode_s=sum(report.busy_s for report in reports),
            decoded_bytes=sum(report.num_bytes for report in reports),
            decode_peak_bytes=max((report.peak_bytes for report in reports), default=0),
            detect_s=sum(part.detect_s for part in parts),
            infer_s=sum(part.infer_s for part in parts),
            actor_peak_bytes=max((part.peak_bytes for part in parts), default=0),
            segments=len(video.segments),
            cuts=sum(opened.segment.repeats > 0 for opened in video.segments),
        )


def _opened(recording: Recording, segments: list[Segment]) -> _OpenVideo:
    video = _OpenVideo(recording, unfinished=len(segments))
    uri = recording.file.uri
    video.segments += [_OpenSegment(segment, video, Interruptions(uri)) for segment in segments]
    return video


def _scores_or_failure(scored: Any, chunks: tuple[Any, Any]) -> ScoredKeyframes | str:
    """What an actor made of a chunk and the one before, or why not, in words."""
    try:
        part: ScoredKeyframes = ray.get(scored)
    except INTERRUPTED:
        raise
    except RayTaskError as error:
        if isinstance(error.cause, ModelError):
            raise error.cause from None
        failures = [decode_failure(chunk) for chunk in chunks if chunk is not None]
        unexpected = f"scoring failed unexpectedly: {type(error.cause).__name__}: {error.cause}"
        return next(filter(None, failures), unexpected)
    return part


def decode_failure(item: Any) -> str | None:
    """Why a decode task failed, in words for the keeper of the archive; None where the item is whole.

    Raises:
        NO_VIDEO_TO_BLAME: S3 does not answer, or the scratch disk is full.
        INTERRUPTED: the process or the node of the task died, or the item was lost.
    """
    try:
        ray.get(item)
    except INTERRUPTED:
        raise
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, NO_VIDEO_TO_BLAME):
            raise cause from None
        if isinstance(cause, UnreadableVideoError):
            return cause.reason
        if isinstance(cause, MemoryError):
            return NEEDS_MEMORY
        return f"decoding failed unexpectedly: {type(cause).__name__}: {cause}"
    return None
