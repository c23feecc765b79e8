"""Thin Ray shells around the stages: what runs in a process of its own, and with which limits.

The tasks have no retries of Ray's: ``workers.retries`` tells a process that died of its video from a node that died.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from workers.derive import Derived, DeriveJob, derive_camera_day
from workers.detectors import DetectorSpec
from workers.limits import (
    end_process,
    ended_after,
    limit_address_space,
    limit_open_files,
    peak_resident_bytes,
    restart_limit,
)
from workers.messages import ArchiveFile, FrameChunk, GridSpan, Plate, Presence, Probe, Quarantined, Recording
from workers.pool import CHUNKS_AT_ONCE, SharedActors
from workers.score import FrameScorer, ScoredKeyframes, ScorerSpec
from workers.scratch import Scratch, clear, on_disk
from workers.segments import Segment

PROBE_S = 120.0
"""Longest time without a packet while a file is probed, and that looking at its pictures may take beside its length."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one decode process may use."""

    memory_bytes: int
    """Address space beyond what the process starts with."""
    stall_s: float
    """Longest time without a new frame."""
    scratch: Scratch
    """Where a video that lies on S3 is fetched to; neither of the other two counts for that."""
    open_files: int = 256
    """Files, connections included, beyond those that the process starts with."""
    gpu_share: float = 0.0
    """Of one GPU, whose NVDEC then decodes what it takes; 0 leaves all to the processors."""


@dataclass(frozen=True, slots=True)
class DecodeReport:
    """How a segment was decoded; the last item that its task yields."""

    frames_decoded: int
    """Frames that left the decoder, those before the segment in its first GOP included."""
    decoder: str
    """Which decoder served, and why where it was not the one that the probe chose."""
    busy_s: float
    """Time spent decoding, waiting for the consumer left out."""
    num_bytes: int
    """Of the pixels that left the task."""
    peak_bytes: int
    """Most memory that its process had resident."""


@ray.remote(max_retries=0, max_calls=1, num_cpus=1)
def decode_segment(
    segment: Segment, frame_size: tuple[int, int], limits: DecodeLimits
) -> Iterator[FrameChunk | DecodeReport]:
    """Decode one segment in a process of its own, which a stall, too much memory or too many files end."""
    with on_disk(segment.recording.file, limits.scratch) as file:
        yield from _decode(
            dataclasses.replace(segment.recording, file=file), segment.frames, frame_size, limits
        )


def _decode(
    recording: Recording, frames: GridSpan, frame_size: tuple[int, int], limits: DecodeLimits
) -> Iterator[FrameChunk | DecodeReport]:
    from workers.decode import DecodeTally, decode_span
    from workers.segments import CHUNK_FRAMES

    nvdec = _nvdec(limits) if limits.gpu_share else None
    limit_address_space(limits.memory_bytes)
    limit_open_files(limits.open_files)
    tally = DecodeTally(progress=partial(restart_limit, limits.stall_s))
    busy_s, num_bytes = 0.0, 0
    chunks = decode_span(
        recording.file.path,
        recording.probe,
        frames,
        frame_size,
        video_id=recording.file.video_id,
        chunk_frames=CHUNK_FRAMES,
        tally=tally,
        nvdec=nvdec,
    )
    while True:
        started = time.perf_counter()
        with ended_after(limits.stall_s):
            chunk = next(chunks, None)
        busy_s += time.perf_counter() - started
        if chunk is None:
            break
        num_bytes += chunk.frames.nbytes
        yield chunk
    yield DecodeReport(tally.frames_decoded, tally.decoder, busy_s, num_bytes, peak_resident_bytes())


def _nvdec(limits: DecodeLimits) -> Any:
    """What opens NVDEC. CUDA reserves more address space than a decoder may use: it is started before the limit."""
    from workers.nvdec import open_nvdec, warm_up

    with ended_after(limits.stall_s):
        warm_up()
    return open_nvdec


@ray.remote(max_retries=0, num_cpus=1)
def probe_file(file: ArchiveFile, scratch: Scratch) -> Probe | Quarantined:
    """Read what the demuxer knows about one file."""
    from workers.errors import UnreadableVideoError
    from workers.probe import probe_video

    try:
        with on_disk(file, scratch) as copy, ended_after(PROBE_S):
            return probe_video(copy.path, progress=partial(restart_limit, PROBE_S))
    except UnreadableVideoError as error:
        return Quarantined(file, error.reason)


@ray.remote(max_retries=0, num_cpus=1)
def build_plates(
    recordings: list[Recording], frame_size: tuple[int, int], scratch: Scratch
) -> tuple[Plate, ...]:
    """The background plates of a camera-day."""
    from workers.survey import camera_day_plates

    @contextmanager
    def opened(recording: Recording) -> Iterator[Recording]:
        with on_disk(recording.file, scratch) as file, ended_after(PROBE_S + recording.probe.duration_s):
            yield dataclasses.replace(recording, file=file)

    plates: tuple[Plate, ...] = camera_day_plates(recordings, frame_size, opened)
    return plates


