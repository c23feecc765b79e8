"""The nightly Prefect flow: plan the archive, score and derive each camera-day, sum up."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from flows.quiet import notice, quiet_prefect

quiet_prefect()

from prefect import flow, get_run_logger, task  # noqa: E402
from prefect.artifacts import create_markdown_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.futures import PrefectFuture  # noqa: E402
from prefect.task_runners import ThreadPoolTaskRunner  # noqa: E402

from flows.cluster import ray_cluster  # noqa: E402
from flows.errors import CameraDayError  # noqa: E402
from flows.nightly.context import open_context  # noqa: E402
from flows.nightly.night import DayOutcome, Night  # noqa: E402
from flows.nightly.plan import DayPlan  # noqa: E402
from flows.nightly.progress import Progress  # noqa: E402
from flows.nightly.summary import describe_run, run_record, summarise  # noqa: E402
from flows.settings import Settings  # noqa: E402
from storage.lease import store_lease  # noqa: E402
from storage.runs import write_run  # noqa: E402

MAX_THREADS = 32
"""Twice the most ``camera_days_at_once``, which the night itself keeps to: days that wait hold a thread."""


@flow(
    name="nightly",
    flow_run_name="nightly-{archive}",
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_THREADS),  # type: ignore[arg-type]
    persist_result=False,
)
def nightly(
    archive: str,
    out: str,
    settings: dict[str, Any] | None = None,
    address: str | None = None,
    reprocess: bool = False,
) -> dict[str, Any]:
    """Bring a store up to date with an archive, and return the summary of the run.

    Args:
        archive: folder of videos.
        out: the store.
        settings: as JSON values; see ``flows.settings.Settings``.
        address: of a running Ray cluster; None starts one on this machine.
        reprocess: also redo videos made with another model or settings.

    Raises:
        CameraDayError: some camera-days failed for a reason that no video is to blame for; the others are done.
        StorageError: the store cannot be written any more; what is finished is kept.
    """
    started = time.perf_counter()
    context = open_context(archive, out, Settings.model_validate(settings or {}))
    # A night that begins while somebody recomputes events is not lost: it waits. What is to do is seen after that.
    with store_lease(context.catalog.fs, wait=True, say=notice):
        night = Night(context, reprocess, Progress())
        night.say_what_was_seen()
        outcomes: list[DayOutcome] = []
        if not night.lookup.nothing_to_do:
            with ray_cluster(address) as cpus, night.on_cluster(cpus):
                plans = night.plan()
                night.begin(plans)
                outcomes = _run_days(night, plans)
                outcomes += night.settle_following()
        summary = summarise(night, outcomes, time.perf_counter() - started)
        write_run(context.catalog.fs, dt.datetime.now(dt.UTC), run_record(summary))
    get_run_logger().info(describe_run(summary))
    create_markdown_artifact(
        f"```\n{describe_run(summary)}\n```", key="nightly-summary", description="What the night's run did"
    )
    return summary


def _run_days(night: Night, plans: list[DayPlan]) -> list[DayOutcome]:
    """Submit two tasks per camera-day; a day is tracked after the day before it of the same camera."""

    # The tasks close over the plans: Prefect would otherwise walk through every array of their parameters.
    @task(
        name="score camera-day",
        task_run_name="score {camera_day}",
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=1,
        retry_delay_seconds=5,
    )
    def score(camera_day: str, index: int) -> int:
        night.score_day(plans[index])
        return index

    @task(
        name="derive camera-day",
        task_run_name="derive {camera_day}",
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def derive(camera_day: str, index: int) -> DayOutcome:
        return night.derive_day(plans[index])

    latest: dict[tuple[str, str], PrefectFuture[DayOutcome]] = {}
    derived: list[PrefectFuture[DayOutcome]] = []
    for index, plan in enumerate(plans):
        camera = (plan.day.site, plan.day.camera)
        scored = score.submit(str(plan.day), index)
        first: list[PrefectFuture[Any]] = [scored, *([latest[camera]] if camera in latest else [])]
        latest[camera] = derive.submit(str(plan.day), index, wait_for=first, return_state=False)
        derived.append(latest[camera])
    return _results(night, plans, derived)


def _results(
    night: Night, plans: list[DayPlan], futures: list[PrefectFuture[DayOutcome]]
) -> list[DayOutcome]:
    """Outcomes of all camera-days, once each has ended."""
    for future in futures:
        future.wait()
    if night.failures.hopeless is not None:
        raise night.failures.hopeless
    failed = [
        f"{plan.day}: {night.failures.by_day.get(plan.day) or _last_line(future.state.message)}"
        for plan, future in zip(plans, futures, strict=True)
        if not future.state.is_completed()
    ]
    if failed:
        raise CameraDayError(
            f"{len(failed)} of {len(plans)} camera-days failed, the others are done; run again after: {failed[0]}"
        )
    return [future.result() for future in futures]


def _last_line(message: str | None) -> str:
    """Of a traceback, the line that says what happened."""
    lines = (message or "no reason was given").strip().splitlines()
    return lines[-1]
