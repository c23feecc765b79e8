"""Recompute tracks and events of a whole store from its stored detections: no video, no GPU, no Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from flows.errors import SettingsError
from flows.nightly.attempts import TRIED_IN_RUNS, tried_in_runs
from flows.nightly.context import refiner_of, tracking_of
from flows.nightly.digests import events_digest
from flows.nightly.plan import stored_quarantined
from flows.quiet import notice
from flows.settings import Settings, load_ethogram
from model.refiner import RefinerInfo
from storage import Store
from storage.catalog import Catalog, read_pin
from storage.filesystem import open_filesystem
from storage.lease import check_lease, store_lease
from workers.derive import Derived, DeriveJob, derive_camera_day


def recompute_events(out: str, settings: Settings, *, wait: bool = False) -> dict[str, Any]:
    """Track and segment every camera-day of a store anew, in the order of the dates.

    Args:
        out: the store.
        settings: the ethogram and the track settings count.
        wait: for a run on the same store, instead of raising.

    Raises:
        LeaseHeldError: another process is at work on the store.
        StoreNotFoundError: there is no store.
        SettingsError: the ethogram has other behaviours than the store, or a refiner that is named reads none of its
            scores.
    """
    started = time.perf_counter()
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
    job = partial(
        DeriveJob,
        store=out,
        ethogram=ethogram,
        tracking=tracking,
        config_digest=events_digest(tracking, ethogram, "" if info is None else info.digest[:16]),
        refiner=refiner,
    )
    with store_lease(catalog.fs, wait=wait, say=notice):
        derived = _derive_all(catalog, job, lambda site: zones.get(site, settings.archive.zone))
    return {
        "camera_days": len(derived),
        "events": sum(one.events for one in derived),
        "individuals": sum(one.individuals for one in derived),
        "wall_s": time.perf_counter() - started,
        "store": out,
    }


def _check_scores(catalog: Catalog, refiner: RefinerInfo) -> None:
    days = catalog.camera_days()
    models = {footer.model_digest for day in days for footer in catalog.finished_detections(day).values()}
    if refiner.reads[:16] not in models:
        raise SettingsError(
            f"segment.refiner reads the scores of the checkpoint {refiner.reads[:16]}, {catalog.fs.uri} has those of "
            f"{', '.join(sorted(models)) or 'none'}: name another refiner, or none"
        )


def _derive_all(
    catalog: Catalog, job: Callable[..., DeriveJob], zone_of: Callable[[str], str]
) -> list[Derived]:
    derived = []
    for day in sorted(catalog.camera_days(), key=lambda day: (day.date, day)):
        check_lease(catalog.fs)
        tables = catalog.camera_day_footers(day)
        quarantined = tuple(stored_quarantined(catalog, day, tables))
        details = {TRIED_IN_RUNS: tried_in_runs(tables)}
        one = job(day=day, quarantined=quarantined, zone=zone_of(day.site), details=details)
        derived.append(derive_camera_day(one))
    return derived
