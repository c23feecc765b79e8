"""``make bench-gpu``: what the backbones do on this machine's GPU, in one command, without network, Ray or video."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from model.backbones import Architecture, architecture_named
from model.cost import count_cost, scene_size
from tests.benchmarks.gpu_rows import (
    TUNED,
    VARIANTS,
    Variant,
    engine_for,
    parity_row,
    profile_table,
    scorer_row,
    throughput_row,
)
from tests.benchmarks.machine import facts_of_machine
from tests.benchmarks.roofline import Ceilings, floor_s, layers_of, measure_ceilings
from tests.benchmarks.steps import measure_steps

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
MAIN_BATCH = 32
"""Clips at which the variants are held against each other."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    device: torch.device
    seconds: float
    """No row is begun after this many."""
    architectures: tuple[Architecture, ...]
    batches: tuple[int, ...]
    main_batch: int
    variants: tuple[Variant, ...]
    sizes: dict[str, tuple[int, int]]
    """Height and width of each architecture's input."""
    parity_clips: int
    step_architectures: tuple[str, ...]
    step_rounds: int
    matrix_side: int
    copied_bytes: int


@dataclass(slots=True)
class Report:
    """Rows as they come, and why some did not; written after each, so that a run that is ended leaves them."""

    out: Path
    machine: dict[str, str]
    started: float = field(default_factory=time.perf_counter)
    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def elapsed_s(self) -> float:
        """Seconds since the benchmark began."""
        return time.perf_counter() - self.started

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        self.rows.append(row)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        found = {"machine": self.machine, "rows": self.rows, "skipped": self.skipped}
        self.out.write_text(json.dumps(found, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, write JSON."""
    options = _options(arguments)
    if not options.dry_run and not torch.cuda.is_available():
        print("no CUDA device: nothing measured; --dry-run tries the benchmark on the CPU", file=sys.stderr)
        return 1
    plan = dry_plan(options.seconds) if options.dry_run else gpu_plan(options.seconds)
    facts = facts_of_machine(plan.device)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    report = Report(
        options.out or Path("docs/benchmarks") / f"gpu_{facts['gpu'].replace(' ', '_')}.json", facts
    )
    ceilings = measure_ceilings(plan.device, plan.matrix_side, plan.copied_bytes)
    print(f"ceilings: {ceilings.flops_per_s / 1e12:.1f} TFLOP/s, {ceilings.bytes_per_s / 1e9:.0f} GB/s")
    report.add({"row": "ceilings", **asdict(ceilings)})
    if options.profile:
        first = plan.architectures[0]
        print(profile_table(first, plan.sizes[first.name], plan.main_batch, plan.device))
    for what, measure in jobs(plan, ceilings):
        run_job(report, plan.seconds, what, measure)
    print(summary(report.rows))
    print(f"{report.elapsed_s():.0f} s, {len(report.rows)} rows, written to {report.out}")
    return 0


def gpu_plan(seconds: float) -> Plan:
    """The whole benchmark, on the first GPU."""
    architectures = tuple(architecture_named(name) for name in ("slowfast_r50", "slowfast_r50_8x8"))
    sizes = {architecture.name: scene_size(architecture) for architecture in architectures}
    steps = ("slowfast_small", "slowfast_r50")
    return Plan(torch.device("cuda"), seconds, architectures, BATCHES, MAIN_BATCH, VARIANTS, sizes, 64, steps, 7,
                8192, 1 << 31)  # fmt: skip


def dry_plan(seconds: float) -> Plan:
    """The same rows on a CPU with tiny shapes: for trying the benchmark, not for its figures."""
    small = architecture_named("slowfast_small")
    sizes = {small.name: (32, 64)}
    return Plan(torch.device("cpu"), seconds, (small,), (1, 2), 2, VARIANTS[:2], sizes, 2, (small.name,), 1,
                256, 1 << 22)  # fmt: skip


Job = tuple[str, Callable[[], dict[str, Any]]]


def jobs(plan: Plan, ceilings: Ceilings) -> list[Job]:
    """Rows in the order of what is most wanted, since the time may not suffice for all."""
    first, *others = plan.architectures
    main = [_throughput(plan, first, variant, plan.main_batch, ceilings) for variant in plan.variants]
    parities: list[Job] = [
        (
            f"parity, slowfast_small, {variant.name}",
            lambda variant=variant: parity_row(variant, plan.parity_clips, plan.device),
        )
        for variant in plan.variants
    ]
    steps: list[Job] = [
        (f"training step, {name}", lambda name=name: step_row(plan, name)) for name in plan.step_architectures
    ]
    scorer: list[Job] = [
        ("scorer", lambda: scorer_row(first, plan.main_batch, plan.device, plan.sizes[first.name]))
    ]
    sweeps = [
        _throughput(plan, architecture, variant, batch, ceilings)
        for variant in _swept(plan.variants)
        for architecture in (first, *others)
        for batch in plan.batches
        if architecture is not first or batch != plan.main_batch
    ]
    tuned = [_throughput(plan, first, TUNED, plan.main_batch, ceilings)] if plan.device.type == "cuda" else []
    return [*main, *parities, *scorer, *steps, *sweeps, *tuned]


def run_job(report: Report, seconds: float, what: str, measure: Callable[[], dict[str, Any]]) -> None:
    """Measure one row and print it; a row that is too late, or that fails, says why and stops nothing else."""
    elapsed_s = report.elapsed_s()
    if elapsed_s > seconds:
        report.skipped.append(f"{what}: {elapsed_s:.0f} of {seconds:.0f} s were used up")
        print(f"skipped  {report.skipped[-1]}")
        return
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", RuntimeWarning)
            row = measure()
    except (RuntimeError, OSError, ImportError) as error:
        report.skipped.append(f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        print(f"failed   {report.skipped[-1]}")
        return
    notes = [str(one.message) for one in warned if issubclass(one.category, RuntimeWarning)]
    report.add({"row": what, **row, **({"notes": notes} if notes else {})})
    figures = ", ".join(
        f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, (int, float))
    )
    print(f"{report.elapsed_s():6.1f} s  {what}: {figures}")
    for name, value in row.get("ratios", {}).items():
        print(f"{value:10.3f}  {name}")
    for note in notes:
        print(f"          {note}")
    sys.stdout.flush()


def step_row(plan: Plan, name: str) -> dict[str, Any]:
    """The training step of each weighting against a plain one."""
    dry = plan.device.type == "cpu"
    cost = (
        measure_steps(plan.device.type, name, clips=1, rounds=plan.step_rounds, weightings=("lgh",))
        if dry
        else measure_steps(plan.device.type, name, rounds=plan.step_rounds)
    )
    return {"plain_s": cost.plain_s, "forward_share": cost.forward_share, "ratios": cost.ratios}


def _throughput(
    plan: Plan, architecture: Architecture, variant: Variant, batch: int, ceilings: Ceilings
) -> Job:
    size = plan.sizes[architecture.name]

    def measure() -> dict[str, Any]:
        row = throughput_row(engine_for(architecture, variant, plan.device), architecture, size, batch)
        at_best_s = floor_s(layers_of(architecture, size), batch, ceilings)
        macs = count_cost(architecture, 6, size).clip_macs
        return {
            "network": f"{architecture.name} {size[0]}x{size[1]}",
            "variant": variant.name,
            "batch": batch,
            **row,
            "roofline_clips_per_s": batch / at_best_s,
            "share_of_roofline": at_best_s * row["clips_per_s"] / batch,
            "share_of_matrix_rate": 2 * macs * row["clips_per_s"] / ceilings.flops_per_s,
        }

    return f"{architecture.name} {size[0]}x{size[1]}, {variant.name}, {batch} clips", measure


def _swept(variants: tuple[Variant, ...]) -> list[Variant]:
    """Those that are measured at all batch sizes: a graph first, then eager; compiling each size takes too long."""
    return [variant for variant in reversed(variants) if variant.swept]


def summary(rows: list[dict[str, Any]]) -> str:
    """Clips per second of each network and variant over the batch sizes, and against its own batch of one."""
    lines = []
    measured = [row for row in rows if "variant" in row]
    for network, variant in dict.fromkeys((row["network"], row["variant"]) for row in measured):
        of_one = {
            row["batch"]: row for row in measured if (row["network"], row["variant"]) == (network, variant)
        }
        lines.append(f"{network}, {variant}")
        for batch, row in sorted(of_one.items()):
            ratio = row["clips_per_s"] / of_one[1]["clips_per_s"] if 1 in of_one else float("nan")
            lines.append(
                f"{batch:5d} clips {row['clips_per_s']:9.1f} clips/s {ratio:6.2f}x of batch 1 "
                f"{row['share_of_roofline']:6.1%} of the roofline {row.get('peak_gib', 0.0):6.2f} GiB"
            )
    return "\n".join(lines)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file; by default docs/benchmarks/gpu_<name>.json")
    parser.add_argument("--seconds", type=float, default=160.0, help="no row is begun after this many")
    parser.add_argument("--profile", action="store_true", help="also print the kernels that take longest")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with tiny shapes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
