"""``aviaflow ablate`` and ``aviaflow sweep``: the paper's tables, cell by cell, and what is finished of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from flows.ablation.benchmark import prepare_benchmark
from flows.ablation.cells import Cell, Fact, check_protocol, grid_cells, run_cells, weighting_cells
from flows.ablation.training import CellTraining, cell_recipe
from flows.ablation.trials import run_trials
from flows.cluster import most_cpus_each, nodes, ray_cluster
from flows.errors import AblationError
from flows.nightly.digests import file_digest
from flows.settings import CONFIGS, digest, load_ethogram
from flows.training.settings import InitialSettings, TrainSettings
from flows.training.trainer import check_recipe
from workers.clips import open_windows

Progress = Callable[[str], None]
Kind = Literal["weightings", "grid"]
CONTROL = "fixed_lambda"
"""A constant lambda, which the paper lacks: every other weighting is held against it."""
CELLS = "cells"
"""Folder of the cells below a table's."""
_VARIED = ("seed", "weighting", "weighting_parameters", "loss_weights.motion")


@dataclass(frozen=True, slots=True)
class TableRequest:
    """What both tables are told."""

    out: Path
    """Folder of the table: cells, windows, simulated reserves, and what they add up to."""
    settings: TrainSettings
    """What the cells have in common."""
    seeds: tuple[int, ...]
    every: int
    """Every how-manieth test keyframe is scored."""
    threads: int
    """Processors of a cell."""
    quick: bool
    """A plumbing check, not a result."""
    command: str


def ablate(request: TableRequest, weightings: Sequence[str], progress: Progress) -> list[Cell]:
    """Train what is not finished of Tables 3 and 4, one cell after the other, and return all its cells.

    Raises:
        AblationError: the folder holds another table.
        TrainingError: the settings cannot be trained.
        TruthMissingError: a reserve lacks a file.
    """
    cells = weighting_cells(weightings, request.seeds)
    device = _device(request.settings, 1 if torch.cuda.is_available() else 0)
    training, protocol = _prepare(request, "weightings", device, progress)
    run_cells(cells, training, training.folder, protocol, progress=progress)
    return cells


def sweep(
    request: TableRequest,
    alphas: Sequence[float],
    lambdas: Sequence[float],
    progress: Progress,
    *,
    address: str | None = None,
) -> list[Cell]:
    """Train what is not finished of Table 5 on Ray Tune, and return all its cells.

    Args:
        request: of the table.
        alphas: of LGH.
        lambdas: values of lambda_base.
        progress: called with lines of words.
        address: of a running Ray cluster; None starts one on this machine.

    Raises:
        AblationError: the folder holds another table, a cell needs more processors than there are, or failed.
        ClusterError: there is no cluster at that address.
        TrainingError: the settings cannot be trained.
        TruthMissingError: a reserve lacks a file.
    """
    cells = grid_cells(alphas, lambdas, request.seeds)
    with ray_cluster(address):
        cluster = nodes()
        device = _device(request.settings, sum(node.gpus for node in cluster))
        most = most_cpus_each(cluster, 1, gpu=device == "cuda")
        if request.threads > most:
            raise AblationError(
                f"a cell with {request.threads} threads does not fit the {most} processors of the cluster's largest "
                "machine: take fewer with --threads"
            )
        training, protocol = _prepare(request, "grid", device, progress)
        run_trials(cells, training, protocol, request.out.resolve(), progress)
    return cells


def _prepare(
    request: TableRequest, kind: Kind, device: str, progress: Progress
) -> tuple[CellTraining, dict[str, Fact]]:
    """What trains a cell, and the protocol, which is checked here: before anything is trained."""
    settings = request.settings
    ethogram = load_ethogram(settings.ethogram or CONFIGS / "ethogram_crane.yaml")
    workers = 1 if request.quick else request.threads
    benchmark = prepare_benchmark(
        settings, request.out, ethogram, quick=request.quick, workers=workers, progress=progress
    )
    folder = (request.out / CELLS).resolve()
    training = CellTraining(
        folder=folder,
        training=benchmark.training,
        test=benchmark.test,
        behaviours=ethogram.names,
        settings=settings,
        initial=None if settings.initial is None else settings.initial.start(),
        every=request.every,
        threads=request.threads,
        device=device,
        command=request.command,
        progress=progress,
    )
    protocol = {
        "table": kind,
        "quick": request.quick,
        **benchmark.facts,
        "behaviours": ", ".join(ethogram.names),
        "every": request.every,
        **_common_recipe(training, kind),
        "initial": None if settings.initial is None else _weights_digest(settings.initial),
    }
    check_protocol(folder, protocol)
    return training, protocol


def _weights_digest(initial: InitialSettings) -> str:
    """Of what all cells start from; published weights in a folder count by their name."""
    content = file_digest(initial.file) if initial.file.is_file() else initial.file.name
    return digest(initial.published, initial.sha256, content)


def _common_recipe(training: CellTraining, kind: Kind) -> dict[str, Fact]:
    """All of the recipe but what is varied; for Tables 3 and 4 also what the rules are given."""
    windows = open_windows(training.training)
    recipe = cell_recipe(training.settings, Cell(CONTROL, 0), windows, len(training.behaviours))
    check_recipe(recipe, 1, training.initial)
    common = {name: value for name, value in _flat(asdict(recipe)).items() if name not in _VARIED}
    given = training.settings.weighting
    if kind == "weightings":
        common["lambda_base"] = given.lambda_base
        common |= {f"{given.name}.{name}": value for name, value in sorted(given.parameters.items())}
    elif given.name == "lgh":
        common["lgh.refresh_steps"] = given.parameters.get("refresh_steps", 1)
    return common


def _flat(values: dict[str, object], prefix: str = "") -> dict[str, Fact]:
    """A nested dictionary with dotted keys; what JSON has no plain value for in words."""
    flat: dict[str, Fact] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            plain = value if value is None or isinstance(value, str | int | float | bool) else str(value)
            flat[prefix + name] = plain
    return flat


def _device(settings: TrainSettings, gpus: int) -> str:
    if settings.device == "cuda" and gpus < 1:
        raise AblationError("device is cuda, but there is no GPU: take device cpu")
    return "cuda" if gpus and settings.device != "cpu" else "cpu"
