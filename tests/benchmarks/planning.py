"""``python -m tests.benchmarks.planning``: what a run costs in which nothing is to be done.

Planning is measured on many finished videos, written through the storage layer without being run; a rerun on few that
were run, both times by the command, its start included.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flows.nightly.context import RunContext, open_context
from flows.nightly.night import Night, derive_job, video_record
from flows.nightly.progress import Progress
from flows.settings import Settings
from storage.catalog import pin_or_check, video_details
from storage.layout import CameraDay
from storage.parquet import Footer
from tests.benchmarks.rows import Row, at_most
from workers.archive import list_archive, place_recording
from workers.derive import derive_camera_day
from workers.messages import Presence, Probe, Recording
from workers.score import join_rows
from workers.simulate.archive import simulate_archive

CAMERAS, VIDEOS_A_DAY = 10, 50
SECONDS = 12.0
"""Of each video that is run."""
RERUN_GOAL = at_most(0.02)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.planning", description=__doc__)
    parser.add_argument("--finished", type=int, default=10_000, help="videos that are planned; 0: none")
    parser.add_argument("--run", type=int, default=50, help="videos that are run, and run again; 0: none")
    options = parser.parse_args()
    for measure, videos in ((planning_rows, options.finished), (rerun_rows, options.run)):
        if videos:
            with tempfile.TemporaryDirectory(prefix="aviaflow-planning-") as folder:
                for row in measure(Path(folder), videos):
                    print(row, flush=True)


def planning_rows(root: Path, videos: int) -> Iterator[Row]:
    """Time that it takes to find that nothing is to be done for so many videos."""
    archive, store = str(root / "archive"), str(root / "store")
    write_archive(root / "archive", videos)
    context = open_context(archive, store, Settings())
    finish(context)
    for which in ("first", "second"):
        started, busy_s = time.perf_counter(), time.process_time()
        night = Night(open_context(archive, store, Settings()), False, Progress())
        seconds, busy_s = time.perf_counter() - started, time.process_time() - busy_s
        assert night.lookup.nothing_to_do, "the store is not what a run leaves"
        yield Row(f"planning {videos} finished videos, {which} time", seconds, "s")
    yield Row("planning them once more, processors' time", busy_s, "s")


def write_archive(archive: Path, videos: int) -> None:
    """Files that are named as videos are; planning what is finished opens none."""
    for number in range(videos):
        camera = f"camera{number % CAMERAS}"
        of_camera = number // CAMERAS
        at = dt.datetime(2026, 3, 1) + dt.timedelta(
            days=of_camera // VIDEOS_A_DAY, minutes=of_camera % VIDEOS_A_DAY
        )
        path = archive / "marsh" / camera / f"{camera}_{at:%Y%m%dT%H%M%S}Z.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a video %d" % number)


def finish(context: RunContext) -> None:
    """Store every video of an archive as one in which nothing was seen, and derive its camera-days."""
    catalog, digests, days = context.catalog, context.digests, set[CameraDay]()
    pin_or_check(catalog.fs, context.pin(["marsh"]))
    for file in list_archive(context.archive):
        recording = place_recording(file, PROBE, context.settings.archive.path_pattern)
        day = day_of(recording)
        record = video_record(recording, day.camera, 0, "decord", Presence(np.zeros((0, 2)), "spans", ""))
        footer = Footer(
            table="detections",
            inputs="",
            model_digest=digests.model,
            config_digest=digests.detections,
            behaviours=context.ethogram.names,
            zone="UTC",
            details=video_details(record, []),
        )
        catalog.write_detections(day, join_rows(file.video_id, [], len(context.ethogram.names)), footer)
        days.add(day)
    for day in sorted(days, key=lambda day: (day.date, day)):
        derive_camera_day(derive_job(context, day, (), {}))


def day_of(recording: Recording) -> CameraDay:
    """The camera-day of a recording in UTC."""
    return CameraDay(recording.site, recording.camera, recording.start_time.date())


TIMES_S = np.arange(900) / 15.0
PROBE = Probe(
    container="mov",
    codec="h264",
    pixel_format="yuv420p",
    width=640,
    height=360,
    rotation_deg=0,
    fps=15.0,
    times_s=TIMES_S,
    is_iframe=TIMES_S % 1 == 0,
    packet_bytes=np.full(900, 1000),
    duration_s=60.0,
    container_start=None,
    decoder="decord",
    decoder_reason="",
)


def rerun_rows(root: Path, videos: int) -> Iterator[Row]:
    """A run, and the same command once more."""
    simulate_archive(root, videos=videos, seconds=SECONDS, seed=43)
    _, first_s = timed_run(root)
    again, again_s = timed_run(root)
    yield Row(f"the first run of {videos} videos of {SECONDS:g} s", first_s, "s")
    yield Row("the same command when nothing is to be done", again_s, "s")
    yield Row("the same command, time against the first run", again_s / first_s, goal=RERUN_GOAL)
    yield Row("frames decoded by it", again["frames_decoded"], "frames", at_most(0))


def timed_run(root: Path) -> tuple[dict[str, Any], float]:
    """Summary and wall seconds of ``aviaflow run`` in a process of its own."""
    command = [sys.executable, "-m", "flows.cli", "run", str(root / "archive")]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--out", str(root / "store"), "--json"], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout), time.perf_counter() - started


if __name__ == "__main__":
    main()
