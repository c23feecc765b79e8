"""Recompute tracks and events of a whole store from its stored detections: no video, no GPU, no Ray."""

from __future__ import annotations

import time
from typing import Any

from flows.errors import SettingsError
from flows.nightly.context import refiner_of, tracking_of
from flows.nightly.digests import events_digest
from flows.nightly.plan import stored_quarantined
from flows.settings import Settings, load_ethogram
from storage import Store
from storage.catalog import Catalog, read_pin
from storage.filesystem import open_filesystem
from workers.derive import DeriveJob, derive_camera_day


def recompute_events(out: str, settings: Settings) -> dict[str, Any]:
    """Track and segment every camera-day of a store anew, in the order of the dates.

    Raises:
        StoreNotFoundError: there is no store.
        SettingsError: the ethogram has other behaviours than the store.
    """
    started = time.perf_counter()
    ethogram, tracking = load_ethogram(settings.ethogram), tracking_of(settings)
    refiner, info = refiner_of(settings)
    config_digest = events_digest(tracking, ethogram, "" if info is None else info.digest[:16])
    stored = Store(out).behaviours
    if stored != ethogram.names:
        raise SettingsError(
            f"{settings.ethogram}: the ethogram has {', '.join(ethogram.names)}, the store {', '.join(stored)}: "
            "bout rules can be changed, behaviours cannot"
        )
    catalog = Catalog(open_filesystem(out))
    pinned = read_pin(catalog.fs)
    zones = pinned.zones if pinned else {}
    derived = []
    for day in sorted(catalog.camera_days(), key=lambda day: (day.date, day)):
        tables = catalog.camera_day_footers(day)
        job = DeriveJob(
            store=out,
            day=day,
            quarantined=tuple(stored_quarantined(catalog, day, tables)),
            ethogram=ethogram,
            tracking=tracking,
            zone=zones.get(day.site, settings.archive.zone),
            config_digest=config_digest,
            refiner=refiner,
        )
        derived.append(derive_camera_day(job))
    return {
        "camera_days": len(derived),
        "events": sum(one.events for one in derived),
        "individuals": sum(one.individuals for one in derived),
        "wall_s": time.perf_counter() - started,
        "store": out,
    }
