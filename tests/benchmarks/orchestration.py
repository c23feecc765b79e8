"""What orchestration costs: a camera-day's stream with a decoder and an actor that cost nothing.

What is left is Ray's and the stream's own: starting a process for each segment; for each chunk of frames, the object
store, the references, the call of the actor and its answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import ray

import workers.stream as stream_module
from flows.cluster import ray_cluster
from flows.settings import Settings
from tests.benchmarks.rows import Row
from tests.benchmarks.sizes import Bench
from workers.actors import DecodeLimits, DecodeReport
from workers.archive import list_archive, place_recording
from workers.decode import decode_span
from workers.grid import FrameGrid
from workers.messages import FrameChunk, GridSpan
from workers.pool import SharedActors
from workers.probe import probe_video
from workers.score import ScoredKeyframes, join_rows
from workers.scratch import Scratch
from workers.segments import CHUNK_FRAMES, Segment
from workers.stream import CameraDayStream, StreamLimits

FRAME_SIZE = (216, 384)
"""That of the defaults, so that a chunk is as large as in a run."""
SEGMENTS = 4


@ray.remote(max_calls=1, max_retries=0, num_cpus=1)  # type: ignore[untyped-decorator]
def decode_nothing(segment: Segment, size: tuple[int, int], limits: DecodeLimits) -> Iterator[Any]:
    """The same frames again and again."""
    frames = np.zeros((CHUNK_FRAMES, *size, 3), np.uint8)
    name = segment.recording.file.video_id
    for first in range(segment.frames.first, segment.frames.stop, CHUNK_FRAMES):
        grid = np.arange(first, first + CHUNK_FRAMES)
        yield FrameChunk(name, first, frames, grid / 15.0, grid)
    yield DecodeReport(segment.frames.stop, "none", 0.0, 0, 0)


@ray.remote(num_cpus=0)
class ScoreNothing:
    """Finds nobody, and remembers when it was given what."""

    def __init__(self) -> None:
        self._calls: list[tuple[str, float]] = []

    def calls(self) -> list[tuple[str, float]]:
        """Video and moment of each call since the last question."""
        calls, self._calls = self._calls, []
        return calls

    def score(
        self,
        previous: FrameChunk | None,
        chunk: FrameChunk,
        keyframes: GridSpan,
        plates: Any,
        behaviour: bool,
    ) -> ScoredKeyframes:
        """No rows."""
        self._calls.append((chunk.video_id, time.perf_counter()))
        return ScoredKeyframes(keyframes, 0, join_rows(chunk.video_id, [], 1), 0.0, 0.0, 0)


def orchestration_rows(bench: Bench) -> Iterator[Row]:
    """Seconds of a chunk and of a segment, and the first beside what decoding such a chunk takes."""
    with ray_cluster():
        actor = ScoreNothing.remote()  # type: ignore[attr-defined]
        stream(actor, 1)
        ray.get(actor.calls.remote())
        stream(actor, bench.sizes.chunks)
        calls = ray.get(actor.calls.remote())
    chunk_s, segment_s = gaps_s(calls)
    yield Row("a chunk of frames, from one call of the actor to the next", chunk_s, "s")
    yield Row("a segment, from its last chunk to the first one of the next", segment_s, "s")
    decode_s = decode_chunk_s(bench.archive)
    yield Row("a chunk of frames, time against decoding it", chunk_s / decode_s)


def gaps_s(calls: Sequence[tuple[str, float]]) -> tuple[float, float]:
    """Median seconds from chunk to chunk within a segment, and from one segment to the next."""
    gaps = [(name == before, at - since) for (before, since), (name, at) in pairwise(calls)]
    within, between = ([gap for same, gap in gaps if same is wanted] for wanted in (True, False))
    return float(np.median(within)), float(np.median(between))


def stream(actor: Any, chunks: int) -> None:
    """A camera-day of ``SEGMENTS`` segments, one decoded at a time."""
    frames = GridSpan(0, chunks * CHUNK_FRAMES)
    recordings = [_recording(f"video{number}") for number in range(SEGMENTS)]
    segments = {r.file.video_id: [Segment(r, frames, frames)] for r in recordings}
    limits = StreamLimits(1, DecodeLimits(2**32, 60.0, Scratch(Path("scratch"), 2**20)), FRAME_SIZE)
    with patch.object(stream_module, "decode_segment", decode_nothing):
        outcomes = list(CameraDayStream(segments, recordings, (), SharedActors([actor]), limits, 1))
    if not all(isinstance(outcome, stream_module.ScoredVideo) for outcome in outcomes):
        raise RuntimeError(f"the stream did not end as it should: {outcomes}")


def decode_chunk_s(archive: Path) -> float:
    """Seconds to decode a chunk, in the mean of one recording."""
    # Not at the top: a process that decodes nothing would import it all.
    from workers.decode import frame_size

    file = list_archive(str(archive))[0]
    recording = place_recording(file, probe_video(file.path))
    size = frame_size(recording.probe, Settings().decode.frame_height)
    span = GridSpan(0, FrameGrid.of(recording.probe).length)
    started = time.perf_counter()
    frames = sum(
        len(chunk.times_s) for chunk in decode_span(file.path, recording.probe, span, size, video_id="0")
    )
    return (time.perf_counter() - started) / frames * CHUNK_FRAMES


def _recording(name: str) -> Any:
    """As much of a recording as the stream looks at."""
    file = SimpleNamespace(video_id=name, path="", uri=f"{name}.mp4")
    return SimpleNamespace(file=file, probe=SimpleNamespace(fps=30.0))
