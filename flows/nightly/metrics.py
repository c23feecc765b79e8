"""A run's figures as a file of Prometheus metrics, for the textfile collector of a node exporter."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

_OF_RUN = {
    "wall_s": ("run_seconds", "Wall time of the last run"),
    "video_s": ("run_video_seconds", "New video of the last run"),
    "realtime_factor": ("run_realtime_factor", "Seconds of video for each second of the last run"),
    "frames_decoded": ("run_frames_decoded", "Frames that the last run decoded"),
    "events": ("store_events", "Rows of events in the store: bouts, and what is unscored or not visible"),
    "individuals": (
        "store_individuals",
        "Rows of individuals in the store, one for each day that one is there",
    ),
}
_OF_STAGE = {
    "busy_s": ("stage_busy_seconds", "Busy time of a stage's workers in the last run"),
    "waiting_s": ("stage_waiting_seconds", "Waiting time of a stage's workers in the last run"),
    "items": ("stage_items", "What a stage put out in the last run: frames, keyframes or individuals"),
    "workers": ("stage_workers", "Workers of a stage in the last run"),
}


def write_metrics(summary: Mapping[str, Any], path: Path) -> None:
    """Write the summary of a run to a ``.prom`` file, in one step."""
    registry = CollectorRegistry()
    store = summary["store"]
    for key, (name, text) in _OF_RUN.items():
        Gauge(f"aviaflow_{name}", text, ["store"], registry=registry).labels(store).set(summary[key])
    videos = Gauge(
        "aviaflow_videos", "Videos of the archive by status", ["store", "status"], registry=registry
    )
    for status in ("done", "quarantined"):
        videos.labels(store, status).set(sum(video["status"] == status for video in summary["videos"]))
    for key, (name, text) in _OF_STAGE.items():
        gauge = Gauge(f"aviaflow_{name}", text, ["store", "stage"], registry=registry)
        for stage in summary["profile"]["stages"]:
            gauge.labels(store, stage["stage"]).set(stage[key])
    phases = Gauge(
        "aviaflow_phase_seconds",
        "Wall time of a phase of the last run",
        ["store", "phase"],
        registry=registry,
    )
    for phase, seconds in summary["profile"]["phases_s"].items():
        phases.labels(store, phase).set(seconds)
    Gauge(
        "aviaflow_run_end_timestamp_seconds", "When the last run ended", ["store"], registry=registry
    ).labels(store).set(time.time())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), registry)
