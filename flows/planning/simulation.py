"""A run in simulated time: the stages, bounds and order of ``flows.nightly.night`` and ``workers.stream``.

Nothing here measures or reads anything: loads, rates and means give times, the same ones each time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from flows.nightly.profile import STREAMED
from flows.nightly.stages import StageClock, Work
from flows.planning.loads import DayLoad
from flows.planning.processes import Process, Slots, Timeline
from workers.messages import GRID_HZ
from workers.segments import CHUNK_FRAMES

CHUNK_S = CHUNK_FRAMES / GRID_HZ
CHUNKS_AHEAD, CHUNKS_AT_ONCE = 3, 3
"""Those of ``workers.stream`` and ``workers.pool``, which are not imported, since Ray comes with them; a test holds
them together."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds that one process takes."""

    start_s: float
    """Once, for all that is in no stage."""
    probe_s: float
    """For a file."""
    plates_s: float
    """For a camera-day."""
    survey_start_s: float
    """Of each process that surveys, anew for each camera-day: decode tasks end the processes that they were given."""
    survey_s: float
    """For a second of video."""
    actors_s: float
    """Once, from the end of probing until the actors have their weights."""
    decode_start_s: float
    """For a segment, before its first chunk."""
    decode_s: float
    """For a second of video in which something is there; so the next two."""
    detect_s: float
    infer_s: float
    derive_s: float
    """For a camera-day."""


