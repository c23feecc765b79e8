"""Rows as a run leaves them, without a run: birds that wander and change what they do, for tracking and for queries."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from storage.catalog import Catalog, video_details
from storage.layout import CameraDay, video_id_of
from storage.parquet import Footer
from storage.records import EMBEDDING_SIZE, DetectionColumns, VideoRecord
from workers.messages import GRID_HZ, KEYFRAME_STEP

FPS = 30.0
STEP_S = KEYFRAME_STEP / GRID_HZ
HEIGHT = 0.12
"""Of a bird, of the picture's height."""
BOUT_S = 12.0
"""Mean time for which a bird goes on with what it does."""
WALK = 0.004
"""Largest part of the picture that a bird goes from one keyframe to the next."""

Floats = NDArray[np.float64]


def video_at(day: CameraDay, number: int, seconds: float) -> VideoRecord:
    """The row of a camera-day's recording with this number, which begins where the one before it ends."""
    midnight = dt.datetime.combine(day.date, dt.time(), dt.UTC)
    start = midnight + dt.timedelta(seconds=number * seconds)
    uri = f"{day.site}/{day.camera}/{day.camera}_{start:%Y%m%dT%H%M%SZ}.mp4"
    frames = round(seconds * FPS)
    return VideoRecord(
        video_id=video_id_of(uri),
        uri=uri,
        camera=day.camera,
        start_time=start,
        start_source="path",
        fps=FPS,
        frame_count=frames,
        duration_s=seconds,
        width=1920,
        height=1080,
        container="mov",
        codec="h264",
        fingerprint=uri,
        status="done",
        reason="",
        frames_decoded=frames // 2,
        survey_mode="spans",
    )


def wandering(
    videos: Sequence[VideoRecord], birds: int, behaviours: int, seed: int
) -> list[DetectionColumns]:
    """Boxes of birds that stay through consecutive recordings, as a detector and a network would give them."""
    rng = np.random.default_rng(seed)
    steps = [int(video.duration_s / STEP_S) for video in videos]
    feet = np.stack([_paths(sum(steps), rng) for _ in range(birds)])
    doing = np.stack([_bouts(sum(steps), behaviours, rng) for _ in range(birds)])
    looks = rng.integers(-100, 100, (birds, EMBEDDING_SIZE))
    ends = np.cumsum(steps)
    return [
        _columns(
            video.video_id, feet[:, end - count : end], doing[:, end - count : end], looks, behaviours, rng
        )
        for video, count, end in zip(videos, steps, ends.tolist(), strict=True)
    ]


def write_detections(
    catalog: Catalog,
    day: CameraDay,
    videos: Sequence[VideoRecord],
    rows: Sequence[DetectionColumns],
    footer: Footer,
) -> None:
    """Store the boxes of a camera-day's recordings, in all of which something is there from end to end."""
    for video, columns in zip(videos, rows, strict=True):
        details = video_details(video, [(0.0, video.duration_s)])
        catalog.write_detections(day, columns, dataclasses.replace(footer, details=details))


def footer_of(model: str, behaviours: Sequence[str]) -> Footer:
    """Of detections, but for the video."""
    return Footer(
        table="detections",
        inputs="synthetic",
        model_digest=model,
        config_digest="synthetic",
        behaviours=tuple(behaviours),
        zone="UTC",
        note="synthetic rows",
    )


def _paths(steps: int, rng: np.random.Generator) -> Floats:
    """Feet of a bird that wanders within the picture, shape ``(steps, 2)``."""
    turns = np.cumsum(rng.normal(0, 0.15, steps)) + rng.uniform(0, 2 * np.pi)
    speed = WALK * np.abs(np.sin(np.cumsum(rng.normal(0, 0.05, steps))))
    way = np.cumsum(speed[:, None] * np.column_stack([np.cos(turns), np.sin(turns)]), axis=0)
    return 0.2 + 0.6 * _reflected(way / 0.6 + rng.uniform(0, 1, 2))


def _reflected(values: Floats) -> Floats:
    """Into 0 to 1, turning back at both ends."""
    return np.abs((values + 1) % 2 - 1)


def _bouts(steps: int, behaviours: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """What a bird does at each keyframe."""
    begins = rng.random(steps) < STEP_S / BOUT_S
    begins[0] = True
    bouts: NDArray[np.int64] = np.cumsum(begins) - 1
    doing: NDArray[np.int64] = rng.integers(0, behaviours, int(begins.sum()))[bouts]
    return doing


def _columns(
    video_id: str,
    feet: Floats,
    doing: NDArray[np.int64],
    looks: NDArray[np.int64],
    behaviours: int,
    rng: np.random.Generator,
) -> DetectionColumns:
    birds, steps, _ = feet.shape
    jittered = feet + rng.normal(0, 0.02 * HEIGHT, feet.shape)
    half = HEIGHT * 0.2
    boxes = np.stack(
        [jittered[..., 0] - half, jittered[..., 1] - HEIGHT, jittered[..., 0] + half, jittered[..., 1]],
        axis=2,
    )
    xyxy = boxes.clip(0, 1).astype(np.float32).reshape(-1, 4)
    step = np.tile(np.arange(steps), birds)
    order = np.lexsort((xyxy[:, 1], xyxy[:, 0], step))
    likely = np.where(np.arange(behaviours) == doing.reshape(-1, 1), 0.8, 0.12)
    rows = birds * steps
    seen = np.repeat(looks, steps, axis=0) + rng.integers(-12, 13, (rows, EMBEDDING_SIZE))
    return DetectionColumns(
        video_id=video_id,
        frame=(step[order] * round(STEP_S * FPS)).astype(np.int32),
        time_s=(step[order] * STEP_S).astype(np.float64),
        xyxy=xyxy[order],
        box_score=rng.uniform(0.8, 1, rows).astype(np.float32),
        p_behaviour=(likely + rng.normal(0, 0.05, likely.shape)).clip(0, 1).astype(np.float32)[order],
        p_other=rng.uniform(0, 0.1, rows).astype(np.float32),
        p_dynamic=rng.uniform(0, 1, rows).astype(np.float32),
        embedding=seen.astype(np.int8)[order],
    )
