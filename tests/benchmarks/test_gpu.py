"""The benchmark of the GPU is tried on a CPU, since nobody wants it to fail on a machine that is lent for minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.backbones import architecture_named
from model.cost import count_cost
from tests.benchmarks.gpu import Report, main, run_job, summary
from tests.benchmarks.roofline import Ceilings, Layer, floor_s, layers_of


def test_a_dry_run_prints_and_writes_every_kind_of_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    assert main(["--dry-run", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    kinds = {row["row"].split(",")[0].split(" ")[0] for row in found["rows"]}
    assert kinds == {"ceilings", "slowfast_small", "parity", "scorer", "training"}
    assert found["skipped"] == []
    assert {"gpu", "torch", "date", "commit", "processor"} <= found["machine"].keys()
    assert all(row["accepted"] for row in found["rows"] if row["row"].startswith("parity"))
    assert "of the roofline" in capsys.readouterr().out


def test_it_needs_neither_ray_nor_prefect_nor_a_codec() -> None:
    code = "import sys, tests.benchmarks.gpu; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"ray", "prefect", "av", "decord"} & set(run.stdout.split())


def test_rows_that_are_late_or_fail_say_why_and_stop_nothing(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu.json", {})

    def broken() -> dict[str, object]:
        raise RuntimeError("no\nkernel")

    run_job(report, 1000.0, "broken", broken)
    run_job(report, -1.0, "late", lambda: {"clips_per_s": 1.0})
    run_job(report, 1000.0, "fine", lambda: {"clips_per_s": 1.0})
    assert [row["row"] for row in report.rows] == ["fine"]
    assert report.skipped[0] == "broken: RuntimeError: no kernel"
    assert report.skipped[1].startswith("late: ")


def test_the_floor_takes_what_is_slower_in_each_layer() -> None:
    """2 s of arithmetic and 1 s of memory, then 1 s of arithmetic and 3 s of memory: 2 + 3 for one clip."""
    layers = [Layer(200, 4, 6), Layer(100, 20, 10)]
    ceilings = Ceilings(flops_per_s=100, bytes_per_s=10)
    assert floor_s(layers, 1, ceilings) == pytest.approx(2 + 3)
    assert floor_s(layers, 2, ceilings) == pytest.approx(4 + 5)


def test_the_layers_add_up_to_the_counted_cost() -> None:
    architecture = architecture_named("slowfast_small")
    layers = layers_of(architecture, (32, 48))
    assert sum(layer.flops for layer in layers) == 2 * count_cost(architecture, 6, (32, 48)).clip_macs
    assert layers[0].weight_bytes == 2 * 16 * 3 * 49
    assert layers[0].activation_bytes == 2 * (3 * 4 * 32 * 48 + 16 * 4 * 16 * 24)


def test_the_summary_has_the_ratio_to_a_batch_of_one() -> None:
    def row(batch: int, clips_per_s: float) -> dict[str, object]:
        return {
            "network": "n",
            "variant": "v",
            "batch": batch,
            "clips_per_s": clips_per_s,
            "share_of_roofline": 0.5,
        }

    lines = summary([row(4, 30.0), row(1, 10.0)]).splitlines()
    assert lines[0] == "n, v"
    assert "1.00x" in lines[1]
    assert "3.00x" in lines[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert "no CUDA device" in capsys.readouterr().err
