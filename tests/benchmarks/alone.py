"""One stage of a finished run alone, on what the run had: its wall time and its processors' time.

Each works in processes of its own that do nothing else, as many as the run had for that stage; they are started, have
loaded their weights and taken a first look at the input before the clock starts. There is no Ray and no object store.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from flows.nightly.context import RunContext
from flows.nightly.night import frame_size
from flows.nightly.plan import DayPlan
from workers.detectors import DetectorSpec
from workers.messages import MIN_BEHAVIOUR_FPS, FrameChunk, GridSpan, Plate, Presence, Recording
from workers.score import ScorerSpec
from workers.segments import CHUNK_FRAMES, Segment, plan_segments

START_S = 1.0
"""For which a process that was started is kept busy, so that the next task starts another one."""


@dataclass(frozen=True, slots=True)
class Alone:
    """What a stage took without the others."""

    wall_s: float
    cpu_s: float
    """Of all processors together."""
    calls: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class RecordedDay:
    """What the stages of a camera-day had to work on, from its store."""

    recordings: list[Recording]
    plates: tuple[Plate, ...]
    segments: list[Segment]
    frame_size: tuple[int, int]
    """Height and width of the decoded frames."""


def recorded_days(context: RunContext, plans: Sequence[DayPlan]) -> list[RecordedDay]:
    """The input of each stage of a run that is finished."""
    found = []
    for plan in plans:
        stored = context.catalog.read_plates(plan.day) or ()
        footers = context.catalog.finished_detections(plan.day)
        segments = [
            segment
            for recording in plan.to_score
            for segment in plan_segments(
                recording,
                _presence(footers[recording.file.video_id].details),
                context.settings.decode.segment_seconds,
                context.model.clip_frames // 2,
            )
        ]
        plates = tuple(Plate(p.plate_id, p.regime, p.pixels, p.noise) for p in stored)
        size = frame_size(plan.to_score[0].probe, context.settings.decode.frame_height)
        found.append(RecordedDay(list(plan.to_score), plates, segments, size))
    return found


def decode_alone(days: Sequence[RecordedDay], workers: int) -> Alone:
    """Decoding all segments, the frames thrown away."""
    jobs = [(segment, day.frame_size) for day in days for segment in day.segments]
    return _alone(_decode, jobs, workers)


def score_alone(days: Sequence[RecordedDay], spec: ScorerSpec, actors: int) -> Alone:
    """Detecting and inferring on the decoded chunks, which are decoded beforehand, outside the clock."""
    jobs = [(spec, segment, day.plates, day.frame_size) for day in days for segment in day.segments]
    return _alone(_score, jobs, actors)


def survey_alone(
    days: Sequence[RecordedDay], finder: DetectorSpec | None, gap_s: float, workers: int
) -> Alone:
    """The plates of each camera-day, then where something is in its recordings."""
    plates = [(day.recordings, day.frame_size) for day in days]
    looks = [
        (recording, day.plates, day.frame_size, finder, gap_s) for day in days for recording in day.recordings
    ]
    first, second = _alone(_plates, plates, workers), _alone(_survey, looks, workers)
    return Alone(first.wall_s + second.wall_s, first.cpu_s + second.cpu_s, first.calls + second.calls)


@dataclass(slots=True)
class _Watch:
    """Wall time and processor time of the calls that are made through it."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    calls: int = 0

    def run(self, work: Callable[[], Any]) -> Any:
        """Time a call."""
        started, busy_s = time.perf_counter(), time.process_time()
        found = work()
        self.cpu_s += time.process_time() - busy_s
        self.wall_s += time.perf_counter() - started
        self.calls += 1
        return found


def _alone(stage: Callable[..., _Watch], jobs: Sequence[tuple[Any, ...]], workers: int) -> Alone:
    """Spread jobs over processes; the wall time is that of the process which takes longest."""
    workers = max(1, min(workers, len(jobs)))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(_begin, [stage] * workers, [jobs[0]] * workers))
        watches = list(pool.map(_in_process, [stage] * len(jobs), jobs))
    by_process: dict[int, float] = {}
    for pid, watch in watches:
        by_process[pid] = by_process.get(pid, 0.0) + watch.wall_s
    cpu_s, calls = sum(watch.cpu_s for _, watch in watches), sum(watch.calls for _, watch in watches)
    return Alone(max(by_process.values()), cpu_s, calls)


def _begin(stage: Callable[..., _Watch], job: tuple[Any, ...]) -> None:
    """Load what a stage needs, by the beginning of one job."""
    stage(*(_beginning(part) if isinstance(part, Segment) else part for part in job))
    time.sleep(START_S)


def _beginning(segment: Segment) -> Segment:
    frames, keyframes = segment.frames, segment.keyframes
    stop = min(frames.stop, frames.first + CHUNK_FRAMES)
    return dataclasses.replace(
        segment,
        frames=GridSpan(frames.first, stop),
        keyframes=GridSpan(
            keyframes.first, max(keyframes.first + 1, min(keyframes.stop, stop - segment.clip_reach))
        ),
    )


def _in_process(stage: Callable[..., _Watch], job: tuple[Any, ...]) -> tuple[int, _Watch]:
    return os.getpid(), stage(*job)


def _decode(segment: Segment, frame_size: tuple[int, int]) -> _Watch:
    watch, chunks = _Watch(), _chunks(segment, frame_size)
    while watch.run(lambda: next(chunks, None)) is not None:
        pass
    return watch


_SCORERS: dict[ScorerSpec, Any] = {}
"""Of this process: its weights are loaded once."""


def _score(
    spec: ScorerSpec, segment: Segment, plates: tuple[Plate, ...], frame_size: tuple[int, int]
) -> _Watch:
    from workers.score import FrameScorer

    if spec not in _SCORERS:
        _SCORERS[spec] = FrameScorer(spec)
    scorer, watch = _SCORERS[spec], _Watch()
    behaviour = segment.recording.probe.fps >= MIN_BEHAVIOUR_FPS
    previous: FrameChunk | None = None
    for number, chunk in enumerate(_chunks(segment, frame_size)):
        keyframes = segment.keyframes_ready(number)
        if keyframes is not None:
            watch.run(partial(scorer.score, previous, chunk, keyframes, plates, behaviour))
        previous = chunk
    return watch


def _plates(recordings: list[Recording], frame_size: tuple[int, int]) -> _Watch:
    from workers.survey import camera_day_plates

    watch = _Watch()
    watch.run(lambda: camera_day_plates(recordings, frame_size))
    return watch


def _survey(
    recording: Recording,
    plates: tuple[Plate, ...],
    frame_size: tuple[int, int],
    finder: DetectorSpec | None,
    gap_s: float,
) -> _Watch:
    from workers.survey import survey_video

    detector, watch = None if finder is None else finder.build(), _Watch()
    watch.run(lambda: survey_video(recording, plates, frame_size, detector, gap_s))
    return watch


def _chunks(segment: Segment, frame_size: tuple[int, int]) -> Iterator[FrameChunk]:
    from workers.decode import decode_span

    recording = segment.recording
    return decode_span(
        recording.file.path,
        recording.probe,
        segment.frames,
        frame_size,
        video_id=recording.file.video_id,
        chunk_frames=CHUNK_FRAMES,
    )


def _presence(details: Any) -> Presence:
    return Presence(np.array(details["spans_s"], np.float64).reshape(-1, 2), "spans", "as stored")
