"""From a VIA 3 project of three made-up behaviours to a checkpoint, its scores, and a run with it: a few steps only,
so that nothing here says how well anything is learnt.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest

from flows.cli import main
from flows.settings import Settings, load_settings
from model.checkpoint import load_checkpoint

NAMES = ("peck", "doze", "soar")
VIDEOS = [f"lake/cam{1 + k // 5}/cam{1 + k // 5}_20260301T060{k}00Z.mp4" for k in range(10)]
WIDTH, HEIGHT, FRAMES = 160, 96, 30
ETHOGRAM = """
name: made up
taxon: Avis ficta
behaviours:
  - {name: peck, colour: "#4daf4a"}
  - {name: doze, colour: "#377eb8", rule: {min_bout_s: 0.5}}
  - {name: soar, colour: "#a65628"}
"""
TRAIN = """
ethogram: ethogram.yaml
initial: embedded
batch_norm: frozen
clips: 4
batch_clips: 2
frame_height: 96
threads: 1
device: cpu
optimizer: {warmup_steps: 1, learning_rate: 0.0001}
"""
RUN = """
ethogram: ethogram.yaml
infer: {checkpoint: RUN/weights.safetensors}
detect: {detector: given, boxes_csv: DATA/truth/boxes.csv}
survey: {skip_empty: false}
decode: {frame_height: 96}
"""


def bird_x(frame: int) -> int:
    """Left edge of the bird in pixels: it stands for a second, then goes right."""
    return 20 + 3 * max(0, frame - FRAMES // 2)


def write_recording(path: Path, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = rng.integers(90, 150, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15, options={"threads": "1", "g": "15"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number in range(FRAMES):
            image = scene.copy()
            image[30:70, bird_x(number) : bird_x(number) + 24] = (235, 235, 230)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def annotate(view: int) -> dict[str, Any]:
    """The bird pecks, dozes and soars at three keyframes of one recording."""
    entries = {}
    for k, frame in enumerate((4, 12, 24)):
        values = {"1": str(k), "2": "A", "3": str(int(k == 2))}
        entries[f"{view}_{k}"] = (str(view), [frame / 15], [2, bird_x(frame), 30, 24, 40], values)
    return entries


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(3)
    for video in VIDEOS:
        write_recording(root / "recordings" / video, rng)
    for name, text in (("ethogram", ETHOGRAM), ("train", TRAIN), ("run", RUN)):
        (root / f"{name}.yaml").write_text(text)
    return root


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Run a command; its exit status and its JSON document, or its line on stderr."""

    def call(*arguments: object) -> tuple[int, Any]:
        status = main([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if captured.out else captured.err.strip().splitlines()[-1]

    return call


def test_from_a_via_project_to_a_run_of_the_own_behaviours(
    folder: Path,
    told: Callable[..., tuple[int, Any]],
    write_via: Callable[..., Path],
    cluster: int,
    run: Callable[[Path, Path, Settings], dict[str, Any]],
    rows: Callable[[Path, str], pd.DataFrame],
    tmp_path: Path,
) -> None:
    data, weights = folder / "DATA", folder / "RUN" / "weights.safetensors"
    boxes = {key: entry for view in range(1, 11) for key, entry in annotate(view).items()}
    project = write_via(folder / "anna.json", [Path(video).name for video in VIDEOS], NAMES, boxes)
    own = ("--ethogram", folder / "ethogram.yaml")
    status, made = told("annotations", project, "--archive", folder / "recordings", "--out", data, *own)
    assert (status, made["boxes"], made["defects"]) == (0, 30, [])

    # Weights of the crane's six behaviours, and the crane's ethogram, do not fit these labels.
    status, said = told("train", "--data", data, "--out", folder / "NONE")
    assert (status, "annotated for peck, doze, soar, but the ethogram 'wintering crane' has" in said) == (
        1,
        True,
    )
    status, said = told("evaluate", "--reserve", data, "--part", "test")
    assert (status, "was trained for feeding, vigilance," in said, "is of peck, doze, soar" in said) == (
        1,
        True,
        True,
    )

    status, trained = told(
        "train", "--config", folder / "train.yaml", "--data", data, "--out", folder / "RUN"
    )
    assert (status, trained["steps"], trained["videos"]) == (0, 2, 8)
    for part in ("validation", "scores"):
        assert trained[part]["instances"] == {"peck": 1, "doze": 1, "soar": 1}
    network, info = load_checkpoint(weights)
    assert (network.behaviours, info.ethogram) == (NAMES, "made up")
    assert info.trained_on == "trained on DATA, from weights trained on simulated birds"

    # At the height of frames at which it learnt: at another one the pixels differ, and so may what is strongest.
    pixels = ("--config", folder / "run.yaml")
    evaluated = ("evaluate", weights, "--reserve", data, *pixels, "--every", 1, "--part")
    status, scores = told(*evaluated, "test")
    assert (status, scores["videos"], scores["keyframes"], scores["part"]) == (0, 1, 3, "test")
    assert scores["true_boxes"]["confusion"] == trained["scores"]["confusion"]

    settings = load_settings(folder / "run.yaml")
    summary = run(data / "archive", tmp_path / "store", settings)
    assert {video["status"] for video in summary["videos"]} == {"done"}
    detections = rows(tmp_path / "store", "detections")
    assert len(detections) == 30
    events = rows(tmp_path / "store", "events")
    assert set(events["behaviour"]) <= {*NAMES, "unscored", "not_visible", "other"}

    (folder / "crane.yaml").write_text("infer: {checkpoint: RUN/weights.safetensors}\n")
    status, said = told(
        "run", data / "archive", "--out", tmp_path / "other", "--config", folder / "crane.yaml"
    )
    assert status == 1
    assert "the ethogram has feeding, vigilance, " in said
    assert "weights.safetensors was trained for peck, doze, soar; use the model's ethogram" in said
    assert not list((tmp_path / "other").rglob("*.parquet"))

    check_split_errors(data, folder, told)


def check_split_errors(data: Path, folder: Path, told: Callable[..., tuple[int, Any]]) -> None:
    """A row of the split is lost: neither training nor evaluation goes on."""
    split = data / "split.csv"
    with split.open() as file:
        lost = next(row["video_id"] for row in csv.DictReader(file) if row["part"] == "train")
    kept = [line for line in split.read_text().splitlines() if not line.startswith(lost)]
    split.write_text("\n".join(kept) + "\n")
    for command in (
        ("train", "--config", folder / "train.yaml", "--data", data, "--out", folder / "RUN"),
        ("evaluate", folder / "RUN" / "weights.safetensors", "--reserve", data),
    ):
        status, said = told(*command)
        assert status == 1
        assert f"{split}: no part is given for {lost}, of which" in said
        assert "add a row, or make truth and split anew with 'aviaflow annotations'" in said
    split.unlink()
    status, said = told(
        "evaluate", folder / "RUN" / "weights.safetensors", "--reserve", data, "--part", "test"
    )
    assert (status, f"{split}: there is no such file, so there is no part 'test'" in said) == (1, True)
