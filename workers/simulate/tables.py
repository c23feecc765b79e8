"""The truth as CSV files."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workers.simulate.behaviour import LABEL_NAMES
from workers.simulate.reserve import Camera
from workers.simulate.truth import (
    KEYFRAME_S,
    bouts_of,
    boxes_at,
    individual_of,
    movers_at,
    presence_of,
    visible_steps,
)

Row = tuple[object, ...]
HEADERS: dict[str, tuple[str, ...]] = {
    "boxes": (),
    "others": ("video_id", "timestamp", "x1", "y1", "x2", "y2", "kind", "mover_id"),
    "events": ("individual_id", "video_id", "camera", "behaviour", "start_time", "end_time",
               "start_s", "end_s", "duration_s"),
    "individuals": ("individual_id", "camera", "first_seen", "last_seen", "visible_s", "moves", "size_px"),
    "presence": ("video_id", "start_s", "end_s"),
}  # fmt: skip
"""Columns of each table; ``boxes`` is an AVA CSV, which has no header: video_id, timestamp, x1, y1, x2, y2,
action_id, person_id, then motion, covered and inside."""


@dataclass(slots=True)
class Tables:
    """Rows of every table."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in HEADERS})

    def extend(self, other: Tables) -> None:
        """Add another camera's rows."""
        for name, rows in other.rows.items():
            self.rows[name] += rows

    def as_text(self, name: str) -> str:
        """One table as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if HEADERS[name]:
            writer.writerow(HEADERS[name])
        writer.writerows(self.rows[name])
        return text.getvalue()


def keyframe_times(seconds: float) -> list[float]:
    """Times of the keyframes of a recording, seconds from its start."""
    count = int((seconds - 1e-9) / KEYFRAME_S) + 1
    return [k * KEYFRAME_S for k in range(count)]


def video_tables(camera: Camera, site: str, recording: int) -> Tables:
    """Boxes of birds and of others in one recording."""
    tables = Tables()
    uri, start_s = camera.uri(site, recording), recording * camera.seconds
    for time_s in keyframe_times(camera.seconds):
        stamp, moment = f"{time_s:.6f}", start_s + time_s
        for box in boxes_at(camera, moment, (start_s, start_s + camera.seconds)):
            extra = (box.motion, f"{box.covered:.3f}", f"{box.inside:.3f}")
            tables.rows["boxes"].append(
                (uri, stamp, *_corners(box.xyxy), box.label, box.individual_id, *extra)
            )
        for other in movers_at(camera, moment):
            tables.rows["others"].append((uri, stamp, *_corners(other.xyxy), other.kind, other.mover_id))
    return tables


def camera_tables(camera: Camera, site: str) -> Tables:
    """Bouts, individuals and presence of one camera over all its recordings."""
    tables = Tables()
    visible = {bird.individual_id: visible_steps(camera, bird) for bird in camera.birds}
    for bird in camera.birds:
        one = individual_of(bird, visible[bird.individual_id])
        if one is None:
            continue
        tables.rows["individuals"].append(
            (one.individual_id, camera.name, _utc(camera, one.first_s), _utc(camera, one.last_s),
             f"{one.visible_s:.6f}", int(one.moves), f"{one.size_px:.2f}")
        )  # fmt: skip
        for bout in bouts_of(bird, visible[bird.individual_id]):
            recording = min(int(bout.start_s / camera.seconds), camera.recordings - 1)
            offset = recording * camera.seconds
            tables.rows["events"].append(
                (bout.individual_id, camera.uri(site, recording), camera.name, LABEL_NAMES[bout.label],
                 _utc(camera, bout.start_s), _utc(camera, bout.stop_s), f"{bout.start_s - offset:.6f}",
                 f"{bout.stop_s - offset:.6f}", f"{bout.stop_s - bout.start_s:.6f}")
            )  # fmt: skip
    spans = presence_of(camera, visible)
    for recording in range(camera.recordings):
        low, high = recording * camera.seconds, (recording + 1) * camera.seconds
        for start, stop in spans:
            if start < high and stop > low:
                tables.rows["presence"].append((camera.uri(site, recording), f"{max(start, low) - low:.6f}",
                                                f"{min(stop, high) - low:.6f}"))  # fmt: skip
    return tables


def reserve_truth(cameras: Iterable[Camera], site: str) -> Tables:
    """All tables of a reserve, in the order of its cameras and recordings."""
    tables = Tables()
    for camera in cameras:
        tables.extend(camera_tables(camera, site))
        for recording in range(camera.recordings):
            tables.extend(video_tables(camera, site, recording))
    return tables


def describe(cameras: Sequence[Camera], seed: int, site: str) -> str:
    """What was simulated, as JSON."""
    rows = [
        {
            "camera": camera.name,
            "scene": camera.scenery.scene,
            "ground": camera.scenery.ground,
            "light": camera.scenery.light,
            "fps": camera.optics.fps,
            "keyint_s": camera.optics.keyint_s,
            "start_time": camera.start_time.isoformat(),
            "videos": [camera.uri(site, k) for k in range(camera.recordings)],
        }
        for camera in cameras
    ]
    return json.dumps({"simulated": True, "seed": seed, "site": site, "cameras": rows}, indent=2) + "\n"


def write_truth(folder: Path, tables: Tables, description: str) -> None:
    """Write ``boxes.csv`` and its siblings, and ``reserve.json``, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in HEADERS:
        (folder / f"{name}.csv").write_text(tables.as_text(name), encoding="utf-8", newline="")
    (folder / "reserve.json").write_text(description, encoding="utf-8")


def _corners(xyxy: tuple[float, float, float, float]) -> tuple[str, ...]:
    return tuple(f"{v:.5f}" for v in xyxy)


def _utc(camera: Camera, time_s: float) -> str:
    moment = camera.start_time + dt.timedelta(microseconds=round(time_s * 1e6))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")
