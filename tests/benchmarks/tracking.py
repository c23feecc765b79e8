"""Tracking and segmentation of stored detections on one processor: no video, no network but the refiner, no Ray."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

import numpy as np

from flows.nightly.context import refiner_of, tracking_of
from flows.nightly.recompute import recompute_events
from flows.settings import Settings, load_ethogram
from model.refiner import load_refiner
from storage.catalog import Catalog, StorePin, pin_or_check
from storage.filesystem import open_filesystem
from storage.layout import CameraDay
from storage.records import DetectionColumns, VideoRecord
from tests.benchmarks.rows import Row, at_most
from tests.benchmarks.sizes import SEED, Bench, timed
from tests.benchmarks.synthetic import footer_of, video_at, wandering, write_detections
from tests.benchmarks.timing import one_thread
from workers.segment import segment_camera_day
from workers.track import TrackInput, track_camera_day

BIRDS = 4
"""That are there all the time: more than on most nights, so that the figures are no flattery."""
HOUR_GOAL_S = 6.0
"""For an hour of video: events of 100 hours in 10 minutes."""
DAY = CameraDay("bench", "camera0", dt.date(2026, 3, 1))


def tracking_rows(bench: Bench) -> Iterator[Row]:
    """Each of the two stages, then all of what ``aviaflow events`` does, reading and writing included."""
    settings, sizes = Settings(), bench.sizes
    ethogram, tracking = load_ethogram(settings.ethogram), tracking_of(settings)
    path, info = refiner_of(settings)
    assert path is not None
    assert info is not None
    videos = [video_at(DAY, number, sizes.recording_s) for number in range(sizes.recordings)]
    rows = wandering(videos, BIRDS, len(ethogram.names), SEED)
    inputs = [_input(video, columns) for video, columns in zip(videos, rows, strict=True)]
    boxes, hours = sum(len(columns.frame) for columns in rows), sum(v.duration_s for v in videos) / 3600
    refiner = load_refiner(path)[0]
    with one_thread():
        found = []
        track_s = timed(lambda: found.append(track_camera_day(inputs, tracking, None)))
        yield from stage_rows("tracking", track_s, boxes, hours)
        segment_s = timed(lambda: segment_camera_day(found[0], ethogram, "", "", refiner))
        yield from stage_rows("segmentation", segment_s, boxes, hours)
        store = str(bench.root / "tracked")
        catalog = Catalog(open_filesystem(store))
        pin_or_check(catalog.fs, StorePin(ethogram.names, settings.archive.path_pattern, {DAY.site: "UTC"}))
        write_detections(catalog, DAY, videos, rows, footer_of(info.reads[:16], ethogram.names))
        events_s = timed(lambda: recompute_events(store, settings))
    yield Row(
        "recomputing events from a store, per hour of video", events_s / hours, "s", at_most(HOUR_GOAL_S)
    )


def stage_rows(stage: str, seconds: float, boxes: int, hours: float) -> Iterator[Row]:
    """A stage's speed by what it reads, and by the video behind that."""
    yield Row(f"{stage} of {BIRDS} birds", boxes / seconds, "detections/s")
    yield Row(f"{stage} of {BIRDS} birds, per hour of video", seconds / hours, "s")


def _input(video: VideoRecord, columns: DetectionColumns) -> TrackInput:
    whole: Sequence[tuple[float, float]] = [(0.0, video.duration_s)]
    return TrackInput(
        camera=video.camera,
        detections=columns,
        start_time=video.start_time,
        duration_s=video.duration_s,
        fps=video.fps,
        aspect=video.width / video.height,
        observed_spans_s=np.array(whole, np.float64),
    )
