"""What the cells of a table add up to: means over seeds, intervals, paired differences, and Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from flows.ablation.cells import CellResult, Fact, grid_variant
from flows.errors import AblationError
from model.bootstrap import percentile_interval

LEVEL = 0.95
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class SeedSummary:
    """A number that was measured with several seeds."""

    seeds: int
    mean: float
    deviation: float | None
    """Standard deviation over seeds (n - 1); None with one seed."""
    over_seeds: Interval | None
    """95 % interval of the mean by the t distribution; None with one seed."""
    over_videos: Interval | None
    """95 % interval of the mean over these seeds, by a bootstrap over the test videos."""


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """One row of a table."""

    variant: str
    score: SeedSummary
    """The paper's mAP."""
    per_class: dict[str, float | None]
    """Mean over seeds."""
    difference: SeedSummary | None
    """mAP minus the control's, over the seeds that both have; None for the control and where none is shared."""


def summarise_variants(results: Sequence[CellResult], control: str | None) -> list[VariantSummary]:
    """One row for each variant, in the order in which they first appear.

    Raises:
        AblationError: the control has no finished cell, or the cells have not the same number of replicates.
    """
    by_variant: dict[str, dict[int, CellResult]] = defaultdict(dict)
    for result in results:
        by_variant[result.variant][result.seed] = result
    if control is not None and control not in by_variant:
        raise AblationError(
            f"the control {control} has no finished cell; there are {', '.join(by_variant) or 'none'}"
        )
    if len({len(result.scores.replicates) for result in results}) > 1:
        raise AblationError("the cells have different numbers of bootstrap replicates: train the table anew")
    reference = by_variant.get(control, {}) if control is not None else {}
    return [
        VariantSummary(
            variant,
            summarise_seeds(
                [_score(cell) for cell in cells.values()], [_replicates(c) for c in cells.values()]
            ),
            _per_class(list(cells.values())),
            None if variant == control else _difference(cells, reference),
        )
        for variant, cells in by_variant.items()
    ]


def summarise_seeds(values: Sequence[float], replicates: Sequence[NDArray[np.float64]]) -> SeedSummary:
    """Mean over S seeds, with an interval over seeds and one over videos.

    Args:
        values: S values.
        replicates: bootstrap replicates of each, shape ``(B,)``; the k-th of all draw the same videos.
    """
    count, mean = len(values), float(np.mean(values))
    deviation = float(np.std(values, ddof=1)) if count > 1 else None
    interval = None
    if deviation is not None:
        half = float(student_t.ppf(0.5 + LEVEL / 2, count - 1)) * deviation / np.sqrt(count)
        interval = (mean - half, mean + half)
    return SeedSummary(
        count, mean, deviation, interval, percentile_interval(np.mean(np.stack(replicates), axis=0), LEVEL)
    )


def _difference(cells: dict[int, CellResult], control: dict[int, CellResult]) -> SeedSummary | None:
    """Paired by seed, and within each seed by the videos that a replicate draws."""
    shared = sorted(cells.keys() & control.keys())
    if not shared:
        return None
    return summarise_seeds(
        [_score(cells[seed]) - _score(control[seed]) for seed in shared],
        [_replicates(cells[seed]) - _replicates(control[seed]) for seed in shared],
    )


