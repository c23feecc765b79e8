"""``make bench``: where the time goes, as ratios measured in one run on a simulated archive."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av

from flows.cluster import ray_cluster
from flows.nightly.context import open_context
from flows.nightly.night import Night, frame_size
from flows.nightly.progress import Progress
from flows.nightly.recompute import recompute_events
from flows.settings import Settings
from tests.benchmarks.steps import measure_steps
from workers.archive import list_archive, place_recording
from workers.decode import DecodeTally, decode_span
from workers.grid import FrameGrid
from workers.messages import GridSpan, Recording
from workers.probe import probe_video
from workers.simulate.archive import simulate_archive
from workers.survey import camera_day_plates, survey_video

VIDEOS, SECONDS, SEED = 2, 60.0, 41


def main() -> None:
    """Simulate, measure, print."""
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, {platform.python_version()}"
    )
    step_rows()
    with tempfile.TemporaryDirectory(prefix="aviaflow-bench-") as folder:
        root = Path(folder)
        simulated_s = timed(lambda: simulate_archive(root, videos=VIDEOS, seconds=SECONDS, seed=SEED))
        show("simulating, seconds of video per second", VIDEOS * SECONDS / simulated_s)
        recordings = [
            place_recording(file, probe_video(file.path)) for file in list_archive(str(root / "archive"))
        ]
        decode_rows(recordings)
        run_rows(root)


def step_rows() -> None:
    """A training step of slowfast_small with each weighting against a plain one."""
    cost = measure_steps()
    for name, ratio in cost.ratios.items():
        show(f"training step, {name}: time against one on the weighted sum of the losses", ratio)
    show("forward pass, share of that step", cost.forward_share)


def decode_rows(recordings: list[Recording]) -> None:
    """Decoding and survey against a bare loop over the same files."""
    size = frame_size(recordings[0].probe, Settings().decode.frame_height)
    bare_s = timed(lambda: [bare_decode(recording, size) for recording in recordings])
    ours_s = timed(lambda: [sum(1 for _ in chunks(recording, size)) for recording in recordings])
    show("decoding the 15 Hz grid, time against a bare PyAV loop that scales every frame", ours_s / bare_s)
    plates = camera_day_plates(recordings[:1], size)
    survey_s = timed(lambda: [survey_video(recording, plates, size) for recording in recordings])
    show("survey of the I-frames (motion), time against decoding", survey_s / ours_s)


def run_rows(root: Path) -> None:
    """A run end to end against its slowest stage alone, and what comes after it."""
    archive, store = str(root / "archive"), str(root / "store")
    with ray_cluster() as cpus:
        night = Night(open_context(archive, store, Settings()), False, Progress())
        with night.on_cluster(cpus):
            plans = night.plan()
            night.begin(plans)
            started = time.perf_counter()
            for plan in plans:
                night.score_day(plan)
            scored_s = time.perf_counter() - started
            started = time.perf_counter()
            for plan in plans:
                night.derive_day(plan)
            derived_s = time.perf_counter() - started
    busy = night.clock.busy_s
    model_s = busy["detect"] + busy["infer"]
    for stage, seconds in busy.items():
        show(f"{stage}: busy seconds per second of video", seconds / night.video_s)
    slowest_s = max(busy["decode"] / night.decode_workers, model_s / night.actor_count)
    show("slowest stage alone against survey to detections end to end", slowest_s / scored_s)
    show("deriving tables, time against scoring", derived_s / scored_s)
    again_s = timed(lambda: Night(open_context(archive, store, Settings()), False, Progress()))
    show("finding that nothing is to be done, time against the first run", again_s / (scored_s + derived_s))
    events_s = timed(lambda: recompute_events(store, Settings()))
    show("recomputing events, seconds per hour of video", events_s / night.video_s * 3600)


def bare_decode(recording: Recording, size: tuple[int, int]) -> None:
    """Every frame, decoded and scaled, by the plainest loop there is."""
    with av.open(recording.file.path) as container:
        for frame in container.decode(video=0):
            frame.to_ndarray(width=size[1], height=size[0], format="rgb24")


def chunks(recording: Recording, size: tuple[int, int]) -> Iterator[Any]:
    """The grid frames of a whole video."""
    span = GridSpan(0, FrameGrid.of(recording.probe).length)
    return decode_span(
        recording.file.path,
        recording.probe,
        span,
        size,
        video_id=recording.file.video_id,
        tally=DecodeTally(),
    )


def timed(work: Callable[[], Any]) -> float:
    """Wall seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def show(what: str, value: float) -> None:
    """One row."""
    print(f"{value:>10.3f}  {what}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
