"""Tables of training runs: cells that are kept as they are finished, and what they add up to over seeds.

A cell is one training: a variant (a loss weighting, or a point of a grid) with a seed. Each finished cell is a
JSON file of its own, so that a table can be spread over days and processes and no cell is trained twice. How
a cell is trained is passed in.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from flows.ablation.locks import held
from flows.errors import AblationError, LockedError
from flows.evaluation.box_scores import instance_rankings
from flows.evaluation.evaluate import true_boxes
from flows.evaluation.instances import score_windows
from model.bootstrap import bootstrap_average_precision, draw_videos, mean_of_classes
from model.network import ActionNetwork
from workers.clips import WindowSet

PROTOCOL = "protocol.json"
Fact = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Cell:
    """One training run of a table."""

    variant: str
    """What is varied, as ``lgh`` or ``alpha=0.2,lambda_base=0.1``; becomes part of a file's name."""
    seed: int
    settings: dict[str, float] = field(default_factory=dict)
    """Values that the training takes from the grid, as ``alpha``."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.,=+-]+", self.variant):
            raise ValueError(f"a variant is letters, digits and any of _ . , = + -, got {self.variant!r}")

    @property
    def name(self) -> str:
        """Variant and seed, as its files are called."""
        return f"{self.variant}-seed{self.seed}"

    @property
    def file_name(self) -> str:
        """Where its result is kept."""
        return f"{self.name}.json"

    @property
    def checkpoint_name(self) -> str:
        """Where its training may be kept until it is finished."""
        return f"{self.name}.partial.pt"


@dataclass(frozen=True, slots=True)
class CellScores:
    """What a trained cell reaches on the test videos."""

    mean_average_precision: float
    """The paper's mAP."""
    per_class: dict[str, float | None]
    replicates: tuple[float | None, ...]
    """mAP of each bootstrap replicate; the k-th draws the same videos in every cell of one test set."""


@dataclass(frozen=True, slots=True)
class CellResult:
    """A finished cell."""

    variant: str
    seed: int
    scores: CellScores
    seconds: float
    """Time that training and measuring took the process that finished it."""
    facts: dict[str, Fact]
    """What the training adds, as its hardware and command."""


TrainCell = Callable[[Cell], tuple[CellScores, Mapping[str, Fact]]]
"""Trains one cell and measures it."""


