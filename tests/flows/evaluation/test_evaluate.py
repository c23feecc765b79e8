from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from flows import cli
from flows.errors import SettingsError, TruthMissingError
from flows.evaluation.evaluate import EvaluationReport, evaluate_reserve
from flows.evaluation.found_boxes import find_boxes
from flows.evaluation.instances import evaluate
from flows.evaluation.report import describe_evaluation, report_json, write_report
from flows.evaluation.reserve import open_reserve, reserve_windows
from model.checkpoint import embedded_checkpoint, load_checkpoint, save_checkpoint
from model.network import ActionNetwork
from workers.messages import Boxes, Keyframes, Plate, Scores
from workers.simulate.archive import simulate_archive

EVERY = 3


@pytest.fixture(scope="module")
def reserve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cameras of 4 s."""
    root = tmp_path_factory.mktemp("reserve")
    simulate_archive(root, videos=2, seconds=4, seed=31, videos_per_camera=1, workers=1)
    return root


@pytest.fixture(scope="module")
def report(reserve: Path) -> EvaluationReport:
    return evaluate_reserve(embedded_checkpoint(), reserve, every=EVERY)


def test_boxes_are_found_as_a_run_with_that_configuration_finds_them(
    reserve: Path, report: EvaluationReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.detector == "auto: a detector trained on simulated birds, and motion"
    config = tmp_path / "run.yaml"
    config.write_text(
        f"detect: {{detector: given, boxes_csv: {reserve / 'truth' / 'boxes.csv'}}}\ndecode: {{frame_height: 144}}\n"
    )
    command = [
        "evaluate",
        "--reserve",
        str(reserve),
        "--every",
        str(EVERY),
        "--config",
        str(config),
        "--json",
    ]
    assert cli.main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["detector"] == "given"
    assert found["box_recall"] == 1.0


def test_the_three_scores_of_a_reserve(reserve: Path, report: EvaluationReport) -> None:
    assert list(report.scores) == ["paper_map", "frame_map_true", "frame_map_detected"]
    # 4 s are 60 or 61 grid points, of which every twelfth is judged, whether or not something is there.
    assert report.keyframes in (10, 11, 12)
    assert report.trained_on == "trained on simulated birds"
    assert report.simulated
    network, info = load_checkpoint(embedded_checkpoint())
    opened = open_reserve(reserve)
    with reserve_windows(opened, info.input_height) as windows:
        plain = evaluate(network, windows, every=1)
        keyframes = opened.keyframes(windows, EVERY)
        assert (windows.grid[keyframes] % (4 * EVERY) == 0).all()
        assert len(keyframes) >= len(windows.grid) // EVERY
    paper = report.scores["paper_map"]["all"]
    assert paper.videos == 2
    assert sum(paper.instances.values()) == sum(map(sum, report.true_boxes.confusion))
    assert sum(paper.instances.values()) < sum(plain.instances.values())
    for light in ("day and dim light", "infrared"):
        assert report.scores["paper_map"][light].mean.value == pytest.approx(
            report.true_boxes.mean_average_precision[light]
        )
    assert report.box_recall is not None
    assert report.box_recall > 0.5
    detected, given = (
        report.scores[key]["all"].mean.value for key in ("frame_map_detected", "frame_map_true")
    )
    assert detected is not None
    assert given is not None
    assert 0.3 < detected < given


def test_windows_are_cut_for_the_time_being_and_leave_nothing_behind(reserve: Path, tmp_path: Path) -> None:
    opened = open_reserve(reserve)
    with reserve_windows(opened, 160, scratch=tmp_path) as windows:
        assert windows.frames.shape[1] == 160
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    assert not (reserve / "windows").exists()


def test_report_files_hold_what_the_report_says(report: EvaluationReport, tmp_path: Path) -> None:
    files = write_report(report, tmp_path / "new")
    assert len(files) == 5
    assert set(files) == set((tmp_path / "new").iterdir())
    document = json.loads((tmp_path / "new" / "evaluation.json").read_text())
    assert document == json.loads(json.dumps(report_json(report), allow_nan=False))
    with (tmp_path / "new" / "average_precision.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 3 * (len(report.behaviours) + 1)
    mean = next(
        r for r in rows if (r["score"], r["lighting"], r["behaviour"]) == ("paper_map", "all", "mean")
    )
    estimate = report.scores["paper_map"]["all"].mean
    assert [float(mean[key]) for key in ("average_precision", "low_95", "high_95")] == pytest.approx(
        [estimate.value, estimate.low, estimate.high]
    )
    with (tmp_path / "new" / "confusion.csv").open() as file:
        confusion = list(csv.DictReader(file))
    counts = [count for row in report.true_boxes.confusion for count in row]
    assert [int(row["instances"]) for row in confusion] == counts
    for name in ("confusion.png", "average_precision.png"):
        picture = cv2.imread(str(tmp_path / "new" / name))
        assert picture is not None
        assert picture.std() > 10


def test_what_has_no_value_is_null_in_the_document(report: EvaluationReport) -> None:
    nothing = dataclasses.replace(report.true_boxes, birds_rejected=None, motion_accuracy=None)
    without = dataclasses.replace(report, true_boxes=nothing, box_recall=float("nan"))
    assert "motion state right -; birds rejected -" in describe_evaluation(without)
    document = report_json(without)
    assert document["true_boxes"]["birds_rejected"] is None
    assert document["box_recall"] is None
    json.dumps(document, allow_nan=False)


def test_the_report_for_people(report: EvaluationReport) -> None:
    text = describe_evaluation(report)
    for word in (
        "every 3rd keyframe",
        "trained on simulated birds",
        "mean, infrared",
        "95 % interval",
        "social",
    ):
        assert word in text


def test_the_command_prints_one_document(
    report: EvaluationReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = {}

    def stand_in(checkpoint: Path, root: Path, **options: object) -> EvaluationReport:
        asked.update(options, checkpoint=checkpoint, root=root)
        return report

    monkeypatch.setattr("flows.evaluation.evaluate.evaluate_reserve", stand_in)
    assert cli.main(["evaluate", "--reserve", "somewhere", "--max-rows-per-image", "50", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["paper_map"]["all"]["videos"] == 2
    assert (asked["checkpoint"], asked["every"], asked["max_rows_per_image"]) == (
        embedded_checkpoint(),
        2,
        50,
    )
    out = tmp_path / "out"
    assert (
        cli.main(["evaluate", "mine.safetensors", "--reserve", "x", "--out", str(out), "--every", "1"]) == 0
    )
    assert asked["checkpoint"] == Path("mine.safetensors")
    assert f"written {out / 'confusion.png'}" in capsys.readouterr().out


def test_what_is_missing_is_named(reserve: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "--reserve", str(tmp_path)]) == 1
    assert f"{tmp_path / 'archive'}: there is no such file" in capsys.readouterr().err
    assert cli.main(["evaluate", "nowhere.safetensors", "--reserve", str(reserve)]) == 1
    assert "nowhere.safetensors: no such checkpoint" in capsys.readouterr().err
    with pytest.raises(TruthMissingError, match="no such file"):
        open_reserve(tmp_path)


def test_a_checkpoint_of_another_ethogram_is_refused(reserve: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.safetensors"
    save_checkpoint(ActionNetwork("slowfast_small", ("a", "b")), path, trained_on="nothing", ethogram="two")
    with pytest.raises(SettingsError, match=r"knows 2 behaviours \(a, b\), the truth has label"):
        evaluate_reserve(path, reserve)


class OneBox:
    """Finds one box in every keyframe, and remembers which frames it was shown."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def build(self, device: str) -> OneBox:
        return self

    def detect(self, keyframes: Keyframes, plates: tuple[Plate, ...]) -> list[Boxes]:
        self.shown += [grey(frame) for frame in keyframes.frames]
        box = np.array([[0.1, 0.1, 0.4, 0.9]], np.float32)
        return [Boxes(box, np.ones(1, np.float32)) for _ in keyframes.frames]


