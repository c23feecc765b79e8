from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from flows.ablation.cells import (
    Cell,
    CellResult,
    CellScores,
    as_document,
    grid_cells,
    grid_point,
    measure_cell,
    read_cells,
    run_cells,
    weighting_cells,
)
from flows.ablation.locks import held
from flows.ablation.table import (
    mean_facts,
    render_ablation,
    render_sweep,
    summarise_seeds,
    summarise_variants,
)
from flows.errors import AblationError
from flows.evaluation.instances import evaluate
from model.network import ActionNetwork
from workers.clips import WindowSet

PROTOCOL = {"clips": 40, "test_seed": 5000}


class Trainer:
    """Stands in for a training: remembers what it was asked for, and can be interrupted."""

    def __init__(self, stop_after: int = 99) -> None:
        self.asked: list[Cell] = []
        self.stop_after = stop_after

    def __call__(self, cell: Cell) -> tuple[CellScores, Mapping[str, str]]:
        if len(self.asked) == self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(cell)
        score = 0.5 + 0.1 * cell.seed + (0.02 if cell.variant == "lgh" else 0.0)
        return CellScores(score, {"walk": score}, (score - 0.1, None, score + 0.1)), {"processor": "this one"}


def result(variant: str, seed: int, score: float, replicates: tuple[float, ...] = (0.4, 0.6)) -> CellResult:
    return CellResult(variant, seed, CellScores(score, {"walk": score, "never": None}, replicates), 1.0, {})


