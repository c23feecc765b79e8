"""One stage of a finished run alone, on what the run had: its wall time and its processors' time.

Each works in processes of its own that do nothing else, as many as the run had for that stage; they are started, have
loaded their weights and taken a first look at the input before the clock starts. There is no Ray and no object store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from flows.nightly.context import RunContext
from flows.nightly.plan import DayPlan
from tests.benchmarks.stages import Watch, begin, decode, in_process, plates_of, score, survey
from workers.decode import frame_size
from workers.detectors import DetectorSpec
from workers.messages import Plate, Presence, Recording
from workers.score import ScorerSpec
from workers.segments import Segment, plan_day


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


def recorded_days(context: RunContext, plans: Sequence[DayPlan], workers: int) -> list[RecordedDay]:
    """The input of each stage of a run that is finished, cut for so many decode workers."""
    found = []
    for plan in plans:
        stored = context.catalog.read_plates(plan.day) or ()
        footers = context.catalog.finished_detections(plan.day)
        seen = [(r, _presence(footers[r.file.video_id].details)) for r in plan.to_score]
        by_video = plan_day(
            seen, workers, context.settings.decode.segment_seconds, context.model.clip_frames // 2
        )
        segments = [segment for of_video in by_video.values() for segment in of_video]
        plates = tuple(Plate(p.plate_id, p.regime, p.pixels, p.noise) for p in stored)
        size = frame_size(plan.to_score[0].probe, context.settings.decode.frame_height)
        found.append(RecordedDay(list(plan.to_score), plates, segments, size))
    return found


def decode_alone(days: Sequence[RecordedDay], workers: int) -> Alone:
    """Decoding all segments, the frames thrown away."""
    jobs = [(segment, day.frame_size) for day in days for segment in day.segments]
    return _alone(decode, jobs, workers)


def score_alone(days: Sequence[RecordedDay], spec: ScorerSpec, actors: int) -> Alone:
    """Detecting and inferring on the decoded chunks, which are decoded beforehand, outside the clock."""
    jobs = [(spec, segment, day.plates, day.frame_size) for day in days for segment in day.segments]
    return _alone(score, jobs, actors)


def survey_alone(
    days: Sequence[RecordedDay], finder: DetectorSpec | None, gap_s: float, workers: int
) -> Alone:
    """The plates of each camera-day, then where something is in its recordings."""
    plates = [(day.recordings, day.frame_size) for day in days]
    looks = [
        (recording, day.plates, day.frame_size, finder, gap_s) for day in days for recording in day.recordings
    ]
    first, second = _alone(plates_of, plates, workers), _alone(survey, looks, workers)
    return Alone(first.wall_s + second.wall_s, first.cpu_s + second.cpu_s, first.calls + second.calls)


def _alone(stage: Callable[..., Watch], jobs: Sequence[tuple[Any, ...]], workers: int) -> Alone:
    """Spread jobs over processes; the wall time is that of the process which takes longest."""
    workers = max(1, min(workers, len(jobs)))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(begin, [stage] * workers, [jobs[0]] * workers))
        watches = list(pool.map(in_process, [stage] * len(jobs), jobs))
    by_process: dict[int, float] = {}
    for pid, watch in watches:
        by_process[pid] = by_process.get(pid, 0.0) + watch.wall_s
    cpu_s, calls = sum(watch.cpu_s for _, watch in watches), sum(watch.calls for _, watch in watches)
    return Alone(max(by_process.values()), cpu_s, calls)


def _presence(details: Any) -> Presence:
    return Presence(np.array(details["spans_s"], np.float64).reshape(-1, 2), "spans", "as stored")