def _per_class(cells: Sequence[CellResult]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for name in cells[0].scores.per_class:
        values = [value for cell in cells if (value := cell.scores.per_class.get(name)) is not None]
        means[name] = float(np.mean(values)) if values else None
    return means


def mean_facts(results: Sequence[CellResult], names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """By variant and name, the mean over seeds of numbers among the cells' facts; None where a cell has none."""
    means: dict[str, dict[str, float | None]] = {}
    for variant in dict.fromkeys(result.variant for result in results):
        facts = [result.facts for result in results if result.variant == variant]
        means[variant] = {name: _mean_known([fact.get(name) for fact in facts]) for name in names}
    return means


def _mean_known(values: Sequence[Fact]) -> float | None:
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return float(np.mean(numbers)) if len(numbers) == len(values) else None


def render_ablation(
    rows: Sequence[VariantSummary],
    control: str,
    notes: Sequence[str] = (),
    facts: Mapping[str, Mapping[str, float | None]] | None = None,
) -> str:
    """Tables 3 and 4 as Markdown: mAP in per cent with its intervals, average precision by behaviour, and lambda.

    Args:
        rows: from :func:`summarise_variants`.
        control: the variant that differences are against.
        notes: sentences before the tables, as what was trained on what.
        facts: ``mean_rho``, ``conflict_share``, ``mean_lambda`` and ``training_s`` of each variant, from
            :func:`mean_facts`; without them there is no table of what the rules did.
    """
    scores = [
        [
            row.variant,
            str(row.score.seeds),
            f"{100 * row.score.mean:.2f}",
            _percent(row.score.deviation),
            _range(row.score.over_seeds),
            _range(row.score.over_videos),
            *_difference_cells(row, control),
        ]
        for row in rows
    ]
    header = ("weighting", "seeds", "mAP %", "s.d.", "95 % over seeds", "95 % over videos")
    against = (f"minus {control}", "95 % over seeds", "95 % over videos", "pairs")
    names = list(dict.fromkeys(name for row in rows for name in row.per_class))
    classes = [[row.variant, *(_percent(row.per_class.get(name)) for name in names)] for row in rows]
    parts = [
        *notes,
        "Mean over seeds. Over seeds: t distribution. Over videos: bootstrap of the test videos with the "
        "trained networks as they are. Differences are paired by seed and by video.",
        _table([*header, *against], scores),
        "Average precision of each behaviour in per cent, mean over seeds.",
        _table(["weighting", *names], classes),
    ]
    return "\n\n".join(parts if facts is None else [*parts, *_rules(facts)])


def _rules(facts: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """What each rule saw and did."""
    lines = [
        [
            variant,
            _digits(known["mean_rho"], 3),
            _percent(known["conflict_share"]),
            _digits(known["mean_lambda"], 4),
            _digits(known["training_s"], 0),
        ]
        for variant, known in facts.items()
    ]
    return [
        "Rho is the cosine of the two gradients, in conflict where it is negative; lambda is the weight of the "
        "motion gradient where the behaviour gradient is left as it is. Means over steps and seeds.",
        _table(["weighting", "rho", "conflict % of steps", "lambda", "training s"], lines),
    ]


def render_sweep(
    rows: Sequence[VariantSummary],
    alphas: Sequence[float],
    lambdas: Sequence[float],
    notes: Sequence[str] = (),
) -> str:
    """Table 5 as Markdown: mAP in per cent, mean over seeds and half of its 95 % interval, by alpha and lambda_base.

    Points without a finished cell are shown as a dash.
    """
    by_variant = {row.variant: row.score for row in rows}
    body = [
        [f"{alpha:g}", *(_point(by_variant.get(grid_variant(alpha, base))) for base in lambdas)]
        for alpha in alphas
    ]
    header = ["alpha \\ lambda_base", *(f"{base:g}" for base in lambdas)]
    best = max(rows, key=lambda row: row.score.mean, default=None)
    last = [] if best is None else [f"Highest mean: {best.variant}, {100 * best.score.mean:.2f} %."]
    return "\n\n".join(
        [
            *notes,
            "Mean over seeds, half of the 95 % interval over seeds (seeds).",
            _table(header, body),
            *last,
        ]
    )


def _point(score: SeedSummary | None) -> str:
    if score is None:
        return "-"
    if score.over_seeds is None:
        return f"{100 * score.mean:.2f} ({score.seeds})"
    return f"{100 * score.mean:.2f} ± {50 * (score.over_seeds[1] - score.over_seeds[0]):.2f} ({score.seeds})"


def _difference_cells(row: VariantSummary, control: str) -> list[str]:
    if row.variant == control:
        return ["control", "", "", ""]
    if row.difference is None:
        return ["-", "-", "-", "0"]
    mean = f"{100 * row.difference.mean:+.2f}"
    signed = [_range(row.difference.over_seeds, "+"), _range(row.difference.over_videos, "+")]
    return [mean, *signed, str(row.difference.seeds)]


def _score(cell: CellResult) -> float:
    return cell.scores.mean_average_precision


def _replicates(cell: CellResult) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in cell.scores.replicates])


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _digits(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _range(interval: Interval | None, sign: str = "") -> str:
    if interval is None:
        return "-"
    return f"{100 * interval[0]:{sign}.2f} to {100 * interval[1]:{sign}.2f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width, so that it reads as well without being rendered."""
    widths = [max(3, *(len(line[k]) for line in (header, *rows))) for k in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)
