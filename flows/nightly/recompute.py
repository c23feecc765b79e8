"""Recompute tracks and events of a whole store from its stored detections: no video, no GPU, no Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from flows.errors import SettingsError, UnfinishedRunError
from flows.nightly.attempts import TRIED_IN_RUNS, tried_in_runs
from flows.nightly.context import refiner_of, tracking_of
from flows.nightly.digests import events_digest
from flows.nightly.plan import following, stored_quarantined
from flows.quiet import notice
from flows.settings import Settings, load_ethogram
from model.refiner import RefinerInfo
from storage import Store
from storage.catalog import Catalog, Snapshot, read_pin, video_of
from storage.filesystem import open_filesystem
from storage.layout import CameraDay
from storage.lease import check_lease, store_lease
from workers.derive import DeriveJob, derive_camera_day


def recompute_events(out: str, settings: Settings, *, wait: bool = False) -> dict[str, Any]:
    """Track and segment every camera-day of a store anew, in the order of the dates.

    A camera-day of which stored detections cannot be used is left as it is, and named.

    Args:
        out: the store.
        settings: the ethogram and the track settings count.
        wait: for a run on the same store, instead of raising.

    Raises:
        LeaseHeldError: another process is at work on the store.
        StoreNotFoundError: there is no store.
        SettingsError: the ethogram has other behaviours than the store, or a refiner that is named reads none of its
            scores.
        UnfinishedRunError: a run was stopped while it moved a video to another camera-day.
    """
    started = time.perf_counter()
    catalog, jobs = derive_jobs(out, settings)
    with store_lease(catalog.fs, wait=wait, say=notice):
        stored = Catalog(catalog.fs).snapshot()
        _refuse_videos_in_two_days(stored)
        derived = []
        for day in sorted(_usable_days(stored), key=lambda day: (day.date, day)):
            check_lease(catalog.fs)
            derived.append(derive_camera_day(jobs(day)))
    return {
        "camera_days": len(derived),
        "events": sum(one.events for one in derived),
        "individuals": sum(one.individuals for one in derived),
        "wall_s": time.perf_counter() - started,
        "store": out,
    }


def derive_jobs(out: str, settings: Settings) -> tuple[Catalog, Callable[[CameraDay], DeriveJob]]:
    """A store, and how each of its camera-days is derived under these settings; writes nothing.

    Raises:
        StoreNotFoundError: there is no store.
        SettingsError: as of :func:`recompute_events`.
    """
    ethogram, tracking = load_ethogram(settings.ethogram), tracking_of(settings)
    refiner, info = refiner_of(settings)
    stored = Store(out).behaviours
    if stored != ethogram.names:
        raise SettingsError(
            f"{settings.ethogram}: the ethogram has {', '.join(ethogram.names)}, the store {', '.join(stored)}: "
            "bout rules can be changed, behaviours cannot"
        )
    catalog = Catalog(open_filesystem(out))
    if info is not None and settings.segment.refiner != "auto":
        _check_scores(catalog, info)
    pinned = read_pin(catalog.fs)
    zones = pinned.zones if pinned else {}
    config_digest = events_digest(tracking, ethogram, "" if info is None else info.digest[:16])

    def job(day: CameraDay) -> DeriveJob:
        tables, finished = catalog.camera_day_footers(day), catalog.finished_detections(day)
        quarantined = stored_quarantined(catalog, day, tables, finished)
        ids, tried = {video.video_id for video in quarantined}, tried_in_runs(tables)
        return DeriveJob(
            store=out,
            day=day,
            quarantined=tuple(quarantined),
            ethogram=ethogram,
            tracking=tracking,
            zone=zones.get(day.site, settings.archive.zone),
            config_digest=config_digest,
            refiner=refiner,
            details={TRIED_IN_RUNS: {video_id: runs for video_id, runs in tried.items() if video_id in ids}},
        )

    return catalog, job


def _usable_days(stored: Snapshot) -> list[CameraDay]:
    damaged = {path: place.day for path, place in stored.catalog.damaged_detections().items()}
    for path, day in sorted(damaged.items()):
        notice(
            f"{stored.catalog.damaged[path]}; {day} and the day after are left as they are: let `aviaflow run` make "
            "the object again, restore it from a backup, or delete it to go on without"
        )
    spoilt = {*damaged.values(), *following(damaged.values())}
    return [day for day in stored.camera_days() if day not in spoilt]


def _refuse_videos_in_two_days(stored: Snapshot) -> None:
    places: dict[str, CameraDay] = {}
    for day in stored.camera_days():
        finished = stored.finished_detections(day)
        bad = stored_quarantined(stored, day, stored.camera_day_footers(day), finished)
        for video in [*map(video_of, finished.values()), *bad]:
            other = places.setdefault(video.video_id, day)
            if other != day:
                raise UnfinishedRunError(
                    f"{stored.catalog.fs.uri}: {video.uri} is stored for {other}, and for {day}: a run was stopped in "
                    "the middle; let `aviaflow run` with the same archive finish it first"
                )


def _check_scores(catalog: Catalog, refiner: RefinerInfo) -> None:
    days = catalog.camera_days()
    models = {footer.model_digest for day in days for footer in catalog.finished_detections(day).values()}
    if refiner.reads[:16] not in models:
        raise SettingsError(
            f"segment.refiner reads the scores of the checkpoint {refiner.reads[:16]}, {catalog.fs.uri} has those of "
            f"{', '.join(sorted(models)) or 'none'}: name another refiner, or none"
        )