@ray.remote(max_retries=0, num_cpus=1)
def survey_recording(
    recording: Recording,
    frame_size: tuple[int, int],
    plates: tuple[Plate, ...],
    detector: DetectorSpec | None,
    max_iframe_gap_s: float,
    scratch: Scratch,
) -> tuple[Presence, float]:
    """When something is there in one video, and the seconds spent looking, building the detector left out."""
    from workers.errors import UnreadableVideoError
    from workers.survey import survey_video, whole_video

    finder = None if detector is None else detector.build()
    try:
        with on_disk(recording.file, scratch) as file, ended_after(PROBE_S + recording.probe.duration_s):
            copy = dataclasses.replace(recording, file=file)
            started = time.perf_counter()
            found = survey_video(copy, plates, frame_size, finder, max_iframe_gap_s)
            return found, time.perf_counter() - started
    except UnreadableVideoError as error:
        return whole_video(recording, error.reason), 0.0  # the decoder quarantines it


@ray.remote(max_retries=0, num_cpus=0)
def clear_scratch(scratch: Scratch) -> int:
    """Remove the copies of videos on one node that nobody reads; returns how many."""
    return clear(scratch)


@ray.remote(max_retries=0, num_cpus=1)
def derive_day(job: DeriveJob) -> Derived:
    """Track and segment one camera-day and publish its tables."""
    return derive_camera_day(job)


MAX_RESTARTS = 20
"""Of one actor. Beyond, the camera-days under way fail, and others get new actors."""


class Inference:
    """Finds and scores individuals; holds weights and no state, so that a restart loses nothing.

    Ray starts it again where it dies, but does not repeat the scoring that was lost with it: its retries are used up
    while the actor starts. ``workers.stream`` does.
    """

    def __init__(self, spec: ScorerSpec) -> None:
        self._scorer = FrameScorer(spec)

    @ray.method(max_task_retries=-1)
    def ready(self) -> str:
        """Return once the weights are loaded: which engine runs them, and why."""
        return self._scorer.engine

    @ray.method(max_task_retries=-1)
    def node(self) -> str:
        """Id of the node that it is on, once it runs."""
        return str(ray.get_runtime_context().get_node_id())

    def score(
        self,
        previous: FrameChunk | None,
        chunk: FrameChunk,
        keyframes: GridSpan,
        plates: tuple[Plate, ...],
        behaviour: bool,
    ) -> ScoredKeyframes:
        """Score the keyframes of a span from two neighbouring chunks."""
        from model.engines.faults import is_device_fault

        try:
            return self._scorer.score(previous, chunk, keyframes, plates, behaviour)
        except Exception as error:
            if is_device_fault(error):
                # Nothing in this process can use the device any more; Ray starts another, and gives it the chunks.
                end_process(f"the device failed, so this inference actor is started anew: {error}")
            raise


@ray.remote(max_restarts=MAX_RESTARTS, max_concurrency=CHUNKS_AT_ONCE)
class InferenceActor(Inference):
    """The actor of a pool."""


GPU_SHARE_BESIDE_NVDEC = 0.6
"""Of a GPU that an inference actor takes where decoders share it: two actors never share one, and for the decoders
there is the rest."""


@dataclass(frozen=True, slots=True, eq=False)
class StartedActors:
    """A pool of inference actors, with what is reserved for them."""

    handles: list[Any]
    shared: SharedActors
    reserved: Any = None
    """Ray's placement group of the GPUs that decoders share with them."""

    def give_back(self) -> None:
        """End the actors, whoever still holds them, and give back what is reserved."""
        for handle in self.handles:
            ray.kill(handle)
        if self.reserved is not None:
            remove_placement_group(self.reserved)


def start_inference_actors(spec: ScorerSpec, count: int, gpu_share: float = 1.0) -> StartedActors:
    """Begin to start a pool of inference actors; each takes a GPU, or a share of one, where the device is CUDA.

    They reserve no processor: decode tasks, which hold theirs until their chunks are taken, could otherwise keep
    an actor that was restarted from ever being placed. A share of a GPU is reserved for the same reason.
    """
    options: dict[str, Any] = {"num_cpus": 0, "num_gpus": gpu_share if spec.device == "cuda" else 0}
    group = None
    if spec.device == "cuda" and gpu_share < 1:
        group = placement_group([{"GPU": gpu_share}] * count)
    handles = []
    for number in range(count):
        if group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, number)
        handles.append(InferenceActor.options(**options).remote(spec))  # type: ignore[attr-defined]
    return StartedActors(handles, SharedActors(handles), group)


def wait_for_actors(actors: list[Any]) -> list[str]:
    """Wait until they have their weights; returns, without repetition, what they say of their engines."""
    engines = ray.get([actor.ready.remote() for actor in actors])
    return list(dict.fromkeys(engines))