@dataclass(frozen=True, slots=True)
class Means:
    """What works."""

    cpus: int
    decode_workers: int
    """For each camera-day under way."""
    actors: int
    camera_days_at_once: int

    def __post_init__(self) -> None:
        for name in ("cpus", "decode_workers", "actors", "camera_days_at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def workers(self, camera_days: int) -> dict[str, int]:
        """Of each stage through which frames are streamed, for so many camera-days in all."""
        at_once = min(self.camera_days_at_once, max(1, camera_days))
        decoding = min(self.decode_workers * at_once, self.cpus)
        return {"decode": decoding, "detect": self.actors, "infer": self.actors}


@dataclass(frozen=True, slots=True)
class Simulated:
    """A run that was not run."""

    wall_s: float
    clock: StageClock
    """What a run's clock would have counted, but for items and bytes."""
    most_chunks: int
    """That were decoded and not scored at one time."""


@dataclass(slots=True)
class _Actor:
    """Scores what it is given in the order in which it comes."""

    waiting: Slots
    chunks: deque[tuple[float, _Stream]]


@dataclass(slots=True)
class _Stream:
    """One camera-day's loop over chunks."""

    slots: Slots
    """For decode tasks."""
    room: Slots
    """For chunks with the actors."""
    decoded: Slots
    """One for each chunk that is decoded and not taken."""
    finished: Slots
    """One for each segment and each chunk that is done."""
    chunks: deque[tuple[float, Slots]]
    """Seconds of each of them, and the place that taking it makes with its decode task."""
    load: list[int]
    """Chunks with each actor."""


class SimulatedRun:
    """One run; call ``run`` once."""

    def __init__(self, days: Sequence[DayLoad], files: int, rates: Rates, means: Means) -> None:
        self._days, self._files, self._rates, self._means = days, files, rates, means
        self._time = Timeline()
        self._clock = StageClock()
        self._cpus = Slots(means.cpus)
        self._at_once = Slots(means.camera_days_at_once)
        self._derived = [Slots(0) for _ in days]
        self._ready = Slots(0)
        """The actors, once they have their weights; everyone who takes it gives it back."""
        self._actors = [_Actor(Slots(0), deque()) for _ in range(means.actors)]
        self._chunks = self._most_chunks = 0

    def run(self) -> Simulated:
        """Let it run to its end."""
        self._time.start(self._night())
        for number, actor in enumerate(self._actors):
            self._time.start(self._score(number, actor))
        wall_s = self._time.run()
        return Simulated(wall_s, self._clock, self._most_chunks)

    def _night(self) -> Process:
        yield self._rates.start_s
        yield from self._side_by_side("probe", [self._rates.probe_s] * self._files)
        if self._days:
            self._time.start(self._load_actors())
        for number in range(len(self._days)):
            self._time.start(self._camera_day(number))

    def _side_by_side(self, phase: str, tasks_s: Sequence[float]) -> Process:
        """Tasks of one processor each, as many at once as there are."""
        started_s, done = self._time.now_s, Slots(0)
        for seconds in tasks_s:
            self._time.start(self._task(seconds, done))
        for _ in tasks_s:
            yield done
        self._clock.add_span(phase, started_s, self._time.now_s)

    def _task(self, seconds: float, done: Slots) -> Process:
        yield self._cpus
        yield seconds
        self._time.give(self._cpus)
        self._time.give(done)

    def _camera_day(self, number: int) -> Process:
        day = self._days[number]
        yield self._at_once
        yield from self._side_by_side("survey", [self._rates.plates_s])
        yield from self._side_by_side("survey", self._surveys_s(day))
        yield from self._await_actors()
        yield from self._stream(day)
        self._time.give(self._at_once)
        if day.after is not None:
            yield self._derived[day.after]
        yield from self._side_by_side("derive", [self._rates.derive_s])
        self._time.give(self._derived[number])

    def _surveys_s(self, day: DayLoad) -> list[float]:
        rates, processes = self._rates, self._means.cpus
        starts_s = [rates.survey_start_s if number < processes else 0.0 for number in range(len(day.videos))]
        return [
            start_s + video.duration_s * rates.survey_s
            for start_s, video in zip(starts_s, day.videos, strict=True)
        ]

    def _load_actors(self) -> Process:
        yield self._rates.actors_s
        self._time.give(self._ready)

    def _await_actors(self) -> Process:
        started_s = self._time.now_s
        yield self._ready
        self._time.give(self._ready)
        self._clock.add_span("starting actors", started_s, self._time.now_s)

    def _stream(self, day: DayLoad) -> Process:
        started_s, means = self._time.now_s, self._means
        stream = _Stream(
            slots=Slots(means.decode_workers),
            room=Slots(CHUNKS_AT_ONCE * means.actors),
            decoded=Slots(0),
            finished=Slots(0),
            chunks=deque(),
            load=[0] * means.actors,
        )
        segments = [chunks_of(seconds) for video in day.videos for seconds in video.segments_s]
        count = sum(map(len, segments))
        for chunks_s in segments:
            self._time.start(self._decode(stream, chunks_s))
        self._time.start(self._take(stream, count))
        for _ in range(len(segments) + count):
            yield stream.finished
        self._clock.add_span(STREAMED, started_s, self._time.now_s)

    def _decode(self, stream: _Stream, chunks_s: Sequence[float]) -> Process:
        """A decode task: a place in the camera-day's loop, then a processor, until its last chunk is taken."""
        yield stream.slots
        yield self._cpus
        yield self._rates.decode_start_s
        ahead = Slots(CHUNKS_AHEAD)
        yield ahead
        for seconds in chunks_s:
            busy_s = seconds * self._rates.decode_s
            yield busy_s
            self._clock.add("decode", Work(busy_s))
            stream.chunks.append((seconds, ahead))
            self._time.give(stream.decoded)
            self._count_chunks(1)
            yield ahead  # before it goes on: no more than CHUNKS_AHEAD are decoded and not taken
        self._time.give(self._cpus)
        for _ in range(CHUNKS_AHEAD - 1):
            yield ahead
        self._time.give(stream.slots)
        self._time.give(stream.finished)

    def _take(self, stream: _Stream, count: int) -> Process:
        """The driver: gives chunks to the actor that has fewest of this camera-day's, where there is room."""
        for _ in range(count):
            yield stream.room
            yield stream.decoded
            seconds, ahead = stream.chunks.popleft()
            self._time.give(ahead)
            number = min(range(len(stream.load)), key=stream.load.__getitem__)
            stream.load[number] += 1
            self._actors[number].chunks.append((seconds, stream))
            self._time.give(self._actors[number].waiting)

    def _score(self, number: int, actor: _Actor) -> Process:
        while True:
            yield actor.waiting
            seconds, stream = actor.chunks.popleft()
            detect_s, infer_s = seconds * self._rates.detect_s, seconds * self._rates.infer_s
            yield detect_s + infer_s
            if detect_s:
                self._clock.add("detect", Work(detect_s))
            self._clock.add("infer", Work(infer_s))
            stream.load[number] -= 1
            self._time.give(stream.room)
            self._time.give(stream.finished)
            self._count_chunks(-1)

    def _count_chunks(self, more: int) -> None:
        self._chunks += more
        self._most_chunks = max(self._most_chunks, self._chunks)


def chunks_of(segment_s: float) -> list[float]:
    """Seconds of each chunk of a segment."""
    count = max(1, math.ceil(segment_s / CHUNK_S - 1e-9))
    return [min(CHUNK_S, segment_s - number * CHUNK_S) for number in range(count)]
