"""Derive: from the stored detections of one camera-day to its individuals, events, effort and videos.

Needs no video and no GPU: everything is read from the detections objects and their footers, so that thresholds,
tracking and smoothing can be changed and a night be recomputed in minutes.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model.ethogram import Ethogram
from model.refiner import Refiner, load_refiner
from storage.catalog import Catalog, Snapshot, video_of
from storage.filesystem import open_filesystem
from storage.layout import CameraDay
from storage.parquet import Footer
from storage.records import EffortRecord, TrackRecord, VideoRecord
from workers.effort import Coverage, Interval, camera_day_effort
from workers.messages import scores_behaviour
from workers.segment import segment_camera_day
from workers.track import CameraDayTracks, TrackCarry, TrackInput, TrackSettings, carry_from, track_camera_day


@dataclass(frozen=True, slots=True)
class DeriveJob:
    """One camera-day to derive."""

    store: str
    day: CameraDay
    quarantined: tuple[VideoRecord, ...]
    ethogram: Ethogram
    tracking: TrackSettings
    zone: str
    config_digest: str
    """Of the ethogram, the tracking settings and the refiner."""
    refiner: Path | None
    """Weights of the refiner; it is used where all detections are of the checkpoint that it reads."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """For the footers of the tables, as JSON values."""


@dataclass(frozen=True, slots=True)
class Derived:
    """What was written for one camera-day."""

    events: int
    individuals: int
    revision: str


CLOCK_UNTIL_S = "clock_until_s"
"""Key of a footer's details: ``until_s`` of :class:`workers.track.CameraDayTracks`, for the day after."""


def derive_camera_day(job: DeriveJob) -> Derived:
    """Track and segment one camera-day and publish its tables under one revision."""
    catalog = Catalog(open_filesystem(job.store))
    rows, footer = camera_day_tables(job, catalog)
    catalog.write_camera_day(job.day, rows, footer)
    return Derived(len(rows["events"]), len(rows["individuals"]), footer.revision)


def camera_day_tables(job: DeriveJob, catalog: Catalog) -> tuple[dict[str, Sequence[Any]], Footer]:
    """The rows of the tables of one camera-day and their footer, from what is stored; writes nothing."""
    footers = catalog.finished_detections(job.day)
    inputs = [_track_input(catalog, job.day, footer) for footer in footers.values()]
    before = day_before(catalog, job.day, footers, job.tracking.max_gap_s)
    carry = None if before is None else _carry(catalog, before, job.tracking)
    tracks = track_camera_day(inputs, job.tracking, carry)
    refiner, refiner_note = fitting_refiner(job.refiner, footers.values())
    digests = {video_id: footer.model_digest for video_id, footer in footers.items()}
    events = [
        dataclasses.replace(event, model_digest=digests[event.video_id])
        for event in segment_camera_day(tracks, job.ethogram, "", job.config_digest, refiner)
    ]
    footer = _footer(catalog, job, footers, refiner_note)
    footer = dataclasses.replace(footer, details={**footer.details, CLOCK_UNTIL_S: tracks.until_s})
    rows: dict[str, Sequence[Any]] = {
        "videos": sorted([*map(video_of, footers.values()), *job.quarantined], key=lambda video: video.uri),
        "tracks": _track_rows(inputs, tracks),
        "individuals": list(tracks.individuals),
        "effort": _effort(job, inputs, tracks),
        "events": events,
    }
    return rows, footer


def fitting_refiner(path: Path | None, footers: Iterable[Footer]) -> tuple[Refiner | None, str]:
    """The refiner of a file and what it was trained on, if it has learnt to read the scores of all these detections.

    Raises:
        ModelError: the file cannot be used.
    """
    if path is not None:
        refiner, info = load_refiner(path)
        if {footer.model_digest for footer in footers} == {info.reads[:16]}:
            return refiner, f"refiner trained on {info.trained_on}"
    return None, ""


