"""The commands ``aviaflow ablate`` and ``aviaflow sweep``."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.shared import EXIT_DONE, add_command, json_option, positive_int, print_result
from flows.quiet import notice
from model.weighting.registry import WEIGHTINGS

if TYPE_CHECKING:
    from flows.ablation.cells import Cell
    from flows.ablation.report import TableReport
    from flows.ablation.run import Kind, TableRequest

SEEDS, QUICK_SEEDS, QUICK_SWEEP_SEEDS = (1, 2, 3), (1, 2), (1,)
ALPHAS, LAMBDAS = (0.0, 0.1, 0.2, 0.3, 0.5), (0.05, 0.1, 0.2)
EVERY, QUICK_EVERY = 2, 8
QUICK_STEPS, QUICK_BATCH = 2, 2


def add_ablate(commands: Any) -> None:
    """Add ``ablate`` to the parser's commands."""
    summary = "Train every loss weighting with several seeds and compare them; goes on where it stopped."
    parser = add_command(commands, "ablate", summary, call_ablate, goes_on=True)
    parser.add_argument(
        "--weightings",
        nargs="+",
        choices=tuple(WEIGHTINGS),
        default=tuple(WEIGHTINGS),
        metavar="NAME",
        help=f"by default all: {' '.join(WEIGHTINGS)}; the control fixed_lambda is always among them",
    )
    _common_options(parser)
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help="processors of a training (default all; 1 with --quick)",
    )


def add_sweep(commands: Any) -> None:
    """Add ``sweep`` to the parser's commands."""
    summary = "Train LGH over a grid of alpha and lambda_base on Ray Tune; goes on where it stopped."
    parser = add_command(commands, "sweep", summary, call_sweep, goes_on=True)
    parser.add_argument(
        "--alphas", nargs="+", type=_share, default=ALPHAS, metavar="A", help=f"default {_words(ALPHAS)}"
    )
    parser.add_argument(
        "--lambdas",
        nargs="+",
        type=_not_negative,
        default=LAMBDAS,
        metavar="L",
        help=f"values of lambda_base, default {_words(LAMBDAS)}",
    )
    _common_options(parser)
    parser.add_argument(
        "--threads",
        type=positive_int,
        default=1,
        metavar="N",
        help="processors of a training (default 1); as many trainings run at once as fit",
    )
    parser.add_argument("--address", metavar="RAY", help="of a running Ray cluster, for example auto")


def _common_options(parser: Any) -> None:
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="gets cells, table.md, table.csv and table.png"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="reserve to train on (archive/, truth/); default: simulated"
    )
    parser.add_argument("--test", type=Path, metavar="DIR", help="reserve to test on, named with --data")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML as of train; its weighting and seed are varied"
    )
    parser.add_argument("--clips", type=positive_int, metavar="N", help="length of each training")
    parser.add_argument(
        "--seeds", nargs="+", type=_seed, metavar="K", help=f"default {_words(SEEDS)}; fewer with --quick"
    )
    parser.add_argument(
        "--every", type=positive_int, metavar="N", help=f"score every Nth test keyframe (default {EVERY})"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few steps of each cell: a plumbing check, not a result"
    )
    parser.add_argument(
        "--table", action="store_true", help="train nothing, write the table of what is finished"
    )
    json_option(parser)


def call_ablate(arguments: argparse.Namespace) -> int:
    """Train what is not finished, write the table, and print it."""
    from flows.ablation.cells import weighting_cells
    from flows.ablation.run import CONTROL, ablate

    weightings = [name for name in WEIGHTINGS if name in {*arguments.weightings, CONTROL}]
    seeds = _seeds(arguments, QUICK_SEEDS)
    if not arguments.table:
        ablate(_request(arguments, seeds), weightings, notice)
    return _finish(arguments, "weightings", weighting_cells(weightings, seeds))


def call_sweep(arguments: argparse.Namespace) -> int:
    """Train what is not finished of the grid, write the table, and print it."""
    from flows.ablation.cells import grid_cells
    from flows.ablation.run import sweep

    seeds = _seeds(arguments, QUICK_SWEEP_SEEDS)
    alphas, lambdas = _unique(arguments.alphas), _unique(arguments.lambdas)
    if not arguments.table:
        sweep(_request(arguments, seeds), alphas, lambdas, notice, address=arguments.address)
    return _finish(arguments, "grid", grid_cells(alphas, lambdas, seeds))


def _request(arguments: argparse.Namespace, seeds: tuple[int, ...]) -> TableRequest:
    import torch

    from flows.ablation.run import TableRequest
    from flows.settings import CONFIGS, load_train_settings

    given = {"data": arguments.data, "test": arguments.test}
    settings = load_train_settings(arguments.config or CONFIGS / "train.yaml", given)
    clips = arguments.clips
    if arguments.quick:
        batch = max(settings.accumulate, min(QUICK_BATCH, settings.batch_clips))
        settings = settings.model_copy(update={"batch_clips": batch})
        clips = clips or QUICK_STEPS * batch
    if clips is not None:
        settings = settings.model_copy(update={"clips": clips, "epochs": None})
    return TableRequest(
        out=arguments.out,
        settings=settings,
        seeds=seeds,
        every=arguments.every or (QUICK_EVERY if arguments.quick else EVERY),
        threads=arguments.threads or (1 if arguments.quick else torch.get_num_threads()),
        quick=arguments.quick,
        command=shlex.join(["aviaflow", *sys.argv[1:]]),
    )


def _finish(arguments: argparse.Namespace, kind: Kind, asked: list[Cell]) -> int:
    from flows.ablation.report import describe_table, report_table, table_json, write_table

    report: TableReport = report_table(arguments.out, kind, asked)
    files = write_table(report, arguments.out)
    document = {**table_json(report), "files": [str(file) for file in files]}
    written = "\n".join(f"written {file}" for file in files)
    print_result(document, f"{describe_table(report)}\n\n{written}", arguments.json)
    return EXIT_DONE


def _seeds(arguments: argparse.Namespace, quick: tuple[int, ...]) -> tuple[int, ...]:
    return _unique(arguments.seeds or (quick if arguments.quick else SEEDS))


def _unique(values: Any) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _words(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"must be a number that is not negative, got {text}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, got {text}")
    return value
