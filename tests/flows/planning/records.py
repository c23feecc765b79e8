"""The record of a run that was never run, with figures that are easy to divide by."""

from __future__ import annotations

from typing import Any

SCALE: dict[str, Any] = {
    "files": 8,
    "videos": 8,
    "camera_days": 2,
    "segments": 8,
    "video_s": 800.0,
    "present_s": 400.0,
    "survey_busy_s": 16.0,
    "phase_sums_s": {
        "starting workers": 3.0,
        "probe": 7.0,
        "plates": 5.0,
        "survey": 33.0,
        "starting actors": 11.0,
        "decode and infer": 500.0,
        "derive": 12.0,
    },
    "overhead_s": 9.0,
    "cpus": 4,
    "decode_workers": 2,
    "actors": 1,
    "threads": 4,
    "camera_days_at_once": 1,
    "segment_s": 300.0,
}


def stage(name: str, busy_s: float, items: int, mb_per_s: float, peak_mb: float) -> dict[str, Any]:
    return {"stage": name, "busy_s": busy_s, "items": items, "mb_per_s": mb_per_s, "peak_mb": peak_mb}


def record(device: str = "cpu", **scale: Any) -> dict[str, Any]:
    """400 s of 800 s of video, streamed in 500 s."""
    return {
        "ended_at": "2026-03-01T04:00:00+00:00",
        "video_s": 800.0,
        "scale": {**SCALE, **scale},
        "profile": {
            "device": device,
            "phases_s": {"starting actors": 11.0, "decode and infer": 500.0},
            "stages": [
                stage("decode", 200.0, 12000, 4.0, 700.0),
                stage("detect", 100.0, 1500, 0.0, 900.0),
                stage("infer", 300.0, 4000, 0.0, 900.0),
            ],
        },
    }
