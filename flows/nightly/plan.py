"""Plan a run: what the archive has, minus what the store's footers say is done."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flows.errors import NothingToReadError, SettingsError
from flows.nightly.attempts import MOST_RUNS, tried_in_runs
from flows.nightly.digests import Digests
from flows.settings import ArchiveSettings
from storage.catalog import Catalog, Snapshot, video_of
from storage.layout import CAMERA_DAY_TABLES, CameraDay, parse_path
from storage.parquet import Footer
from storage.records import VideoRecord
from workers.archive import CameraDay as GroupedDay
from workers.archive import group_camera_days, list_archive, place_file, place_recording
from workers.derive import revision_of
from workers.fingerprint import UNREADABLE
from workers.messages import ArchiveFile, Probe, Quarantined, Recording

ProbeFiles = Callable[[Sequence[ArchiveFile]], list[Probe | Quarantined]]


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """What can be known without opening a video."""

    files: tuple[ArchiveFile, ...]
    stored: Mapping[str, tuple[CameraDay, VideoRecord]]
    """Videos that the store knows, by id."""
    places: Mapping[str, tuple[CameraDay, ...]]
    """Where the store has them, by id: several camera-days where a file has come to belong to another."""
    new: tuple[ArchiveFile, ...]
    """Files that the store does not know, or knows with other content, or that are to be made or tried again."""
    unsettled: tuple[CameraDay, ...]
    """Camera-days whose tables are not what their detections and these settings give."""
    renamed: Mapping[str, str]
    """Stored videos whose file is gone while another one has its content: that one's id, by the stored one's."""
    outdated: int
    """Videos made with another model or other settings, which only ``--reprocess`` makes again."""
    tried_in_runs: Mapping[str, int] = field(default_factory=dict)
    """Runs that tried a video whose process was ended each time, by id."""
    damaged: tuple[str, ...] = ()
    """Stored objects that cannot be used and hence count as absent: where and why, a line each."""
    lost: tuple[str, ...] = ()
    """The same of camera-days that are left alone."""
    left_alone: frozenset[CameraDay] = frozenset()
    """Camera-days with detections that cannot be used and whose video is not in the archive, and those that are split
    from the same camera: derived without them they would lose what their tables still have."""

    @property
    def known(self) -> list[ArchiveFile]:
        """Files by whose path the store has results."""
        return [
            f for f in self.files if f.video_id in self.stored and self.stored[f.video_id][1].status == "done"
        ]

    @property
    def changed(self) -> list[ArchiveFile]:
        """Those of them that have other content than what the results are of, which are made anew."""
        return [file for file in self.known if _is_changed(file, self.stored[file.video_id][1])]

    @property
    def nothing_to_do(self) -> bool:
        """Whether the store already holds everything."""
        return not self.new and not self.unsettled

    @property
    def stored_sites(self) -> list[str]:
        """Sites of the files that the store knows."""
        known = (self.stored.get(file.video_id) for file in self.files)
        return sorted({day.site for day, _ in filter(None, known)})


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
    misplaced: frozenset[str] = frozenset()
    """Ids of videos that are stored here and have come to belong to another camera-day."""
    note: str = ""

    @property
    def video_s(self) -> float:
        """Seconds of video to look at."""
        return sum(recording.probe.duration_s for recording in self.to_score)


@dataclass(frozen=True, slots=True, eq=False)
class StoredDay:
    """What the store holds of one camera-day."""

    footers: Mapping[str, Footer]
    """Of its detections, by video id."""
    quarantined: tuple[VideoRecord, ...]
    """As its table of videos names them."""
    tried_in_runs: Mapping[str, int]
    """Runs that tried those of them whose process was ended each time, by id."""
    is_settled: bool
    """Whether its tables are what its detections and these settings give."""


def stored_day(catalog: Catalog | Snapshot, day: CameraDay, digests: Digests) -> StoredDay:
    """Read what the store holds of a camera-day."""
    footers = catalog.finished_detections(day)
    tables = catalog.camera_day_footers(day)
    quarantined = stored_quarantined(catalog, day, tables, footers)
    wanted = revision_of(catalog, day, footers, quarantined, digests.events, digests.max_gap_s)
    is_settled = len(tables) == len(CAMERA_DAY_TABLES) and {t.revision for t in tables.values()} == {wanted}
    return StoredDay(footers, tuple(quarantined), tried_in_runs(tables), is_settled)


def look_up(archive: str, catalog: Catalog, digests: Digests, reprocess: bool) -> Lookup:
    """Compare an archive with a store.

    Raises:
        NothingToReadError: the archive holds no file that looks like a video.
    """
    files = tuple(list_archive(archive))
    if not files:
        raise NothingToReadError(f"{archive}: holds no file that looks like a video")
    stored: dict[str, tuple[CameraDay, VideoRecord]] = {}
    places: defaultdict[str, dict[CameraDay, None]] = defaultdict(dict)
    unsettled, outdated, tried = [], set(), dict[str, int]()
    snapshot = catalog.snapshot()
    for day in snapshot.camera_days():
        held = stored_day(snapshot, day, digests)
        for video in [*map(video_of, held.footers.values()), *held.quarantined]:
            stored[video.video_id] = (day, video)
            places[video.video_id][day] = None
        tried |= held.tried_in_runs
        outdated |= {v for v, footer in held.footers.items() if not digests.made(footer)}
        if not held.is_settled:
            unsettled.append(day)
    new = tuple(
        file
        for file in files
        if file.video_id not in stored
        or _is_changed(file, stored[file.video_id][1])
        or len(places[file.video_id]) > 1
        or 0 < tried.get(file.video_id, 0) < MOST_RUNS
        or (reprocess and (file.video_id in outdated or stored[file.video_id][1].status != "done"))
    )
    renamed = _renamed(files, stored)
    present = {file.video_id for file in files}
    lost = {
        _same_camera(place.day)
        for place in catalog.damaged_detections().values()
        if place.video_id not in present
    }
    left_alone = frozenset(day for day in snapshot.camera_days() if _same_camera(day) in lost)
    damaged = sorted(catalog.damaged.items())
    twice = {day for old, found in renamed.items() if _is_copied(old, found, stored) for day in places[old]}
    return Lookup(
        files=files,
        stored=stored,
        places={video_id: tuple(days) for video_id, days in places.items()},
        new=new,
        unsettled=tuple(sorted(twice.union(unsettled) - left_alone - following(left_alone))),
        renamed=renamed,
        tried_in_runs=tried,
        damaged=tuple(reason for path, reason in damaged if parse_path(path).day not in left_alone),
        lost=tuple(reason for path, reason in damaged if parse_path(path).day in left_alone),
        left_alone=left_alone,
        outdated=len(outdated & present),
    )


def following(days: Iterable[CameraDay]) -> set[CameraDay]:
    """The days after: what they take over from a day that lacks something they would lose."""
    return {dataclasses.replace(day, date=day.date + dt.timedelta(days=1)) for day in days}


def refuse_another_archive(lookup: Lookup, settings: ArchiveSettings, archive: str, out: str) -> None:
    """Refuse an archive whose files would replace those of another one, as memory cards number theirs alike.

    A path that says when the file was recorded is of the same recording, which was copied again or has grown.

    Raises:
        SettingsError: of the files that the store knows by their path most are other recordings, and more than one.
    """
    known = lookup.known
    others = [
        file
        for file in lookup.changed
        if lookup.stored[file.video_id][1].start_source != "path"
        or lookup.stored[file.video_id][0].site != _placed(file, None, settings).site
    ]
    if len(others) > max(1, len(known) / 2):
        raise SettingsError(
            f"{archive}: of {len(known)} files whose paths {out} knows {len(others)} have other content than there, "
            f"the first is {others[0].uri}: another archive with the same paths would replace its results; give it "
            "another --out, or run the folder above both; where these are the same recordings, --reprocess goes on"
        )


def _is_changed(file: ArchiveFile, stored: VideoRecord) -> bool:
    """Whether a file has other content than what was stored of it; of one that cannot be opened nothing is known."""
    if file.fingerprint == UNREADABLE and stored.status == "done":
        return False
    return stored.fingerprint != file.fingerprint


def _renamed(
    files: Sequence[ArchiveFile], stored: Mapping[str, tuple[CameraDay, VideoRecord]]
) -> dict[str, str]:
    present = {file.video_id for file in files}
    by_content = {file.fingerprint: file.video_id for file in files if file.fingerprint != UNREADABLE}
    return {
        video_id: by_content[video.fingerprint]
        for video_id, (_, video) in stored.items()
        if video_id not in present and video.fingerprint in by_content
    }


def _is_copied(old: str, found: str, stored: Mapping[str, tuple[CameraDay, VideoRecord]]) -> bool:
    """Whether the store has the content of a renamed file under its new name too."""
    _, video = stored.get(found, (None, None))
    return video is not None and video.status == "done" and video.fingerprint == stored[old][1].fingerprint


def stored_quarantined(
    catalog: Catalog | Snapshot, day: CameraDay, tables: Mapping[str, Footer], finished: Mapping[str, Footer]
) -> list[VideoRecord]:
    """The quarantined videos that a camera-day's table of videos names, without those that a run has read since."""
    if "videos" not in tables:
        return []
    records: list[VideoRecord] = catalog.read_records("videos", day)
    return [r for r in records if r.status == "quarantined" and r.video_id not in finished]


