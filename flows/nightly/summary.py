"""What a run did, as one JSON document and as text."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flows.nightly.night import DayOutcome, Night
from flows.nightly.profile import profile_document, profile_run, profile_table
from flows.nightly.scale import scale_of
from storage import Store
from storage.catalog import Catalog, Snapshot
from storage.layout import CameraDay
from storage.records import VideoRecord


def summarise(night: Night, outcomes: Sequence[DayOutcome], wall_s: float) -> dict[str, Any]:
    """The summary of a run, as ``run --json`` prints it."""
    context = night.context
    stored = {video_id: record for video_id, (_, record) in night.lookup.stored.items()}
    for day in {outcome.day for outcome in outcomes}:
        stored |= {record.video_id: record for record in _videos(context.catalog, day)}
    videos = [stored[file.video_id] for file in night.lookup.files if file.video_id in stored]
    counts = table_rows(context.catalog.snapshot())
    profile = profile_run(
        night.clock, night.workers, wall_s=wall_s, video_s=night.video_s, device=night.device
    )
    return {
        "videos": [{"uri": v.uri, "status": v.status, "reason": v.reason} for v in videos],
        "frames_decoded": night.frames_decoded,
        "blind_videos": night.blind_videos,
        "wall_s": round(wall_s, 2),
        "realtime_factor": round(profile.realtime_factor, 2),
        "limiting_stage": profile.limiting_stage,
        "events": counts["events"],
        "individuals": counts["individuals"],
        "camera_days": len(outcomes),
        "video_s": round(night.video_s, 1),
        "outdated": night.lookup.outdated if not night.reprocess else 0,
        "damaged": [*night.lookup.damaged, *night.lookup.lost],
        "profile": profile_document(profile),
        "scale": asdict(scale_of(night, wall_s)),
        "store": context.out,
        "note": context.note,
        "time_budget": budget(context.out),
    }


def run_record(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the store keeps of a run: its figures, the machine, and what it quarantined."""
    quarantined = [video for video in summary["videos"] if video["status"] == "quarantined"]
    kept = {key: value for key, value in summary.items() if key not in ("videos", "time_budget", "store")}
    machine = {"host": platform.node(), "processors": os.cpu_count(), "python": platform.python_version()}
    return {**kept, "videos": len(summary["videos"]), "quarantined": quarantined, "machine": machine}


def budget(store: str) -> list[dict[str, Any]]:
    """Seconds, bouts and share of scored time per behaviour, as JSON values."""
    rows = Store(store).time_budget().to_dict(orient="records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def _videos(catalog: Catalog, day: CameraDay) -> list[VideoRecord]:
    return catalog.read_records("videos", day) if "videos" in catalog.camera_day_footers(day) else []


def table_rows(snapshot: Snapshot) -> Mapping[str, int]:
    """Number of rows of a store's events and individuals, from the footers."""
    return {
        table: sum(footers[table].rows for footers in snapshot.tables.values() if table in footers)
        for table in ("events", "individuals")
    }


def describe_run(summary: Mapping[str, Any]) -> str:
    """The summary for a person to read."""
    bad = [video for video in summary["videos"] if video["status"] == "quarantined"]
    lines = [
        f"{len(summary['videos']) - len(bad)} videos done, {len(bad)} quarantined; "
        f"{summary['individuals']} individuals, {summary['events']} events in {summary['store']}"
    ]
    if summary["video_s"] > 0:
        lines.append(
            f"{summary['video_s'] / 60:.1f} min of new video in {summary['wall_s']:.0f} s "
            f"({summary['realtime_factor']:.1f}x real time), {summary['frames_decoded']} frames decoded"
        )
    elif summary["camera_days"]:
        lines.append(
            f"no frame decoded: {summary['camera_days']} camera-days derived anew from stored detections"
        )
    else:
        lines.append("nothing to do: every video is in the store, no frame decoded")
    if summary["outdated"]:
        lines.append(
            f"{summary['outdated']} videos were made with another model or settings; --reprocess makes them again"
        )
    if summary["blind_videos"]:
        lines.append(
            f"{summary['blind_videos']} videos have I-frames too far apart for survey.recall_target: what is empty in "
            "them was decoded, too; `reason` in the table of videos says how much, and a camera set to one a second "
            "saves that"
        )
    if summary["profile"]["stages"]:
        lines += ["", *profile_table(summary["profile"])]
    lines += ["", *budget_table(summary["time_budget"])]
    if bad:
        lines += ["", "quarantined:", *(f"  {video['uri']}: {video['reason']}" for video in bad)]
    return "\n".join([*lines, "", f"note: {summary['note']}"])


def budget_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a time budget."""
    if not rows:
        return ["no behaviour was scored"]
    head = f"{'behaviour':<14}{'seconds':>10}{'bouts':>8}{'share':>9}"
    return [
        head,
        *(f"{r['behaviour']:<14}{r['seconds']:>10.1f}{r['bouts']:>8}{r['share']:>9.1%}" for r in rows),
    ]


def describe_plan(plan: Mapping[str, Any]) -> str:
    """A dry run for a person to read."""
    lines = [
        f"{plan['files']} files in the archive, {plan['done']} done, {plan['to_score']} to score "
        f"({plan['video_s'] / 3600:.2f} h of video), {len(plan['quarantined'])} not readable"
    ]
    lines += [
        f"  {day['site']} / {day['camera']} / {day['date']}: {day['to_score']} videos, "
        f"{day['video_s'] / 60:.1f} min{'  (' + day['note'] + ')' if day['note'] else ''}"
        for day in plan["camera_days"]
    ]
    lines += [f"  not readable: {video['uri']}: {video['reason']}" for video in plan["quarantined"]]
    if plan["estimate_s"] is not None:
        lines.append(
            f"about {plan['estimate_s'] / 60:.1f} min on this machine if something is there all the time, "
            f"less where it is empty ({plan['estimate_basis']})"
        )
    return "\n".join(lines)
