"""How much there was to do in a run, and with what means: what turns its times into rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.nightly.stages import Work
from workers.messages import GRID_HZ, KEYFRAME_STEP

if TYPE_CHECKING:
    from flows.nightly.night import Night


@dataclass(frozen=True, slots=True)
class RunScale:
    """Counts and means of one run."""

    files: int
    """That were probed."""
    videos: int
    """That were scored."""
    camera_days: int
    """That they are of."""
    segments: int
    """That were decoded, each by a process of its own."""
    video_s: float
    present_s: float
    """Seconds of video in which something was there, as far as they were scored."""
    survey_busy_s: float
    """Over all processors, building the detectors left out."""
    phase_sums_s: Mapping[str, float]
    """Seconds of each phase, those of camera-days side by side each counted."""
    overhead_s: float
    """Wall time outside all phases."""
    cpus: int
    decode_workers: int
    """For each camera-day under way."""
    actors: int
    threads: int
    """Of each actor."""
    camera_days_at_once: int
    segment_s: float | None
    """Longest segment; None where spans were cut for idle workers only."""
    cuts: int = 0
    """Of the segments, those that go on with the span of the one before."""


def scale_of(night: Night, wall_s: float) -> RunScale:
    """The scale of a run that took so long."""
    work, settings = night.clock.work, night.context.settings

    def of(stage: str) -> Work:
        return work.get(stage, Work())

    return RunScale(
        files=of("probe").items,
        videos=night.videos,
        camera_days=night.days_to_score,
        segments=night.segments,
        video_s=round(night.video_s, 3),
        present_s=round(of("detect").items * KEYFRAME_STEP / GRID_HZ, 3),
        survey_busy_s=round(of("survey").busy_s, 3),
        phase_sums_s=night.clock.summed_s,
        overhead_s=round(wall_s - night.clock.covered_s, 3),
        cpus=night.cpus,
        decode_workers=night.decode_workers,
        actors=night.actor_count,
        threads=settings.infer.threads or max(1, night.cpus // night.actor_count),
        camera_days_at_once=settings.camera_days_at_once,
        segment_s=settings.decode.segment_seconds,
        cuts=night.cuts,
    )