def plan_days(
    lookup: Lookup,
    catalog: Catalog,
    digests: Digests,
    settings: ArchiveSettings,
    reprocess: bool,
    probe_files: ProbeFiles,
) -> list[DayPlan]:
    """The camera-days with work, after probing the new files and those of the same camera-days."""
    probes = _probe_touched(lookup, settings, probe_files)
    waiting = _waiting(lookup, probes, settings)
    recordings = [
        place_recording(file, probe, settings.path_pattern, settings.zone, settings.site)
        for file, probe in probes.items()
        if isinstance(probe, Probe) and file.video_id not in waiting
    ]
    bad = [
        probe
        for file, probe in probes.items()
        if isinstance(probe, Quarantined) and not _has_result(file, lookup) and file.video_id not in waiting
    ]
    groups = {group.key: group for group in group_camera_days(recordings)}
    quarantined = _by_day(bad, settings)
    misplaced = _misplaced(lookup, groups, quarantined)
    days = {*groups, *quarantined, *lookup.unsettled, *misplaced}
    return [
        _plan_day(
            catalog,
            day,
            groups.get(day),
            quarantined.get(day, ()),
            frozenset(misplaced.get(day, ())),
            lambda recording, footers: is_done(recording, footers, digests, reprocess),
        )
        for day in sorted(days)
    ]


