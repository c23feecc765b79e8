"""Plan a run: what the archive has, minus what the store's footers say is done."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flows.digests import Digests
from flows.errors import NothingToReadError
from flows.settings import ArchiveSettings
from storage.catalog import Catalog
from storage.layout import CameraDay
from storage.parquet import Footer
from storage.records import VideoRecord
from workers.archive import group_camera_days, list_archive, place_file, place_recording
from workers.derive import revision_of, video_of
from workers.messages import ArchiveFile, Probe, Quarantined, Recording

ProbeFiles = Callable[[Sequence[ArchiveFile]], list[Probe | Quarantined]]


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """What can be known without opening a video."""

    files: tuple[ArchiveFile, ...]
    stored: Mapping[str, tuple[CameraDay, VideoRecord]]
    """Videos that the store knows, by id."""
    new: tuple[ArchiveFile, ...]
    """Files that the store does not know, or knows with other content, or that are to be made again."""
    unsettled: tuple[CameraDay, ...]
    """Camera-days whose tables are not what their detections and these settings give."""
    outdated: int
    """Videos made with another model or other settings, which only ``--reprocess`` makes again."""

    @property
    def nothing_to_do(self) -> bool:
        """Whether the store already holds everything."""
        return not self.new and not self.unsettled


@dataclass(frozen=True, slots=True, eq=False)
class DayPlan:
    """What is to be done for one camera-day."""

    day: CameraDay
    to_score: tuple[Recording, ...]
    done: tuple[VideoRecord, ...]
    """Videos whose detections are stored."""
    quarantined: tuple[VideoRecord, ...]
    surveyed_with: tuple[Recording, ...]
    """All readable recordings of the camera-day: the plates come from these."""
    note: str = ""

    @property
    def video_s(self) -> float:
        """Seconds of video to look at."""
        return sum(recording.probe.duration_s for recording in self.to_score)


def look_up(archive: str, catalog: Catalog, digests: Digests, reprocess: bool) -> Lookup:
    """Compare an archive with a store.

    Raises:
        NothingToReadError: the archive holds no file that looks like a video.
    """
    files = tuple(list_archive(archive))
    if not files:
        raise NothingToReadError(f"{archive}: holds no file that looks like a video")
    stored: dict[str, tuple[CameraDay, VideoRecord]] = {}
    unsettled, outdated = [], set()
    for day in catalog.camera_days():
        footers = catalog.finished_detections(day)
        tables = catalog.camera_day_footers(day)
        quarantined = stored_quarantined(catalog, day, tables)
        for video in [*map(video_of, footers.values()), *quarantined]:
            stored[video.video_id] = (day, video)
        outdated |= {v for v, footer in footers.items() if not digests.made(footer)}
        wanted = revision_of(catalog, day, footers, quarantined, digests.events, digests.max_gap_s)
        if len(tables) < 5 or {footer.revision for footer in tables.values()} != {wanted}:
            unsettled.append(day)
    new = tuple(
        file
        for file in files
        if file.video_id not in stored
        or stored[file.video_id][1].fingerprint != file.fingerprint
        or (reprocess and (file.video_id in outdated or stored[file.video_id][1].status != "done"))
    )
    return Lookup(files, stored, new, tuple(unsettled), len(outdated & {file.video_id for file in files}))


def stored_quarantined(catalog: Catalog, day: CameraDay, tables: Mapping[str, Footer]) -> list[VideoRecord]:
    """The quarantined videos that a camera-day's table of videos names."""
    if "videos" not in tables:
        return []
    records: list[VideoRecord] = catalog.read_records("videos", day)
    return [record for record in records if record.status == "quarantined"]


