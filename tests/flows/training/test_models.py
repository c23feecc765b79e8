from __future__ import annotations

import json
import sys

import pytest

from flows.cli import main
from flows.training.models import describe_models, paper_variant, survey_models


def test_the_papers_figure_is_the_undilated_8x8_at_256() -> None:
    variant = paper_variant()
    assert (variant.architecture, variant.size, variant.dilated_res5) == ("slowfast_r50_8x8", 256, False)
    assert variant.gmacs == pytest.approx(65.71, abs=0.005)


def test_json_has_what_table_6_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "slowfast_r50", "slowfast_small", "--no-speed", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    r50, small = document["models"]
    assert r50["backbone_parameters_m"] == pytest.approx(33.64, abs=0.01)
    assert r50["gmacs_square"] == pytest.approx(48.44, abs=0.01)
    assert (r50["channels"], r50["slow_frames"], r50["frames"]) == (2304, 4, 16)
    assert (small["height"], small["width"], small["clips_per_s"]) == (160, 288, None)
    assert "ava_slowfast_8x8_r50" in r50["weights"]
    assert small["weights"] == []
    assert {"name", "url", "layout", "file_name"} <= document["published_weights"][0].keys()


def test_speed_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.training.models.clips_per_second", lambda *_, **__: 2.5)
    survey = survey_models(["slowfast_r50_8x8"], speed=True)
    assert survey.models[0].frames_per_s == 80.0
    row = describe_models(survey).splitlines()[1].split()
    expected = "slowfast_r50_8x8 33.64 38.98 169.55 96.89 0.005 2.50 80.0 2304 8/32 256x448"
    assert " ".join(row) == expected


def test_a_missing_extra_leaves_a_row_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    text = describe_models(survey_models(["videomae_base"], speed=False))
    assert "pip install -e '.[videomae]'" in text
    assert text.splitlines()[1].split()[1:6] == ["-"] * 5


def test_an_unknown_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "resnet9"]) == 1
    assert capsys.readouterr().err.startswith("aviaflow: unknown architecture 'resnet9'")