def _waiting(
    lookup: Lookup, probes: Mapping[ArchiveFile, Probe | Quarantined], settings: ArchiveSettings
) -> set[str]:
    """Videos that belong to a camera-day that is left alone, or are stored in one."""
    alone = {_same_camera(day) for day in lookup.left_alone}
    return {
        file.video_id
        for file, probe in probes.items()
        if alone
        & set(map(_same_camera, (_placed(file, probe, settings), *lookup.places.get(file.video_id, ()))))
    }


def _probe_touched(
    lookup: Lookup, settings: ArchiveSettings, probe_files: ProbeFiles
) -> dict[ArchiveFile, Probe | Quarantined]:
    """Probes of the new files, and of the stored ones of the same camera-days."""
    probes = dict(zip(lookup.new, probe_files(lookup.new), strict=True))
    touched = {_same_camera(_placed(file, probe, settings)) for file, probe in probes.items()}
    beside = [
        file
        for file in lookup.files
        if file not in probes
        and lookup.stored[file.video_id][1].status == "done"
        and _same_camera(lookup.stored[file.video_id][0]) in touched
    ]
    return probes | dict(zip(beside, probe_files(beside), strict=True))


def _plan_day(
    catalog: Catalog,
    day: CameraDay,
    group: GroupedDay | None,
    quarantined: Sequence[VideoRecord],
    misplaced: frozenset[str],
    done: Callable[[Recording, Mapping[str, Footer]], bool],
) -> DayPlan:
    """What is to be done for one camera-day, given its readable recordings and its files that are not."""
    members = group.recordings if group else ()
    footers = catalog.finished_detections(day)
    to_score = tuple(recording for recording in members if not done(recording, footers))
    retried = {recording.file.video_id for recording in members} | misplaced
    known = stored_quarantined(catalog, day, catalog.camera_day_footers(day), footers)
    kept = {record.video_id: record for record in known if record.video_id not in retried}
    again = {recording.file.video_id for recording in to_score} | misplaced
    return DayPlan(
        day=day,
        to_score=to_score,
        done=tuple(video_of(footer) for v, footer in footers.items() if v not in again),
        quarantined=tuple((kept | {record.video_id: record for record in quarantined}).values()),
        surveyed_with=members,
        misplaced=misplaced,
        note=group.note if group else "",
    )