def plan_days(
    lookup: Lookup,
    catalog: Catalog,
    digests: Digests,
    settings: ArchiveSettings,
    reprocess: bool,
    probe_files: ProbeFiles,
) -> list[DayPlan]:
    """The camera-days with work, after probing the new files and those of the same camera-days."""
    probes = dict(zip(lookup.new, probe_files(lookup.new), strict=True))
    touched = {_placed(file, probe, settings) for file, probe in probes.items()}
    beside = [
        file
        for file in lookup.files
        if file not in probes and _same_camera(lookup.stored[file.video_id][0]) in touched
    ]
    readable_beside = [file for file in beside if lookup.stored[file.video_id][1].status == "done"]
    probes.update(zip(readable_beside, probe_files(readable_beside), strict=True))
    recordings = [
        place_recording(file, probe, settings.path_pattern, settings.zone, settings.site)
        for file, probe in probes.items()
        if isinstance(probe, Probe)
    ]
    bad = [probe for probe in probes.values() if isinstance(probe, Quarantined)]
    groups = {group.key: group for group in group_camera_days(recordings)}
    quarantined = _by_day(bad, settings)
    days = set(groups) | set(quarantined) | set(lookup.unsettled)
    plans = []
    for day in sorted(days):
        group = groups.get(day)
        members = group.recordings if group else ()
        footers = catalog.finished_detections(day)
        tables = catalog.camera_day_footers(day)
        to_score = tuple(r for r in members if not _is_done(r, footers, digests, reprocess))
        fresh = {record.video_id: record for record in quarantined.get(day, ())}
        retried = {recording.file.video_id for recording in members}
        kept = {r.video_id: r for r in stored_quarantined(catalog, day, tables) if r.video_id not in retried}
        again = {recording.file.video_id for recording in to_score}
        plans.append(
            DayPlan(
                day=day,
                to_score=to_score,
                done=tuple(video_of(footer) for v, footer in footers.items() if v not in again),
                quarantined=tuple({**kept, **fresh}.values()),
                surveyed_with=members,
                note=group.note if group else "",
            )
        )
    return plans


def quarantined_record(
    file: ArchiveFile,
    reason: str,
    camera: str,
    start_time: dt.datetime,
    start_source: str,
    probe: Probe | None,
) -> VideoRecord:
    """The row of a file that could not be used."""
    return VideoRecord(
        video_id=file.video_id,
        uri=file.uri,
        camera=camera,
        start_time=start_time,
        start_source=start_source,
        fps=probe.fps if probe else 0.0,
        frame_count=probe.frame_count if probe else 0,
        duration_s=probe.duration_s if probe else 0.0,
        width=probe.width if probe else 0,
        height=probe.height if probe else 0,
        container=probe.container if probe else "",
        codec=probe.codec if probe else "",
        fingerprint=file.fingerprint,
        status="quarantined",
        reason=reason,
        frames_decoded=0,
        survey_mode="",
    )


def _is_done(recording: Recording, footers: Mapping[str, Footer], digests: Digests, reprocess: bool) -> bool:
    footer = footers.get(recording.file.video_id)
    if footer is None or video_of(footer).fingerprint != recording.file.fingerprint:
        return False
    return not reprocess or digests.made(footer)


def _placed(
    file: ArchiveFile, probe: Probe | Quarantined, settings: ArchiveSettings
) -> tuple[str, str, dt.date]:
    start = probe.container_start if isinstance(probe, Probe) else None
    place = place_file(file, start, settings.path_pattern, settings.zone, settings.site)
    return place.site, place.camera, place.date


def _same_camera(day: CameraDay) -> tuple[str, str, dt.date]:
    """The camera-day before recordings that cannot be one scene were split from it."""
    return day.site, day.camera.split("~")[0], day.date


def _by_day(bad: Iterable[Quarantined], settings: ArchiveSettings) -> dict[CameraDay, list[VideoRecord]]:
    days: dict[CameraDay, list[VideoRecord]] = defaultdict(list)
    for one in bad:
        place = place_file(one.file, None, settings.path_pattern, settings.zone, settings.site)
        record = quarantined_record(
            one.file, one.reason, place.camera, place.start_time, place.start_source, None
        )
        days[CameraDay(place.site, place.camera, place.date)].append(record)
    return days