class Echo:
    """Scores every box with the number of its keyframe, and rejects every third."""

    def __init__(self, clip_frames: int) -> None:
        self.info = SimpleNamespace(behaviours=("number",), clip_frames=clip_frames)
        self.around: list[tuple[int, int]] = []
        """How many frames before and after each keyframe were at hand, of those that its clip has."""

    def score(self, frames: np.ndarray, centres: np.ndarray, boxes: Sequence[Boxes]) -> list[Scores]:
        half = self.info.clip_frames // 2
        self.around += [
            (min(half, int(centre)), min(half - 1, len(frames) - 1 - int(centre))) for centre in centres
        ]
        numbers = [grey(frames[centre]) for centre in centres]
        return [
            Scores(
                np.array([[number]], np.float32),
                np.array([0.9 if number % 3 == 0 else 0.1], np.float32),
                np.zeros(1, np.float32),
                np.zeros((1, 64), np.int8),
            )
            for number in numbers
        ]


def grey(frame: np.ndarray) -> int:
    """The number that a frame of the video below shows."""
    return round(float(frame.mean()))


@pytest.mark.parametrize("clip_frames", [16, 32])
def test_every_wanted_keyframe_is_looked_at_once_across_chunks(tmp_path: Path, clip_frames: int) -> None:
    path = tmp_path / "site" / "cam" / "cam_20250101T000000Z.mp4"
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15, options={"crf": "1", "g": "15"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.time_base = Fraction(1, 15)
        for number in range(150):
            image = np.full((64, 96, 3), number + 50, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    wanted = np.array([0, 4, 56, 57, 58, 64, 121, 140, 149])
    detector, scorer = OneBox(), Echo(clip_frames)
    found = find_boxes(
        tmp_path,
        scorer,  # type: ignore[arg-type]
        detector,  # type: ignore[arg-type]
        lambda uri, length: wanted[wanted < length],
        device="cpu",
        frame_height=64,
    )
    (boxes,) = found.values()
    assert [number - 50 for number in detector.shown] == pytest.approx(wanted, abs=1)
    assert boxes.keyframes == len(wanted)
    # Every clip lies within the frames at hand, but for those that reach beyond the video.
    half = clip_frames // 2
    assert scorer.around == [(min(half, grid), min(half - 1, 149 - grid)) for grid in wanted.tolist()]
    kept = [number % 3 != 0 for number in detector.shown]
    assert boxes.grid.tolist() == wanted[kept].tolist()
    assert boxes.probabilities[:, 0].tolist() == [number for number in detector.shown if number % 3]
    assert boxes.xyxy.shape == (sum(kept), 4)