def test_a_table_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    cells = weighting_cells(["fixed", "lgh"], [1, 2])
    first = Trainer(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        run_cells(cells, first, tmp_path, PROTOCOL)
    assert len(read_cells(tmp_path)) == 3
    second, lines = Trainer(), []
    results = run_cells(cells, second, tmp_path, PROTOCOL, progress=lines.append)
    assert [(cell.variant, cell.seed) for cell in first.asked + second.asked] == [
        ("fixed", 1),
        ("lgh", 1),
        ("fixed", 2),
        ("lgh", 2),
    ]
    assert [(cell.variant, cell.seed) for cell in second.asked] == [("lgh", 2)]
    assert [one.scores.mean_average_precision for one in results] == pytest.approx([0.6, 0.62, 0.7, 0.72])
    assert results[0].scores.replicates == pytest.approx((0.5, None, 0.7), nan_ok=True)
    assert results[0].facts == {"processor": "this one"}
    assert lines[-2:] == [
        "cell 4 of 4, lgh with seed 2: training",
        "cell 4 of 4, lgh with seed 2: mAP 0.720",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fixed-seed1.json",
        "fixed-seed2.json",
        "lgh-seed1.json",
        "lgh-seed2.json",
        "protocol.json",
    ]


def test_a_cell_that_another_process_trains_is_left_to_it(tmp_path: Path) -> None:
    trainer, lines = Trainer(), []
    with held(tmp_path / "lgh-seed1.lock"):
        results = run_cells(
            weighting_cells(["fixed", "lgh"], [1]), trainer, tmp_path, PROTOCOL, progress=lines.append
        )
    assert [cell.variant for cell in trainer.asked] == ["fixed"]
    assert [one.variant for one in results] == ["fixed"]
    assert "cell 2 of 2, lgh with seed 1: left to another process" in lines[-1]
    assert f"held by process {os.getpid()} " in lines[-1]


def test_a_cell_that_was_finished_before_its_lock_was_got_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer()

    @contextmanager
    def late(path: Path, *, wait: bool = False) -> Iterator[None]:
        """Another process finishes the cell while this one waits for its turn."""
        with held(path, wait=wait):
            if path.name == "lgh-seed1.lock":
                finished = result("lgh", 1, 0.875)
                (tmp_path / "lgh-seed1.json").write_bytes(TypeAdapter(CellResult).dump_json(finished))
            yield

    monkeypatch.setattr("flows.ablation.cells.held", late)
    results = run_cells(weighting_cells(["fixed", "lgh"], [1]), trainer, tmp_path, PROTOCOL)
    assert [cell.variant for cell in trainer.asked] == ["fixed"]
    assert results[1].scores.mean_average_precision == 0.875


def test_cells_of_another_protocol_are_refused(tmp_path: Path) -> None:
    cells = weighting_cells(["fixed"], [1])
    run_cells(cells, Trainer(), tmp_path, PROTOCOL)
    with pytest.raises(
        AblationError, match=r"protocol.json: this table was begun with clips 40, now it is 80"
    ):
        run_cells(cells, Trainer(), tmp_path, {**PROTOCOL, "clips": 80})


def test_a_damaged_cell_is_named(tmp_path: Path) -> None:
    run_cells(weighting_cells(["fixed"], [1]), Trainer(), tmp_path, PROTOCOL)
    (tmp_path / "fixed-seed1.json").write_text("{}")
    with pytest.raises(AblationError, match=r"fixed-seed1.json: no result of a cell.*delete it"):
        read_cells(tmp_path)


def test_the_grid_has_a_cell_for_every_pair_and_seed() -> None:
    cells = grid_cells([0.0, 0.2], [0.05, 0.1, 0.2], [7, 8])
    assert len({cell.file_name for cell in cells}) == 12
    assert [cell.seed for cell in cells] == [7] * 6 + [8] * 6
    assert cells[4] == Cell("alpha=0.2,lambda_base=0.1", 7, {"alpha": 0.2, "lambda_base": 0.1})
    assert grid_point(cells[4].variant) == (0.2, 0.1)
    with pytest.raises(ValueError, match="got 'a/b'"):
        Cell("a/b", 1)


def test_interval_over_seeds_is_the_t_interval() -> None:
    # t(0.975, 2) = 4.3027; s.d. of 0.60, 0.62, 0.67 is 0.036056, over sqrt(3): 0.020817.
    values = [0.60, 0.62, 0.67]
    summary = summarise_seeds(values, [np.array([value, value + 0.1]) for value in values])
    assert summary.mean == pytest.approx(0.63)
    assert summary.deviation == pytest.approx(0.036056, abs=1e-6)
    assert summary.over_seeds == pytest.approx((0.63 - 4.3027 * 0.020817, 0.63 + 4.3027 * 0.020817), abs=1e-5)
    # Means over seeds of the two replicates are 0.63 and 0.73.
    assert summary.over_videos == pytest.approx((0.63 + 0.025 * 0.1, 0.63 + 0.975 * 0.1))


def test_one_seed_has_no_interval_over_seeds() -> None:
    summary = summarise_seeds([0.6], [np.array([0.5, 0.7])])
    assert (summary.seeds, summary.deviation, summary.over_seeds) == (1, None, None)
    assert summary.over_videos is not None


def test_differences_are_paired_by_seed_and_by_video() -> None:
    results = [
        result("fixed", 1, 0.50, (0.4, 0.6)),
        result("fixed", 2, 0.70, (0.6, 0.8)),
        result("lgh", 2, 0.72, (0.63, 0.81)),
        result("lgh", 1, 0.54, (0.45, 0.61)),
        result("lgh", 9, 0.10),
        result("pcgrad", 9, 0.55),
    ]
    fixed, lgh, pcgrad = summarise_variants(results, "fixed")
    assert fixed.difference is None
    assert lgh.score.seeds == 3
    assert lgh.difference is not None
    # Seeds differ by 0.2 between each other and the pairs by 0.02 only: unpaired, nothing could be said.
    assert lgh.difference.seeds == 2
    assert lgh.difference.mean == pytest.approx(0.03)
    assert lgh.difference.deviation == pytest.approx(0.02 / np.sqrt(2))
    # Differences of the replicates: (0.05, 0.01) and (0.03, 0.01), so 0.04 and 0.01 over seeds.
    assert lgh.difference.over_videos == pytest.approx((0.01 + 0.025 * 0.03, 0.01 + 0.975 * 0.03))
    assert pcgrad.difference is None
    assert lgh.per_class == {"walk": pytest.approx((0.72 + 0.54 + 0.10) / 3), "never": None}


def test_a_fact_that_one_seed_lacks_has_no_mean() -> None:
    pairs = zip(
        (1, 2), ({"mean_rho": 0.1, "mean_lambda": 1.0}, {"mean_rho": -0.3, "mean_lambda": None}), strict=True
    )
    cells = [replace(result("pcgrad", seed, 0.5), facts=facts) for seed, facts in pairs]
    assert mean_facts(cells, ["mean_rho", "mean_lambda"]) == {
        "pcgrad": {"mean_rho": pytest.approx(-0.1), "mean_lambda": None}
    }


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(AblationError, match="control fixed has no finished cell; there are lgh"):
        summarise_variants([result("lgh", 1, 0.5)], "fixed")
    with pytest.raises(AblationError, match="different numbers"):
        summarise_variants([result("lgh", 1, 0.5), result("lgh", 2, 0.5, (0.5,))], None)


def squeezed(markdown: str) -> str:
    """Without the spaces that make columns of one width."""
    return re.sub(" +", " ", markdown)


def test_columns_have_one_width() -> None:
    text = render_ablation(summarise_variants([result("fixed", 1, 0.5)], "fixed"), "fixed")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines[:3]}) == 1
    assert {len(line) for line in lines[3:]} == {len("| weighting | walk  | never |")}