def revision_of(
    catalog: Catalog | Snapshot,
    day: CameraDay,
    footers: Mapping[str, Footer],
    quarantined: Sequence[VideoRecord],
    config_digest: str,
    max_gap_s: float,
) -> str:
    """The revision that a camera-day's tables have when they are derived from what is stored now."""
    before = day_before(catalog, day, footers, max_gap_s)
    carried_from = "" if before is None else catalog.camera_day_footers(before)["tracks"].revision
    parts = [
        sorted((v, f.inputs, f.model_digest, f.config_digest) for v, f in footers.items()),
        sorted((record.video_id, record.fingerprint, record.reason) for record in quarantined),
        carried_from,
        config_digest,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def day_before(
    catalog: Catalog | Snapshot, day: CameraDay, footers: Mapping[str, Footer], max_gap_s: float
) -> CameraDay | None:
    """The previous date of the camera, if it is tracked and its recordings meet those of this date."""
    before = dataclasses.replace(day, date=day.date - dt.timedelta(days=1))
    earlier = catalog.finished_detections(before)
    if not footers or not earlier or "tracks" not in catalog.camera_day_footers(before):
        return None
    ends = [
        video.start_time + dt.timedelta(seconds=video.duration_s) for video in map(video_of, earlier.values())
    ]
    pause = min(video.start_time for video in map(video_of, footers.values())) - max(ends)
    return before if pause.total_seconds() <= max_gap_s else None


def _footer(catalog: Catalog, job: DeriveJob, footers: Mapping[str, Footer], refiner_note: str) -> Footer:
    revision = revision_of(
        catalog, job.day, footers, job.quarantined, job.config_digest, job.tracking.max_gap_s
    )
    models = Counter(footer.model_digest for footer in footers.values())
    notes = sorted({footer.note for footer in footers.values() if footer.note})
    notes += [refiner_note] if refiner_note else []
    return Footer(
        table="",
        inputs=revision,
        model_digest=models.most_common(1)[0][0] if models else "",
        config_digest=job.config_digest,
        behaviours=job.ethogram.names,
        zone=job.zone,
        revision=revision,
        note="; ".join(notes),
        details=job.details,
    )


def _track_input(catalog: Catalog, day: CameraDay, footer: Footer) -> TrackInput:
    video = video_of(footer)
    return TrackInput(
        camera=video.camera,
        detections=catalog.read_detections(day, video.video_id),
        start_time=video.start_time,
        duration_s=video.duration_s,
        fps=video.fps,
        aspect=video.width / video.height,
        observed_spans_s=np.array(footer.details["spans_s"], np.float64).reshape(-1, 2),
    )


def _carry(catalog: Catalog, before: CameraDay, tracking: TrackSettings) -> TrackCarry | None:
    """The last moments of the day before, rebuilt from its stored rows."""
    previous = [_track_input(catalog, before, f) for f in catalog.finished_detections(before).values()]
    records: list[TrackRecord] = catalog.read_records("tracks", before)
    until_s = float(catalog.camera_day_footers(before)["tracks"].details.get(CLOCK_UNTIL_S, 0.0))
    return carry_from(previous, records, tracking, until_s)


def _track_rows(inputs: Sequence[TrackInput], tracks: CameraDayTracks) -> list[TrackRecord]:
    return [
        TrackRecord(video.video_id, row, int(video.detections.frame[row]), individual_id)
        for video in sorted(inputs, key=lambda video: video.video_id)
        for row, individual_id in enumerate(tracks.individual_ids(video.video_id))
        if individual_id
    ]


def _effort(job: DeriveJob, inputs: Sequence[TrackInput], tracks: CameraDayTracks) -> list[EffortRecord]:
    coverages = [_coverage(video) for video in inputs]
    coverages += [
        Coverage(recorded=(_interval(video.start_time, 0.0, video.duration_s),), **_NOTHING)
        for video in job.quarantined
        if video.duration_s > 0
    ]
    return camera_day_effort(job.day.camera, coverages, _seen_at_once(inputs, tracks), job.zone)


_NOTHING: dict[str, tuple[Interval, ...]] = dict.fromkeys(("readable", "surveyed", "decoded", "scored"), ())


def _coverage(video: TrackInput) -> Coverage:
    whole = (_interval(video.start_time, 0.0, video.duration_s),)
    looked = tuple(
        _interval(video.start_time, start, min(end, video.duration_s))
        for start, end in video.observed_spans_s
    )
    scored = looked if scores_behaviour(video.fps) else ()
    return Coverage(recorded=whole, readable=whole, surveyed=whole, decoded=looked, scored=scored)


def _interval(origin: dt.datetime, start_s: float, end_s: float) -> Interval:
    return origin + dt.timedelta(seconds=start_s), origin + dt.timedelta(seconds=end_s)


def _seen_at_once(inputs: Sequence[TrackInput], tracks: CameraDayTracks) -> list[tuple[dt.datetime, int]]:
    is_subject = np.array([i.kind == "subject" for i in tracks.individuals] + [False])
    moments = []
    for video in inputs:
        subject = is_subject[tracks.owner[video.video_id]]
        times, counts = np.unique(video.detections.time_s[subject], return_counts=True)
        moments += [
            (video.start_time + dt.timedelta(seconds=float(time)), int(count))
            for time, count in zip(times, counts, strict=True)
        ]
    return moments
