from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from flows.commands.replay import STAGES
from flows.errors import SettingsError
from flows.replay.run import replay
from flows.settings import Settings


def test_every_stage_says_again_what_is_stored(first_run: tuple[Path, dict[str, Any]], reserve: Path) -> None:
    store, _ = first_run
    found = replay(STAGES, str(store), str(reserve / "archive"), Settings())
    assert [one.stage for one in found] == list(STAGES)
    assert all(one.items for one in found)
    assert [one.examples for one in found if one.different] == []


def test_what_differs_is_named(
    first_run: tuple[Path, dict[str, Any]], reserve: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store, _ = first_run
    config = tmp_path / "config.yaml"
    config.write_text("detect: {detector: motion}\n")  # which sees no bird that rests
    command = [
        "replay",
        "detect",
        "--store",
        str(store),
        "--archive",
        str(reserve / "archive"),
        "--videos",
        "1",
    ]
    assert main([*command, "--config", str(config), "--json"]) == 1
    (detect,) = json.loads(capsys.readouterr().out)
    assert 0 < detect["different"] <= detect["items"]
    assert "cam01_" in detect["examples"][0]
    assert " s: " in detect["examples"][0]


def test_tables_need_no_videos(first_run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    store = Path(shutil.copytree(first_run[0], tmp_path / "store"))
    found = replay(["track", "segment"], str(store), None, Settings())
    assert [(one.stage, one.different) for one in found] == [("track", 0), ("segment", 0)]
    with pytest.raises(SettingsError, match="infer need the videos: name them with --archive"):
        replay(["infer"], str(store), None, Settings())


def test_a_camera_day_that_a_killed_run_left_unfinished_is_passed_over(
    first_run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(first_run[0], store)
    shutil.rmtree(store / "events")
    assert [stage.items for stage in replay(["track", "segment"], str(store), None, Settings())] == [0, 0]
