"""Serve the nightly flow on a cron: with Prefect's server of the team, or one on loopback of its own."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from zoneinfo import ZoneInfo

from flows.errors import ScheduleError
from flows.nightly.server import prefect_server
from flows.quiet import notice, quiet_prefect
from flows.settings import Settings


def serve_nightly(
    archive: str,
    out: str,
    settings: Settings,
    *,
    cron: str,
    zone: str,
    address: str | None = None,
    reprocess: bool = False,
) -> None:
    """Serve the nightly flow until SIGINT or SIGTERM; the server that it started ends with it.

    Args:
        archive: folder of videos.
        out: the store.
        settings: of every run.
        cron: five fields, in ``zone``.
        zone: IANA time zone of the cron.
        address: of a running Ray cluster.
        reprocess: also redo videos made with another model or settings.

    Raises:
        ScheduleError: the cron, or its time zone, is not understood.
        PrefectServerError: no Prefect server could be started.
    """
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise ScheduleError(f"{zone!r} is no IANA time zone, as Asia/Shanghai is one") from error
    quiet_prefect()
    with _sigterm_as_interrupt(), prefect_server() as api:
        # Read at import: the address must be set before.
        from prefect.schedules import Cron

        from flows.nightly.flow import nightly

        try:
            schedule = Cron(cron, timezone=zone)
        except ValueError as error:
            raise ScheduleError(f"cron {cron!r} in {zone}: {error}") from error
        # Prefect's own handler of SIGTERM ends what it should, but leaves a coroutine behind.
        warnings.filterwarnings("ignore", "coroutine 'Runner.astop' was never awaited", RuntimeWarning)
        if zone != settings.archive.zone:
            notice(
                f"the cron runs in {zone}, but dates and hours of the results are those of {settings.archive.zone}: "
                "name the site's zone as archive.zone in --config"
            )
        notice(f"serving nightly runs of {archive} into {out} at {cron!r} ({zone})\nPrefect API {api}")
        nightly.serve(
            name="aviaflow-nightly",
            schedule=schedule,
            parameters={
                "archive": _absolute(archive),
                "out": _absolute(out),
                "settings": settings.model_dump(mode="json"),
                "address": address,
                "reprocess": reprocess,
            },
            limit=1,
            print_starting_message=False,
        )


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM, with which systemd stops a service, unwinds what SIGINT unwinds, also while the server starts."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _absolute(uri: str) -> str:
    """A folder as it is found from any working directory; an address as it is."""
    return uri if "://" in uri else str(Path(uri).resolve())