def test_tables_as_markdown() -> None:
    results = [result("fixed", s, 0.5 + 0.1 * s) for s in (1, 2)] + [
        result("lgh", s, 0.51 + 0.1 * s) for s in (1, 2)
    ]
    facts = {"mean_rho": -0.125, "conflict_share": 0.5, "mean_lambda": None, "training_s": 60.4}
    text = squeezed(
        render_ablation(
            summarise_variants(results, "fixed"), "fixed", ["plumbing check, not a result"], {"lgh": facts}
        )
    )
    assert text.startswith("plumbing check, not a result\n\n")
    assert "| fixed | 2 | 65.00 | 7.07 | 1.47 to 128.53 | 40.50 to 59.50 | control | | | |" in text
    assert "| +1.00 | +1.00 to +1.00 | +0.00 to +0.00 | 2 |" in text
    assert "| weighting | walk | never |" in text
    assert "| lgh | 66.00 | - |" in text
    assert text.endswith("| lgh | -0.125 | 50.00 | - | 60 |")

    grid = [result(cell.variant, cell.seed, 0.6) for cell in grid_cells([0.2], [0.05, 0.1], [1])]
    grid += [result("alpha=0.2,lambda_base=0.1", 2, 0.7)]
    lines = squeezed(render_sweep(summarise_variants(grid, None), [0.0, 0.2], [0.05, 0.1])).splitlines()
    assert lines[2] == "| alpha \\ lambda_base | 0.05 | 0.1 |"
    assert lines[4:6] == ["| 0 | - | - |", "| 0.2 | 60.00 (1) | 65.00 ± 63.53 (2) |"]
    assert lines[-1] == "Highest mean: alpha=0.2,lambda_base=0.1, 65.00 %."


def test_a_document_leaves_the_replicates_out() -> None:
    (cell,) = as_document([result("lgh", 1, 0.5)])
    assert cell["scores"] == {"mean_average_precision": 0.5, "per_class": {"walk": 0.5, "never": None}}
    json.dumps(cell, allow_nan=False)


def two_videos() -> WindowSet:
    """Two videos of noise with four keyframes each, at each of which one bird is seen."""
    count = np.arange(8)
    return WindowSet(
        frames=np.random.default_rng(0).integers(0, 255, (64, 32, 48, 3), dtype=np.uint8),
        video_start=np.array([0, 32, 64]),
        light=np.array(["day", "infrared"]),
        video=count // 4,
        grid=8 * (count % 4),
        box_start=np.arange(9),
        xyxy=np.tile(np.array([[0.1, 0.2, 0.5, 0.8]], dtype=np.float32), (8, 1)),
        label=count // 2 % 2,
        dynamic=np.zeros(8, dtype=np.int64),
        learnable=np.ones(8, dtype=bool),
        other=np.zeros(8, dtype=bool),
        individual=np.full(8, "7"),
    )


def test_a_single_test_video_has_no_interval() -> None:
    network = ActionNetwork("slowfast_small", ("feeding", "walk", "never")).eval()
    one_video = replace(
        two_videos(), video_start=np.array([0, 64]), light=np.array(["day"]), video=np.zeros(8, np.int64)
    )
    scores = measure_cell(network, one_video, every=2)
    assert set(scores.replicates) == {None}
    alone = CellResult("fixed_lambda", 1, scores, 1.0, {})
    text = render_ablation(summarise_variants([alone], "fixed_lambda"), "fixed_lambda")
    (row,) = [line for line in text.splitlines() if line.startswith("| fixed_lambda") and "control" in line]
    assert [cell.strip() for cell in row.split("|")[3:7]] == [
        f"{100 * scores.mean_average_precision:.2f}",
        *"---",
    ]


def test_a_cell_is_measured_as_an_evaluation_is() -> None:
    network = ActionNetwork("slowfast_small", ("feeding", "walk", "never")).eval()
    scores = measure_cell(network, two_videos(), every=2)
    expected = evaluate(network, two_videos(), every=2)
    assert scores.mean_average_precision == pytest.approx(expected.mean_average_precision["all"])
    assert scores.per_class == pytest.approx(expected.average_precision["all"])
    assert len(scores.replicates) == 1000
    # Two videos: a replicate has one of them twice, or both; those with both give the score itself.
    assert len(set(scores.replicates)) <= 3
    assert any(value == pytest.approx(scores.mean_average_precision, abs=1e-6) for value in scores.replicates)
