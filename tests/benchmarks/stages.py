"""What a process does that measures a stage alone: imports nothing of torch before its scorer decides how threads wait.

An actor does not either; where torch is loaded first, threads that wait for each other spin.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from workers.detectors import DetectorSpec
from workers.messages import FrameChunk, GridSpan, Plate, Recording, scores_behaviour
from workers.score import ScorerSpec
from workers.segments import CHUNK_FRAMES, Segment

START_S = 1.0
"""For which a process that was started is kept busy, so that the next task starts another one."""


@dataclass(slots=True)
class Watch:
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


def begin(stage: Callable[..., Watch], job: tuple[Any, ...]) -> None:
    """Load what a stage needs, by the beginning of one job."""
    stage(*(beginning(part) if isinstance(part, Segment) else part for part in job))
    time.sleep(START_S)


def beginning(segment: Segment) -> Segment:
    """Its first chunk."""
    frames, keyframes = segment.frames, segment.keyframes
    stop = min(frames.stop, frames.first + CHUNK_FRAMES)
    return dataclasses.replace(
        segment,
        frames=GridSpan(frames.first, stop),
        keyframes=GridSpan(
            keyframes.first, max(keyframes.first + 1, min(keyframes.stop, stop - segment.clip_reach))
        ),
    )


def in_process(stage: Callable[..., Watch], job: tuple[Any, ...]) -> tuple[int, Watch]:
    """Which process did it, and what that took."""
    return os.getpid(), stage(*job)


def decode(segment: Segment, frame_size: tuple[int, int]) -> Watch:
    """Every chunk of a segment, thrown away."""
    watch, chunks = Watch(), chunks_of(segment, frame_size)
    while watch.run(lambda: next(chunks, None)) is not None:
        pass
    return watch


_SCORERS: dict[ScorerSpec, Any] = {}
"""Of this process: its weights are loaded once."""


def score(
    spec: ScorerSpec, segment: Segment, plates: tuple[Plate, ...], frame_size: tuple[int, int]
) -> Watch:
    """Boxes and scores of a segment, its chunks decoded outside the clock."""
    from workers.score import FrameScorer

    if spec not in _SCORERS:
        _SCORERS[spec] = FrameScorer(spec)
    scorer, watch = _SCORERS[spec], Watch()
    behaviour = scores_behaviour(segment.recording.probe.fps)
    previous: FrameChunk | None = None
    for number, chunk in enumerate(chunks_of(segment, frame_size)):
        keyframes = segment.keyframes_ready(number)
        if keyframes is not None:
            watch.run(partial(scorer.score, previous, chunk, keyframes, plates, behaviour))
        previous = chunk
    return watch


def plates_of(recordings: list[Recording], frame_size: tuple[int, int]) -> Watch:
    """The plates of a camera-day."""
    from workers.survey import camera_day_plates

    watch = Watch()
    watch.run(lambda: camera_day_plates(recordings, frame_size))
    return watch


def survey(
    recording: Recording,
    plates: tuple[Plate, ...],
    frame_size: tuple[int, int],
    finder: DetectorSpec | None,
    gap_s: float,
) -> Watch:
    """When something is there in a recording."""
    from workers.survey import survey_video

    detector, watch = None if finder is None else finder.build(), Watch()
    watch.run(lambda: survey_video(recording, plates, frame_size, detector, gap_s))
    return watch


def chunks_of(segment: Segment, frame_size: tuple[int, int]) -> Iterator[FrameChunk]:
    """As a decode task yields them."""
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
