"""A simulated archive on disk: videos and the truth about them, rendered in parallel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import ray
from numpy.typing import NDArray

from workers.simulate.encode import encode_mp4
from workers.simulate.motion import ASPECT
from workers.simulate.reserve import Camera, Painter, plan_camera, plan_reserve
from workers.simulate.scenery import SceneName
from workers.simulate.tables import Tables, camera_tables, describe, video_tables, write_truth

BENCHMARK_SEEDS = (90210, 90211, 90212, 90213)
"""Reserves on which results are reported; nothing is trained on seeds near them."""
BENCHMARK_VIDEOS, BENCHMARK_SECONDS = 4, 90.0
FRAME_HEIGHT = 360


@dataclass(frozen=True, slots=True)
class SimulatedArchive:
    """What was written."""

    archive: Path
    truth: Path
    videos: int
    birds: int
    """Individuals that were ever in a frame."""
    seconds: float
    """Seconds of video."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One recording to render."""

    root: str
    site: str
    seed: int
    number: int
    recordings: int
    recording: int
    seconds: float
    scene: SceneName | None
    social_boost: float
    busy_share: float | None
    keyint_s: float | None
    frame_height: int

    def camera(self) -> Camera:
        return plan_camera(
            self.seed,
            self.number,
            self.recordings,
            self.seconds,
            self.scene,
            self.social_boost,
            self.busy_share,
            self.keyint_s,
        )


def site_name(seed: int) -> str:
    """The site of a simulated reserve."""
    return f"reserve-{seed}"


def simulate_archive(
    root: Path,
    *,
    videos: int,
    seconds: float,
    seed: int,
    scene: SceneName | None = None,
    workers: int | None = None,
    videos_per_camera: int = 2,
    social_boost: float = 1.0,
    busy_share: float | None = None,
    keyint_s: float | None = None,
    frame_height: int = FRAME_HEIGHT,
) -> SimulatedArchive:
    """Write ``root/archive`` and ``root/truth``; the same arguments give the same pixels and the same truth.

    Args:
        root: folder to write below; files of the same names are replaced.
        videos: recordings in all.
        seconds: whole seconds of each.
        seed: of everything; also names the site.
        scene: of all cameras; without it they differ.
        workers: processes that render, all cores by default; 1 renders in this process without Ray.
        videos_per_camera: consecutive recordings of one camera, in which individuals go on.
        social_boost: multiplies social behaviour, for training sets; 1 is nature's share.
        busy_share: strews episodes with birds over about this share of the time; by default short archives are busy
            and long ones have a few long episodes.
        keyint_s: seconds between I-frames of all cameras; by default they differ.
        frame_height: lines of the videos, 16:9.

    Raises:
        ValueError: a number is out of range.
    """
    cameras = plan_reserve(
        seed, videos, seconds, scene, videos_per_camera, social_boost, busy_share, keyint_s
    )
    site = site_name(seed)
    jobs = [
        _Job(
            str(root),
            site,
            seed,
            camera.number,
            camera.recordings,
            recording,
            seconds,
            scene,
            social_boost,
            busy_share,
            keyint_s,
            frame_height,
        )
        for camera in cameras
        for recording in range(camera.recordings)
    ]
    for camera in cameras:
        (root / "archive" / site / camera.name).mkdir(parents=True, exist_ok=True)
    workers = workers or os.cpu_count() or 1
    rendered = [_render(job) for job in jobs] if min(workers, len(jobs)) == 1 else _render_all(jobs, workers)
    tables = Tables()
    at = iter(rendered)
    for camera in cameras:
        tables.extend(camera_tables(camera, site))
        for _ in range(camera.recordings):
            tables.extend(next(at))
    write_truth(root / "truth", tables, describe(cameras, seed, site))
    return SimulatedArchive(
        root / "archive", root / "truth", videos, len(tables.rows["individuals"]), videos * seconds
    )


def _render_all(jobs: list[_Job], workers: int) -> list[Tables]:
    """Render on Ray, at most ``workers`` at a time."""
    started = not ray.is_initialized()
    if started:
        ray.init(
            "local", num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False
        )
    try:
        render = ray.remote(num_cpus=1)(_render)
        results: dict[int, Tables] = {}
        pending: dict[ray.ObjectRef, int] = {}
        for number, job in enumerate(jobs):
            if len(pending) >= workers:
                done, _ = ray.wait(list(pending), num_returns=1)
                results[pending.pop(done[0])] = ray.get(done[0])
            pending[render.remote(job)] = number
        results.update({number: ray.get(ref) for ref, number in pending.items()})
        return [results[number] for number in range(len(jobs))]
    finally:
        if started:
            ray.shutdown()


def _render(job: _Job) -> Tables:
    """Render one recording and return its boxes."""
    cv2.setNumThreads(1)
    camera = job.camera()
    path = Path(job.root) / "archive" / camera.uri(job.site, job.recording)
    optics = camera.optics
    partial = path.with_suffix(".part")
    size = (job.frame_height, round(job.frame_height * ASPECT / 2) * 2)
    frames, keyint = _frames(camera, job.recording, job.frame_height), round(optics.fps * optics.keyint_s)
    encode_mp4(partial, frames, size, optics.fps, keyint, optics.crf, optics.b_frames)
    partial.replace(path)
    return video_tables(camera, job.site, job.recording)


def _frames(camera: Camera, recording: int, height: int) -> Iterator[NDArray[np.uint8]]:
    painter = Painter(camera, height)
    start_s = recording * camera.seconds
    for frame in range(round(camera.seconds * camera.optics.fps)):
        yield painter.frame(start_s + frame / camera.optics.fps)