def sites_of(plans: Iterable[DayPlan], lookup: Lookup) -> list[str]:
    """Sites of which the archive has files, and not only the store has results to be derived anew."""
    present = {file.video_id for file in lookup.files}
    return sorted(
        {
            plan.day.site
            for plan in plans
            if plan.surveyed_with or any(video.video_id in present for video in plan.quarantined)
        }
    )


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


def is_done(recording: Recording, footers: Mapping[str, Footer], digests: Digests, reprocess: bool) -> bool:
    """Whether a recording's detections are stored; with ``reprocess``, made with this model and settings."""
    footer = footers.get(recording.file.video_id)
    if footer is None or video_of(footer).fingerprint != recording.file.fingerprint:
        return False
    return not reprocess or digests.made(footer)


def _has_result(file: ArchiveFile, lookup: Lookup) -> bool:
    """Whether the same content was read before: what cannot be read today does not take that away."""
    _, video = lookup.stored.get(file.video_id, (None, None))
    return video is not None and video.status == "done" and not _is_changed(file, video)


def _misplaced(
    lookup: Lookup,
    groups: Mapping[CameraDay, GroupedDay],
    quarantined: Mapping[CameraDay, Sequence[VideoRecord]],
) -> dict[CameraDay, set[str]]:
    """Videos by the camera-days in which they are stored, but to which they do not belong any more.

    A file comes to belong to another one when its new content says another time, or when a late file changes
    which recordings are split into cameras of their own. A file that was renamed leaves what its old name had, as
    soon as the new one is read.
    """
    home = {r.file.video_id: day for day, group in groups.items() for r in group.recordings}
    home |= {record.video_id: day for day, records in quarantined.items() for record in records}
    misplaced: defaultdict[CameraDay, set[str]] = defaultdict(set)
    for video_id, day in home.items():
        for other in lookup.places.get(video_id, ()):
            if other != day:
                misplaced[other].add(video_id)
    readable = {r.file.video_id for group in groups.values() for r in group.recordings}
    for old, found in lookup.renamed.items():
        if found in readable or _is_copied(old, found, lookup.stored):
            for day in lookup.places[old]:
                misplaced[day].add(old)
    return {day: videos for day, videos in misplaced.items() if day not in lookup.left_alone}


def _placed(file: ArchiveFile, probe: Probe | Quarantined | None, settings: ArchiveSettings) -> CameraDay:
    start = probe.container_start if isinstance(probe, Probe) else None
    place = place_file(file, start, settings.path_pattern, settings.zone, settings.site)
    return CameraDay(place.site, place.camera, place.date)


def _same_camera(day: CameraDay) -> CameraDay:
    """What it has in common with all that may be split from one camera, and with cameras that are named so."""
    return dataclasses.replace(day, camera=re.sub(r"(~\d+)+$", "", day.camera))


def _by_day(bad: Iterable[Quarantined], settings: ArchiveSettings) -> dict[CameraDay, list[VideoRecord]]:
    days: dict[CameraDay, list[VideoRecord]] = defaultdict(list)
    for one in bad:
        place = place_file(one.file, None, settings.path_pattern, settings.zone, settings.site)
        record = quarantined_record(
            one.file, one.reason, place.camera, place.start_time, place.start_source, None
        )
        days[CameraDay(place.site, place.camera, place.date)].append(record)
    return days
