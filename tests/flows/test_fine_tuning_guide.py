"""What ``docs/fine-tuning.md`` shows can be typed: its YAML is understood, and so are its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from flows import cli
from flows.settings import load_ethogram, load_settings, load_train_settings
from storage.formats.via import ROLES

GUIDE = (Path(__file__).parents[2] / "docs" / "fine-tuning.md").read_text(encoding="utf-8")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The guide's YAML files, each named in its first line."""
    for text in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL):
        (tmp_path / text.splitlines()[0].removeprefix("# ")).write_text(text)
    return tmp_path


def test_its_files_are_understood(files: Path) -> None:
    assert sorted(file.name for file in files.iterdir()) == [
        "ducks.yaml",
        "refined.yaml",
        "run.yaml",
        "train.yaml",
        "train_r50.yaml",
    ]
    assert load_ethogram(files / "ducks.yaml").names == ("peck", "doze", "soar")
    train = load_train_settings(files / "train.yaml")
    assert (train.ethogram, train.batch_norm) == (files / "ducks.yaml", "frozen")
    published = load_train_settings(files / "train_r50.yaml").initial
    assert published is not None
    assert published.file == files / "SLOWFAST_8x8_R50.pyth"
    run = load_settings(files / "run.yaml")
    assert run.infer.checkpoint == files / "RUN" / "weights.safetensors"
    assert run.detect.weights == files / "RUN" / "detector.safetensors"
    refined = load_settings(files / "refined.yaml")
    assert refined.segment.refiner == files / "RUN" / "refiner.safetensors"


def test_its_commands_are_understood() -> None:
    commands = re.findall(r"^aviaflow .*$", GUIDE, re.MULTILINE)
    assert len(commands) == 10
    for command in commands:
        arguments = cli._parser().parse_args(shlex.split(command)[1:])
        assert callable(arguments.command), command


def test_the_attributes_that_it_names_are_read() -> None:
    named = re.findall(r"^\| `(\w+)`", GUIDE, re.MULTILINE)
    assert [ROLES[name] for name in named] == ["behaviour", "individual", "motion", "behaviour"]