def weighting_cells(weightings: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """The cells of Tables 3 and 4: all weightings of one seed before the next seed."""
    return [Cell(weighting, seed) for seed in seeds for weighting in weightings]


def grid_cells(alphas: Sequence[float], lambdas: Sequence[float], seeds: Sequence[int]) -> list[Cell]:
    """The cells of Table 5: LGH with every pair of alpha and lambda_base, all of one seed before the next."""
    return [
        Cell(grid_variant(alpha, base), seed, {"alpha": alpha, "lambda_base": base})
        for seed in seeds
        for alpha in alphas
        for base in lambdas
    ]


def grid_variant(alpha: float, lambda_base: float) -> str:
    """Name of a point of the grid."""
    return f"alpha={alpha:g},lambda_base={lambda_base:g}"


def grid_point(variant: str) -> tuple[float, float]:
    """Alpha and lambda_base of a name that :func:`grid_variant` gave."""
    alpha, base = (float(part.partition("=")[2]) for part in variant.split(","))
    return alpha, base


def run_cells(
    cells: Sequence[Cell],
    train_cell: TrainCell,
    folder: Path,
    protocol: Mapping[str, Fact],
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> list[CellResult]:
    """Train what is not there yet and return the finished cells, in the order given.

    Each result is published in one step when it is finished; whatever ends this, the same call goes on from
    there. Several processes may work on one folder: a cell that another one is training is left to it, and is
    not among those returned.

    Args:
        cells: the table.
        train_cell: trains and measures one cell; what it keeps under the cell's ``checkpoint_name`` is deleted
            when the cell is finished.
        folder: of the results.
        protocol: everything that all cells have in common, as the budget of clips and the test seeds.
        progress: called with lines of words.

    Raises:
        AblationError: the folder was begun with another protocol, or a result cannot be read.
    """
    check_protocol(folder, protocol)
    results = []
    for number, cell in enumerate(cells, start=1):
        name = f"cell {number} of {len(cells)}, {cell.variant} with seed {cell.seed}"
        path = folder / cell.file_name
        if not path.exists():
            progress(f"{name}: training")
            try:
                _finish_cell(cell, train_cell, folder)
            except LockedError as error:
                progress(f"{name}: left to another process ({error})")
                continue
        result = read_cell(path)
        (folder / cell.checkpoint_name).unlink(missing_ok=True)
        progress(f"{name}: mAP {result.scores.mean_average_precision:.3f}")
        results.append(result)
    return results


def _finish_cell(cell: Cell, train_cell: TrainCell, folder: Path) -> None:
    path = folder / cell.file_name
    with held(folder / f"{cell.name}.lock"):
        if path.exists():  # another process has finished it since
            return
        started = time.monotonic()
        scores, facts = train_cell(cell)
        seconds = time.monotonic() - started
        result = CellResult(cell.variant, cell.seed, scores, seconds, dict(facts))
        publish(path, TypeAdapter(CellResult).dump_json(result, indent=1) + b"\n")


def check_protocol(folder: Path, protocol: Mapping[str, Fact]) -> None:
    """Write the protocol into a new folder, or compare it with the one that is there.

    Raises:
        AblationError: they differ; cells of different protocols cannot be compared.
    """
    path = folder / PROTOCOL
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / "protocol.lock", wait=True):
        if not path.exists():
            publish(path, json.dumps(dict(protocol), indent=1).encode() + b"\n")
    stored = read_protocol(folder)
    differing = [key for key in {**stored, **protocol} if stored.get(key) != protocol.get(key)]
    if differing:
        key = differing[0]
        raise AblationError(
            f"{path}: this table was begun with {key} {stored.get(key)!r}, now it is {protocol.get(key)!r}; "
            "name another folder, or the same settings"
        )


def read_protocol(folder: Path) -> dict[str, Fact]:
    """What all cells of a folder have in common.

    Raises:
        AblationError: no table was begun there, or its protocol cannot be read.
    """
    path = folder / PROTOCOL
    try:
        return TypeAdapter(dict[str, Fact]).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise AblationError(f"{path}: there is no such file, no table was begun in this folder") from error
    except ValidationError as error:
        raise AblationError(f"{path}: no protocol of a table ({str(error).splitlines()[0]})") from error


def read_cells(folder: Path) -> list[CellResult]:
    """All finished cells of a folder, by variant and seed.

    Raises:
        AblationError: one cannot be read.
    """
    results = [read_cell(path) for path in folder.glob("*-seed*.json")]
    return sorted(results, key=lambda result: (result.variant, result.seed))


def read_cell(path: Path) -> CellResult:
    """One finished cell.

    Raises:
        AblationError: it cannot be read.
    """
    try:
        return TypeAdapter(CellResult).validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        problem = str(error).splitlines()[0]
        raise AblationError(
            f"{path}: no result of a cell ({problem}); delete it to train the cell again"
        ) from error


def measure_cell(
    network: ActionNetwork, windows: WindowSet, *, every: int, device: str = "cpu"
) -> CellScores:
    """The paper's mAP of a trained network on every ``every``-th test keyframe, with its bootstrap."""
    scores = score_windows(network, windows, np.arange(0, len(windows.grid), every), device=device)
    true, on_true = true_boxes(windows, scores)
    names, num_videos = network.behaviours, len(windows.light)
    rankings = instance_rankings(true, on_true.probabilities, names, num_videos)
    values = np.array([ranking.average_precision for ranking in rankings.values()])
    if np.isnan(values).all():
        raise ValueError("the test windows hold no box with a learnable label")
    draws = draw_videos(num_videos)
    replicates = mean_of_classes(
        np.stack([bootstrap_average_precision(ranking, draws) for ranking in rankings.values()])
    )
    if num_videos < 2:  # a single video has no interval
        replicates = np.full_like(replicates, np.nan)
    return CellScores(
        float(np.nanmean(values)),
        dict(zip(names, _known(values), strict=True)),
        tuple(_known(replicates.round(6))),
    )


def _known(values: NDArray[np.float64]) -> list[float | None]:
    """JSON has no NaN."""
    return [None if np.isnan(value) else float(value) for value in values]


def publish(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def as_document(results: Sequence[CellResult]) -> list[dict[str, object]]:
    """The cells for a JSON document, without their replicates."""
    cells = [asdict(result) for result in results]
    for cell in cells:
        del cell["scores"]["replicates"]
    return cells
