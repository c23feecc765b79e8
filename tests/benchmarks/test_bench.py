"""What the benchmark of a CPU says and keeps, without measuring anything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import tests.benchmarks.__main__ as bench_main
from tests.benchmarks.alone import Alone
from tests.benchmarks.pipeline import bound_rows, busy_row
from tests.benchmarks.rows import Report, Row, at_least, at_most, figure, run_section
from tests.benchmarks.sections import SECTIONS, Section
from tests.benchmarks.sizes import FULL, QUICK, Bench
from tests.benchmarks.table import DOCS, machine_line, report_rows, table_of, with_table
from tests.benchmarks.table import main as write_table

DOCS_HERE = Path(__file__).parents[2] / DOCS


def test_goals_are_bounds_that_count_themselves() -> None:
    assert [at_least(0.9).is_met_by(value) for value in (0.89, 0.9, 1.2)] == [False, True, True]
    assert [at_most(1.75).is_met_by(value) for value in (1.6, 1.75, 1.76)] == [True, True, False]
    assert str(Row("a", 0.85, goal=at_least(0.9))) == "        0.85  a  (at least 0.9: MISSED)"
    assert str(Row("b", 1234.5, "detections/s")) == "       1,234  b [detections/s]"


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,346"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.0123"), (0.0, "0")],
)
def test_figures_have_as_many_digits_as_they_need(value: float, text: str) -> None:
    assert figure(value) == text


def test_a_section_that_fails_is_named_and_loses_no_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "bench.json"
    report = Report(out, {"processor": "one"})
    seen_in_file: list[int] = []

    def fails() -> Iterator[Row]:
        yield Row("before", 1.0)
        seen_in_file.append(len(json.loads(out.read_text())["rows"]))
        raise KeyError("no\nsuch key")

    run_section(report, "first", fails)
    run_section(report, "second", lambda: [Row("after", 2.0, "s", at_most(1.0))])
    assert seen_in_file == [1], "a row is in the file as soon as it is there"
    assert json.loads(out.read_text()) == {
        "machine": {"processor": "one"},
        "rows": [
            {"section": "first", "name": "before", "value": 1.0, "unit": "ratio"},
            {
                "section": "second",
                "name": "after",
                "value": 2.0,
                "unit": "s",
                "goal": "at most 1",
                "met": False,
            },
        ],
        "failed": ["first: KeyError: 'no\\nsuch key'"],
    }
    assert "failed  first: KeyError" in capsys.readouterr().out


def test_only_the_sections_that_are_named_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def section(name: str, has_quick_sizes: bool = True) -> Section:
        def measure(bench: Bench) -> Iterator[Row]:
            asked.append(f"{name} {bench.sizes.videos}")
            yield Row(name, 1.0)

        return Section(name, measure, has_quick_sizes)

    found = {"b": section("b"), "a": section("a"), "c": section("c", has_quick_sizes=False)}
    monkeypatch.setattr(bench_main, "SECTIONS", found)
    out = ["--out", str(tmp_path / "bench.json")]
    assert bench_main.main(["--quick", *out]) == 0
    assert bench_main.main(["--only", "c", "b", *out]) == 0
    assert bench_main.main(["--quick", "--only", "c", *out]) == 0
    quick, full = QUICK.videos, FULL.videos
    assert asked == [f"b {quick}", f"a {quick}", f"b {full}", f"c {full}", f"c {quick}"]
    written = json.loads((tmp_path / "bench.json").read_text())
    assert {"processor", "python", "torch", "ray", "date", "commit", "load"} <= written["machine"].keys()
    assert written["quick"] is True


def test_every_section_that_is_asked_for_is_there() -> None:
    assert list(SECTIONS) == [
        *("steps", "decoding", "skipping", "run", "scaling", "engines", "orchestration", "tracking"),
        *("queries", "planning"),
    ]


def test_a_run_is_held_against_the_larger_of_two_bounds() -> None:
    stages = {"decode": Alone(4.0, 4.0), "detect and infer": Alone(9.0, 16.0)}
    alone, shared, larger = bound_rows("defaults", "decoding to detections", stages, 12.5, cpus=2)
    assert (alone.value, str(alone.goal)) == (0.72, "at least 0.9")
    assert "(detect and infer)" in alone.name
    assert (shared.value, shared.goal) == (0.8, None)
    assert (larger.value, "the processors that its stages share" in larger.name) == (0.8, True)


def test_the_slowest_stage_within_a_run_is_that_of_its_busiest_worker() -> None:
    busy_s = {"probe": 1.0, "decode": 12.0, "detect": 3.0, "infer": 5.0}
    workers = {"decode": 2, "detect": 1, "infer": 1}
    assert busy_row("defaults", busy_s, workers, 10.0).value == 0.8


def test_what_orchestration_costs_is_told_by_when_the_actor_is_called() -> None:
    from tests.benchmarks.orchestration import gaps_s

    calls = [("a", 1.0), ("a", 1.5), ("a", 1.75), ("b", 4.75), ("b", 5.25), ("c", 6.25)]
    assert gaps_s(calls) == (0.5, 2.0)


def test_a_stage_alone_loads_torch_no_earlier_than_an_actor_does() -> None:
    code = "import sys, tests.benchmarks.stages, tests.benchmarks.__main__; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_what_others_measure_says_its_goal_and_unit_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        f"I-frames {gop} apart: {what}": value
        for gop in ("1 s", "10 s")
        for what, value in {
            "decoding all against the spans (goal at least 3.5)": 3.4,
            "bird-time outside the spans, % (goal at most 1)": 0.5,
            "frames decoded against those needed (goal at most 1.03)": 1.04,
            "shortest visit, s": 2.3,
        }.items()
    }
    monkeypatch.setitem(sys.modules, "tests.benchmarks.skipping", SimpleNamespace(rows=lambda: found))
    rows = list(SECTIONS["skipping"].measure(Bench(Path("nowhere"), QUICK)))
    assert [row.unit for row in rows] == ["ratio", "%", "ratio", "s"] * 2
    assert [row.verdict for row in rows[:4]] == [
        "at least 3.5: MISSED",
        "at most 1: met",
        "at most 1.03: MISSED",
        "",
    ]
    assert [row.verdict for row in rows[4:]] == ["", "", "at most 1.03: MISSED", ""]
    assert rows[1].name == "I-frames 1 s apart: bird-time outside the spans"


def test_rows_of_both_kinds_of_files_become_lines_of_one_table(tmp_path: Path) -> None:
    cpu = {
        "machine": {"processor": "one", "gpu": "none"},
        "rows": [
            {
                "section": "run",
                "name": "a|b",
                "value": 0.8,
                "unit": "ratio",
                "goal": "at least 0.9",
                "met": False,
            },
            {
                "section": "queries",
                "name": "events",
                "value": 0.25,
                "unit": "s",
                "goal": "at most 2",
                "met": True,
            },
        ],
        "failed": ["skipping: OSError: no"],
    }
    gpu = {
        "machine": {"gpu": "H1"},
        "rows": [
            {"row": "ceilings", "flops_per_s": 7.5e14, "bytes_per_s": 4.2e12},
            {"row": "r50, 32 clips", "clips_per_s": 482.1, "share_of_roofline": 0.143, "batch": 32},
            {"row": "training step", "plain_s": 0.5, "forward_share": 0.2, "ratios": {"lgh": 1.5}},
        ],
        "skipped": [],
    }
    assert list(report_rows("cpu", cpu)) == [
        "| cpu | run | a/b | 0.8 | **at least 0.9: missed** |",
        "| cpu | queries | events | 0.25 s | at most 2: met |",
    ]
    assert list(report_rows("gpu", gpu)) == [
        "| gpu | GPU | ceilings | 750 TFLOP/s, 4.20 TB/s |  |",
        "| gpu | GPU | r50, 32 clips | 482 clips/s, 14% of the roofline |  |",
        "| gpu | GPU | training step | 0.5 s |  |",
        "| gpu | GPU | training step: lgh | 1.50 |  |",
    ]
    assert machine_line("cpu.json", cpu) == (
        "- [cpu.json](cpu.json): processor one. Not measured: skipping: OSError: no."
    )
    for name, report in {"cpu.json": cpu, "gpu.json": gpu}.items():
        (tmp_path / name).write_text(json.dumps(report))
    page = tmp_path / "README.md"
    with pytest.raises(ValueError, match="the page needs the lines"):
        with_table("no marks", "")
    page.write_text(with_table(DOCS_HERE.joinpath("README.md").read_text(), "old"))
    assert write_table(["--docs", str(tmp_path), "--check"]) == 1
    assert write_table(["--docs", str(tmp_path)]) == 0
    assert write_table(["--docs", str(tmp_path), "--check"]) == 0
    assert "| gpu | GPU | ceilings |" in page.read_text()


def test_figures_of_a_quick_run_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(json.dumps({"machine": {}, "rows": [], "quick": True}))
    with pytest.raises(ValueError, match=r"bench\.json: of a quick run"):
        table_of(tmp_path)


def test_the_table_in_the_documentation_is_what_the_files_say() -> None:
    assert write_table(["--docs", str(DOCS_HERE), "--check"]) == 0, "run make bench-table"
