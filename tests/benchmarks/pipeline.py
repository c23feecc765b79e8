"""A run end to end against its stages, each alone on what the run had; and what a second decode worker brings.

On a machine with few processors the stages share them, so two bounds hold: no run is faster than its slowest stage
alone, nor than the processors' time of all stages, shared evenly by all processors. A run with the defaults gives the
actor all processors, so the second bound is the one that it can come near to. Where each stage has processors of its
own (one decode worker, an actor of one thread), it is the first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.cluster import ray_cluster
from flows.nightly.context import open_context
from flows.nightly.night import Night
from flows.nightly.plan import DayPlan
from flows.nightly.profile import STREAMED
from flows.nightly.progress import Progress
from flows.nightly.recompute import recompute_events
from flows.settings import Settings
from tests.benchmarks.alone import Alone, decode_alone, recorded_days, score_alone, survey_alone
from tests.benchmarks.rows import Row, at_least
from tests.benchmarks.sizes import Bench, timed

END_TO_END = at_least(0.90)
"""Of the slowest stage alone against the pipeline."""
DEFAULTS = Settings()


def settings_apart(workers: int = 1) -> Settings:
    """Each stage with processors of its own: this many decode workers, and an actor of one thread."""
    return Settings.model_validate(
        {"camera_days_at_once": 1, "decode": {"workers": workers}, "infer": {"threads": 1}}
    )


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A run, from the moment at which its actors have their weights."""

    night: Night
    plans: list[DayPlan]
    scored_s: float
    """Survey to stored detections."""
    derived_s: float

    @property
    def streamed_s(self) -> float:
        """Of that, decoding to stored detections: the phase in which the stages work side by side."""
        return self.night.clock.wall_s[STREAMED]


def run_archive(archive: Path, store: Path, settings: Settings, cpus: int) -> Measured:
    """Run an archive on the cluster that was joined, camera-days side by side as the nightly flow has them."""
    night = Night(open_context(str(archive), str(store), settings), False, Progress())
    with night.on_cluster(cpus), ThreadPoolExecutor(settings.camera_days_at_once) as days:
        plans = night.plan()
        night.begin(plans)
        night._actors.ready(cpus)  # a run of hours is to be measured: starting up is no part of it
        started = time.perf_counter()
        list(days.map(night.score_day, plans))
        scored = time.perf_counter()
        list(days.map(night.derive_day, plans))
        return Measured(night, plans, scored - started, time.perf_counter() - scored)


def end_to_end_rows(bench: Bench) -> Iterator[Row]:
    """The pipeline against its slowest stage alone, first where no stage takes another one's processors."""
    archive, cpus = bench.archive, os.cpu_count() or 1
    with ray_cluster() as cluster_cpus:
        apart = run_archive(archive, bench.root / "apart", settings_apart(), cluster_cpus)
    yield from against_stages("a processor for each stage", apart, cpus)
    with ray_cluster() as cluster_cpus:
        usual = run_archive(archive, bench.root / "usual", DEFAULTS, cluster_cpus)
    yield from against_stages("defaults", usual, cpus)
    yield from after_rows(archive, bench.root / "usual", usual)


def against_stages(what: str, run: Measured, cpus: int) -> Iterator[Row]:
    """One run against each bound: its stages alone, and the processors."""
    night, context = run.night, run.night.context
    days, spec = recorded_days(context, run.plans, night.decode_workers), context.scorer_spec(night.cpus)
    finder = None if context.detector.name == "motion" else context.detector
    streamed = {
        "decode": decode_alone(days, night.workers["decode"]),
        "detect and infer": score_alone(days, spec, night.actor_count),
    }
    survey = survey_alone(days, finder, context.settings.survey.max_iframe_gap_s, cpus)
    for stage, alone in {"survey": survey, **streamed}.items():
        yield Row(f"{what}: {stage} alone, seconds per second of video", alone.wall_s / night.video_s, "s/s")
    yield from bound_rows(what, "decoding to detections", streamed, run.streamed_s, cpus)
    yield from bound_rows(what, "survey to detections", {"survey": survey, **streamed}, run.scored_s, cpus)
    yield busy_row(what, night.clock.busy_s, night.workers, run.scored_s)


def bound_rows(what: str, part: str, stages: Mapping[str, Alone], taken_s: float, cpus: int) -> Iterator[Row]:
    """How near a part of a run came to its slowest stage alone, to its processors' time, and to the larger of both."""
    slowest = max(stages, key=lambda stage: stages[stage].wall_s)
    alone_s = stages[slowest].wall_s
    shared_s = sum(alone.cpu_s for alone in stages.values()) / cpus
    yield Row(f"{what}: slowest stage alone ({slowest}) against {part}", alone_s / taken_s, goal=END_TO_END)
    yield Row(f"{what}: processor time of its stages / {cpus} processors, against {part}", shared_s / taken_s)
    bound = "its slowest stage" if alone_s >= shared_s else "the processors that its stages share"
    yield Row(f"{what}: the larger bound ({bound}) against {part}", max(alone_s, shared_s) / taken_s)


def busy_row(what: str, busy_s: Mapping[str, float], workers: Mapping[str, int], taken_s: float) -> Row:
    """The slowest stage as its workers were busy within the run, slowed down by the others."""
    model_s = busy_s["detect"] + busy_s["infer"]
    slowest_s = max(busy_s["decode"] / workers["decode"], model_s / workers["infer"])
    return Row(
        f"{what}: slowest stage as busy within the run, against survey to detections", slowest_s / taken_s
    )


def after_rows(archive: Path, store: Path, run: Measured) -> Iterator[Row]:
    """What comes after scoring."""
    whole_s = run.scored_s + run.derived_s
    yield Row("deriving tables, time against scoring", run.derived_s / run.scored_s)
    again_s = timed(lambda: Night(open_context(str(archive), str(store), DEFAULTS), False, Progress()))
    yield Row("finding that nothing is to be done, time against the first run", again_s / whole_s)
    events_s = timed(lambda: recompute_events(str(store), DEFAULTS))
    yield Row("recomputing events, per hour of video", events_s / run.night.video_s * 3600, "s")


def scaling_rows(bench: Bench) -> Iterator[Row]:
    """One decode worker against two, of a whole run, and beside it of bare processes that only decode."""
    archive = bench.archive
    with ray_cluster() as cpus:
        runs = {
            workers: run_archive(archive, bench.root / f"workers-{workers}", settings_apart(workers), cpus)
            for workers in (1, 2)
        }
    one, two = runs[1], runs[2]
    yield Row("two decode workers, speed-up of survey to detections", one.scored_s / two.scored_s)
    yield Row("two decode workers, speed-up of decoding to detections", one.streamed_s / two.streamed_s)
    bare = {
        workers: decode_alone(recorded_days(run.night.context, run.plans, workers), workers)
        for workers, run in runs.items()
    }
    yield Row("two bare processes that decode, speed-up", bare[1].wall_s / bare[2].wall_s)
    yield Row(
        "one decode worker: share of the time in which it is busy",
        _busy(one.night, "decode") / one.streamed_s,
    )
    model_s = _busy(one.night, "detect") + _busy(one.night, "infer")
    yield Row("one decode worker: share of the time in which the actor is busy", model_s / one.streamed_s)


def _busy(night: Any, stage: str) -> float:
    return float(night.clock.busy_s[stage])
