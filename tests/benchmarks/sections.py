"""The sections of ``make bench``, by the name under which one is asked for. Each is imported when it is measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from tests.benchmarks.rows import RATIO, Goal, Row, at_most
from tests.benchmarks.sizes import Bench

LGH_GOAL = at_most(1.75)
NAMED_GOAL = re.compile(r" \(goal at (least|most) ([0-9.]+)\)$")
NAMED_UNIT = re.compile(r", (%|s)$")
ONLY_REPORTED = "10 s apart"
"""What is saved and lost with I-frames as far apart as that has no goal."""


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that are measured together."""

    title: str
    measure: Callable[[Bench], Iterable[Row]]
    has_quick_sizes: bool = True
    """Whether a quick run tries it."""


def training_steps(bench: Bench) -> Iterator[Row]:
    """A training step of slowfast_small with each weighting against a plain one."""
    from model.weighting.registry import WEIGHTINGS
    from tests.benchmarks.steps import measure_steps

    sizes = bench.sizes
    cost = measure_steps(
        clips=sizes.step_clips, rounds=sizes.step_rounds, weightings=sizes.weightings or tuple(WEIGHTINGS)
    )
    for name, ratio in cost.ratios.items():
        goal = LGH_GOAL if name == "lgh" else None
        yield Row(f"{name}: time against a step on the weighted sum of the losses", ratio, goal=goal)
    yield Row("forward pass, share of that step", cost.forward_share)


def decoding(bench: Bench) -> Iterator[Row]:
    """Ours against bare decord and bare PyAV, two processes against one."""
    from tests.benchmarks.decoding import rows

    for name, value in rows().items():
        yield named_row(name, value)


def skipping(bench: Bench) -> Iterator[Row]:
    """A run that leaves out what is empty against a full decode."""
    from tests.benchmarks.skipping import rows

    for name, value in rows().items():
        row = named_row(name, value)
        has_goal = ONLY_REPORTED not in name or "frames decoded" in name
        yield row if has_goal else replace(row, goal=None)


def end_to_end(bench: Bench) -> Iterable[Row]:
    """A run against its slowest stage alone."""
    from tests.benchmarks.pipeline import end_to_end_rows

    return end_to_end_rows(bench)


def scaling(bench: Bench) -> Iterable[Row]:
    """Two decode workers against one."""
    from tests.benchmarks.pipeline import scaling_rows

    return scaling_rows(bench)


def engines(bench: Bench) -> Iterator[Row]:
    """The engines of a CPU against eager torch in single precision."""
    from tests.benchmarks.engines import EAGER, measure

    sizes, name = bench.sizes, "slowfast_small"
    clip_s = measure(name, sizes.engine_clips, sizes.engine_rounds)
    yield Row(f"{name}, {EAGER}, a clip", clip_s[EAGER], "s")
    for engine, seconds in clip_s.items():
        if engine != EAGER:
            yield Row(f"{name}, {engine}: time against {EAGER}", seconds / clip_s[EAGER])


def orchestration(bench: Bench) -> Iterable[Row]:
    """A stream whose stages cost nothing."""
    from tests.benchmarks.orchestration import orchestration_rows

    return orchestration_rows(bench)


def tracking(bench: Bench) -> Iterable[Row]:
    """From stored detections to events."""
    from tests.benchmarks.tracking import tracking_rows

    return tracking_rows(bench)


def queries(bench: Bench) -> Iterable[Row]:
    """What a notebook asks."""
    from tests.benchmarks.queries import queries_rows

    return queries_rows(bench)


def planning(bench: Bench) -> Iterator[Row]:
    """A run in which nothing is to be done."""
    from tests.benchmarks.planning import planning_rows, rerun_rows

    yield from planning_rows(bench.root / "planned", bench.sizes.finished_videos)
    if bench.sizes.rerun_videos:
        yield from rerun_rows(bench.root / "rerun", bench.sizes.rerun_videos)


SECTIONS: Mapping[str, Section] = {
    "steps": Section("training steps", training_steps),
    "decoding": Section("decoding", decoding, has_quick_sizes=False),
    "skipping": Section("skipping", skipping, has_quick_sizes=False),
    "run": Section("run end to end", end_to_end),
    "scaling": Section("scaling", scaling),
    "engines": Section("engines", engines),
    "orchestration": Section("orchestration", orchestration),
    "tracking": Section("tracking and segmentation", tracking),
    "queries": Section("queries", queries),
    "planning": Section("planning", planning),
}


def named_row(name: str, value: float) -> Row:
    """A row of a figure whose name says its goal and its unit at the end."""
    goal = NAMED_GOAL.search(name)
    name = NAMED_GOAL.sub("", name)
    unit = NAMED_UNIT.search(name)
    return Row(
        NAMED_UNIT.sub("", name),
        value,
        unit[1] if unit else RATIO,
        Goal(float(goal[2]), goal[1] == "least") if goal else None,
    )
