"""From true boxes and their scores to series that a refiner learns from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows import cli
from flows.annotations.labelled import write_split
from flows.evaluation.instances import WindowScores
from flows.training.refiner import RefinerRequest, Source, _sources, confusion, labelled_series
from flows.training.refiner_card import RefinerCard, write_card
from model.checkpoint import embedded_checkpoint, load_checkpoint
from model.refiner import Refiner, RefinerInfo, RefinerShape, load_refiner
from model.refiner_training import UNKNOWN, RefinerRecipe
from workers.clips import WindowSet
from workers.simulate.archive import simulate_archive

BOX = [0.4, 0.5, 0.5, 0.7]


@pytest.fixture
def windows() -> WindowSet:
    """Two videos of three keyframes. In the first, birds 7 and 9 and a deer; in the second, another bird 7."""
    boxes = [  # video, keyframe, individual, label, learnable
        (0, 0, "7", 0, True),
        (0, 0, "9", 1, True),
        (0, 1, "7", 0, False),
        (0, 1, "", -1, False),
        (0, 3, "7", 1, True),
        (1, 2, "7", 1, True),
    ]
    moments = sorted({box[:2] for box in boxes})
    per_moment = [sum(box[:2] == moment for box in boxes) for moment in moments]
    label = np.array([box[3] for box in boxes])
    return WindowSet(
        frames=np.zeros((2, 8, 12, 3), np.uint8),
        video_start=np.array([0, 1, 2]),
        light=np.array(["day", "day"]),
        video=np.array([video for video, _ in moments]),
        grid=np.array([4 * keyframe for _, keyframe in moments]),
        box_start=np.concatenate([[0], np.cumsum(per_moment)]),
        xyxy=np.array([BOX] * len(boxes), np.float32),
        label=label,
        dynamic=np.zeros(len(boxes), np.int64),
        learnable=np.array([box[4] for box in boxes]),
        other=label < 0,
        individual=np.array([box[2] for box in boxes]),
    )


@pytest.fixture
def scores(windows: WindowSet) -> WindowScores:
    """The first behaviour is always the likelier one; in the order in which a network would give them."""
    count = len(windows.label)
    return WindowScores(
        row=np.arange(count),
        probabilities=np.tile(np.array([0.7, 0.4], np.float32), (count, 1)),
        p_other=np.zeros(count, np.float32),
        p_dynamic=np.full(count, 0.5, np.float32),
    )


def test_each_individual_of_each_video_is_a_series(windows: WindowSet, scores: WindowScores) -> None:
    series = labelled_series(windows, scores)
    assert [one.label.tolist() for one in series] == [[0, UNKNOWN, UNKNOWN, 1], [1], [1]]
    assert series[0].channels[-1].tolist() == [1, 1, 0, 1]


def test_confusion_counts_learnable_boxes_of_birds(windows: WindowSet, scores: WindowScores) -> None:
    assert confusion(windows, scores, None).tolist() == [[1, 0], [3, 0]]
    shape = RefinerShape(4, 1)
    tensors = {name: np.zeros(size, np.float32) for name, size in shape.tensors(2).items()}
    tensors["leave.bias"][:, 1] = 20.0
    always_second = Refiner(shape, tensors)
    assert confusion(windows, scores, always_second).tolist() == [[0, 1], [0, 3]]


def test_the_card_says_what_changed_and_on_what_it_was_trained(tmp_path: Path) -> None:
    info = RefinerInfo(RefinerShape(), ("stand", "walk"), "c" * 64, "simulated birds", "d" * 64)
    card = RefinerCard(
        info, RefinerRecipe(), 1234, 5, 600, 1.0, 2, [[6, 2], [1, 1]], [[8, 0], [1, 1]], "python -m x"
    )
    write_card(card, tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text()
    assert "Trained on simulated birds only" in text
    assert "right at 70.0%" in text.replace("\n", " ")
    assert "| stand | 8 | 75.0 → 100.0 | 25.0 → 0.0 |" in text


def test_the_command_teaches_one_for_a_checkpoint_and_writes_its_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate_archive(tmp_path / "data", videos=2, seconds=4, seed=31, videos_per_camera=1, workers=1)
    out = tmp_path / "RUN" / "refiner.safetensors"
    folders = ["--data", str(tmp_path / "data"), "--test", str(tmp_path / "data"), "--out", str(out)]
    assert cli.main(["train-refiner", *folders, "--steps", "3", "--json", "--frame-height", "108"]) == 0
    printed = json.loads(capsys.readouterr().out)
    refiner, info = load_refiner(out)
    assert info.digest == printed["digest"]
    assert info.reads == load_checkpoint(embedded_checkpoint())[1].digest
    assert (info.trained_on, refiner.shape) == ("simulated birds", RefinerShape())
    assert sum(map(sum, printed["after"])) == sum(map(sum, printed["before"])) > 50
    assert "3 steps of 16 stretches" in " ".join(out.with_suffix(".CARD.md").read_text().split())
    assert list((tmp_path / "RUN" / "refiner" / "windows").glob("*/scores-*.npz"))


def refused(capsys: pytest.CaptureFixture[str], *options: object) -> str:
    """The one line that the command says; it must not come to scoring."""
    assert cli.main(["train-refiner", *map(str, options)]) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("aviaflow: ")]
    return line


def test_what_a_refiner_cannot_learn_from_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.training.refiner.score_all", lambda *_: pytest.fail("it was scored"))
    data, out = tmp_path / "data", tmp_path / "refiner.safetensors"
    simulate_archive(data, videos=1, seconds=3, seed=31, videos_per_camera=1, workers=1)
    assert f"--out {tmp_path}: this is a folder" in refused(capsys, "--data", data, "--out", tmp_path)
    assert f"{data / 'split.csv'}: there is no such file" in refused(capsys, "--data", data, "--out", out)
    both = ["--data", data, "--test", data, "--out", out]
    assert "frame_height: Input should be a multiple of 2" in refused(capsys, *both, "--frame-height", 109)
    said = data / "truth" / "reserve.json"
    simulated = json.loads(said.read_text())
    said.write_text(json.dumps({**simulated, "behaviours": ["peck", "doze", "soar"]}))
    assert "annotated for peck, doze, soar, but" in refused(capsys, *both)
    said.write_text(json.dumps(simulated))
    boxes = data / "truth" / "boxes.csv"
    rows = [line.split(",") for line in boxes.read_text().splitlines()]
    boxes.write_text("".join(",".join([*row[:7], "", *row[8:]]) + "\n" for row in rows))
    assert f"{boxes}: no box has an individual" in refused(capsys, *both)


def test_of_a_split_the_training_part_is_never_learned_from(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    simulate_archive(data, videos=1, seconds=3, seed=31, videos_per_camera=1, workers=1)
    (video,) = {line.split(",")[0] for line in (data / "truth" / "boxes.csv").read_text().splitlines()}
    request = RefinerRequest(
        embedded_checkpoint(), data, other, tmp_path / "r", tmp_path, RefinerRecipe(), command="x"
    )
    assert _sources(request, print) == (Source(data), Source(other))
    write_split(data / "split.csv", {video: "train"}, {})
    assert _sources(request, print) == (Source(data, "validation"), Source(other))
    alone = replace(request, test=None)
    assert _sources(alone, print) == (Source(data, "validation"), Source(data, "test"))
