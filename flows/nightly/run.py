"""Run an archive into a store, or say what that would take."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from flows.cluster import ray_cluster
from flows.nightly.context import RunContext, open_context
from flows.nightly.night import Night
from flows.nightly.plan import DayPlan, Lookup
from flows.nightly.progress import Progress
from flows.nightly.summary import summarise
from flows.quiet import notice, quiet_console
from flows.settings import Settings
from storage.lease import store_lease
from workers.messages import GRID_HZ, KEYFRAME_STEP, Boxes


def run_archive(
    archive: str,
    out: str,
    settings: Settings,
    *,
    address: str | None = None,
    reprocess: bool = False,
    wait: bool = False,
) -> dict[str, Any]:
    """Bring a store up to date with an archive.

    Looks first: where nothing is to be done neither Prefect nor Ray is started, and no lease is taken.

    Args:
        archive: folder of videos, or ``s3://bucket/prefix``.
        out: the store.
        settings: of the run.
        address: of a running Ray cluster; None starts one on this machine.
        reprocess: also redo videos made with another model or settings.
        wait: for another run on the same store, instead of raising.

    Returns:
        The summary; see ``flows.nightly.summary.summarise``.

    Raises:
        LeaseHeldError: another process is at work on the store.
    """
    started = time.perf_counter()
    night = Night(open_context(archive, out, settings), reprocess, Progress())
    if night.lookup.nothing_to_do:
        night.say_what_was_seen()
        return summarise(night, [], time.perf_counter() - started)
    quiet_console()
    from flows.nightly.flow import nightly
    from flows.nightly.server import temporary_server

    # Before anything is started: what cannot be written or is held by another one is said at once.
    with store_lease(night.context.catalog.fs, wait=wait, say=notice), temporary_server():
        summary: dict[str, Any] = nightly(archive, out, settings.model_dump(mode="json"), address, reprocess)
    return summary


def dry_run(archive: str, out: str, settings: Settings, *, reprocess: bool = False) -> dict[str, Any]:
    """What a run would do, how much, and how long it would take here; decodes and stores nothing."""
    context = open_context(archive, out, settings)
    night = Night(context, reprocess, Progress())
    night.say_what_was_seen()
    plans = []
    if not night.lookup.nothing_to_do:
        with ray_cluster() as cpus, night.on_cluster(cpus):
            plans = night.plan()
    video_s = sum(plan.video_s for plan in plans)
    second_s = _seconds_per_video_second(context) if video_s else None
    days = [
        {
            "site": plan.day.site,
            "camera": plan.day.camera,
            "date": plan.day.date.isoformat(),
            "to_score": len(plan.to_score),
            "video_s": plan.video_s,
            "note": plan.note,
        }
        for plan in plans
    ]
    to_score = sum(len(plan.to_score) for plan in plans)
    quarantined = _not_readable(night.lookup, plans)
    return {
        "files": len(night.lookup.files),
        "done": len(night.lookup.files) - to_score - len(quarantined) - _waiting(night.lookup, plans),
        "to_score": to_score,
        "video_s": video_s,
        "camera_days": days,
        "quarantined": quarantined,
        "estimate_s": None if second_s is None else video_s * second_s,
        "estimate_basis": "measured now: the behaviour model on random frames, three birds at a time",
    }


def _waiting(lookup: Lookup, plans: Sequence[DayPlan]) -> int:
    """New files that no plan has: their camera-days are left alone."""
    planned = {recording.file.video_id for plan in plans for recording in plan.surveyed_with}
    planned |= {video.video_id for plan in plans for video in plan.quarantined}
    return sum(file.video_id not in planned for file in lookup.new)


def _not_readable(lookup: Lookup, plans: Sequence[DayPlan]) -> list[dict[str, str]]:
    """Files of the archive that are quarantined now, or would be."""
    bad = {v: video for v, (_, video) in lookup.stored.items() if video.status == "quarantined"}
    bad |= {video.video_id: video for plan in plans for video in plan.quarantined}
    to_score = {recording.file.video_id for plan in plans for recording in plan.to_score}
    return [
        {"uri": file.uri, "reason": bad[file.video_id].reason}
        for file in lookup.files
        if file.video_id in bad and file.video_id not in to_score
    ]


def _seconds_per_video_second(context: RunContext) -> float:
    """Time that the behaviour model takes per second of video in which three individuals are seen."""
    import torch

    from workers.infer import Scorer

    spec = context.scorer_spec(os.cpu_count() or 1)
    torch.set_num_threads(spec.threads)
    scorer = Scorer(spec.checkpoint, spec.device, spec.batch_clips, spec.engine)
    height = context.settings.decode.frame_height
    frames = np.random.default_rng(0).integers(0, 255, (48, height, height * 16 // 9, 3), np.uint8)
    boxes = Boxes(np.tile(np.array([[0.2, 0.2, 0.4, 0.6]], np.float32), (3, 1)), np.ones(3, np.float32))
    centres = np.arange(0, len(frames), KEYFRAME_STEP)
    scorer.score(frames, centres, [boxes] * len(centres))
    started = time.perf_counter()
    scorer.score(frames, centres, [boxes] * len(centres))
    return (time.perf_counter() - started) / (len(frames) / GRID_HZ)
