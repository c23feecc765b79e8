import json
import math

import av
import numpy as np
import pytest

from flows.training.detector import choose_moments, collect_keyframes, list_cameras, train
from flows.training.detector_card import DetectorCard, Sample, ScoreRow, render_card, score_table
from model.detector import DetectorInfo, DetectorShape, load_detector
from model.detector_augment import FrameTruth
from model.detector_training import BoxCounts, DetectorRecipe
from workers.errors import BadTruthError

TINY = DetectorShape(
    stem_channels=4, stage_channels=(6, 10), stage_blocks=(0, 1), head_channels=16, shared_convs=1
)
FPS, SECONDS = 30, 4
BIRD = (0.25, 0.3, 0.5, 0.8)
"""A white rectangle that every video shows from 1 s on, as fractions of the frame."""


def write_video(path, width=160, height=96):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(FPS * SECONDS):
            picture = np.full((height, width, 3), 60, np.uint8)
            if number >= FPS:
                x1, y1, x2, y2 = (np.array(BIRD) * [width, height, width, height]).astype(int)
                picture[y1:y2, x1:x2] = 240
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def reserve(tmp_path_factory):
    """Two cameras of one video each: a bird that rests in cam01 and moves in cam02, which is infrared."""
    root = tmp_path_factory.mktemp("reserve")
    videos = [f"site/cam0{n}/cam0{n}_20260101T00000{n}Z.mp4" for n in (1, 2)]
    rows = []
    for video in videos:
        write_video(root / "archive" / video)
        for step in range(4, 15):  # from 1.07 s on
            covered = 0.9 if step == 4 else 0.0
            stamp = f"{step * 4 / 15:.6f}"
            moves = int("cam02" in video and step == 14)
            rows.append(",".join(map(str, (video, stamp, *BIRD, 4, 7, moves, covered, 1.0))))
    truth = root / "truth"
    truth.mkdir()
    (truth / "boxes.csv").write_text("\n".join(rows) + "\n")
    cameras = [{"camera": "cam01", "light": "day"}, {"camera": "cam02", "light": "infrared"}]
    (truth / "reserve.json").write_text(json.dumps({"cameras": cameras}))
    return root


@pytest.fixture(autouse=True)
def short_rest(monkeypatch):
    """Eleven keyframes are a long time in these videos."""
    monkeypatch.setattr("flows.training.detector.RESTING_KEYFRAMES", 11)


def test_keyframes_come_with_their_birds(reserve, tmp_path):
    cameras = list_cameras(reserve)
    assert list(cameras) == ["site/cam01", "site/cam02"]
    videos = [video for names in cameras.values() for video in names]
    keyframes = collect_keyframes(reserve, videos, 2 * 15, seed=1, cache=tmp_path)
    assert keyframes.frames.shape == (30, 216, 360, 3)
    assert [len(truth.ignored) for truth in keyframes.truths] == ([0] * 4 + [1] * 11) * 2
    assert [bool(truth.ignored.any()) for truth in keyframes.truths[:6]] == [False] * 4 + [True, False]
    assert keyframes.truths[5].xyxy_px.tolist() == [pytest.approx([90, 64.8, 180, 172.8], abs=0.01)]
    assert keyframes.infrared.tolist() == [False] * 15 + [True] * 15
    assert keyframes.resting[5].tolist() == [True]
    assert keyframes.resting[20].tolist() == [False]
    for frame, truth in zip(keyframes.frames, keyframes.truths, strict=True):
        middle = frame[120, 135].mean()
        assert middle > 200 if len(truth.ignored) else middle < 100


def test_where_there_are_many_moments_few_empty_ones_are_taken():
    truth = dict.fromkeys(range(40, 80, 4), ())
    chosen = choose_moments(range(0, 400, 4), truth, 8, np.random.default_rng(0))
    assert len(set(chosen)) == 8
    assert sum(moment in truth for moment in chosen) == 7
    more = choose_moments(range(0, 400, 4), truth, 50, np.random.default_rng(0))
    assert len(set(more)) == 50
    assert sum(moment in truth for moment in more) == 10
    assert choose_moments(range(0, 12, 4), truth, 8, np.random.default_rng(0)) == [0, 4, 8]


def test_training_writes_weights_and_a_card_with_their_figures(reserve, tmp_path):
    recipe = DetectorRecipe(frame_budget=24, batch_size=4, warmup_steps=2)
    card = train(reserve, tmp_path, reserve, recipe, TINY, keyframes=10)
    _, info = load_detector(tmp_path / "crane_detector.safetensors")
    text = (tmp_path / "crane_detector.CARD.md").read_text()
    assert info == card.info
    assert info.digest in text
    assert "Trained on simulated birds only" in text
    assert (card.cameras, card.keyframes) == (1, 10)
    assert [row.counts.truth for row in card.scores] == [20, 10, 10, 10]


def test_archive_without_boxes_is_refused(tmp_path):
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "boxes.csv").write_text("")
    with pytest.raises(BadTruthError, match=r"boxes\.csv has no boxes"):
        list_cameras(tmp_path)


# --- figures


def small_sample():
    """By day two birds, one resting, both found, and a wrong box; by night one found with a low score."""
    sample = Sample()
    truth = FrameTruth(np.array([[0, 0, 10, 20], [50, 0, 60, 20]], np.float32), np.array([False, False]))
    boxes = np.array([[50, 0, 60, 20], [0, 0, 10, 20], [90, 0, 99, 9]], np.float32)
    sample.add(boxes, np.array([0.9, 0.8, 0.7], np.float32), truth, np.array([True, False]), infrared=False)
    night = FrameTruth(truth.xyxy_px, np.array([False, True]))
    sample.add(boxes[1:2], np.array([0.4], np.float32), night, np.array([False, False]), infrared=True)
    return sample


def test_figures_by_light_and_of_birds_that_never_move():
    rows = {row.name: row.counts for row in score_table(small_sample(), 0.3)}
    assert rows == {
        "all": BoxCounts(3, 3, 1),
        "day and dim light": BoxCounts(2, 2, 1),
        "infrared": BoxCounts(1, 1, 0),
        "birds at rest throughout": BoxCounts(1, 1, 0),
    }


def test_higher_least_score_leaves_boxes_out():
    sample = small_sample()
    assert sample.counts(0.75) == BoxCounts(3, 2, 0)
    assert sample.counts(0.85) == BoxCounts(3, 1, 0)
    assert sample.resting_counts(0.95) == BoxCounts(1, 0, 0)


def test_card_shows_the_figures_and_no_precision_where_there_is_none():
    info = DetectorInfo(TINY, "simulated birds", 0.44, 0.55, "ab" * 32)
    rows = (
        ScoreRow("all", BoxCounts(8, 6, 2), True),
        ScoreRow("birds at rest throughout", BoxCounts(4, 1, 0), False),
    )
    card = DetectorCard(info, DetectorRecipe(), 1_300_000, 2_600_000, 9, 100, 800, 12.0, 1, "seed 5", rows)
    text = render_card(card)
    assert "| all | 8 | 0.750 | 0.750 |" in text
    assert "| birds at rest throughout | 4 | 0.250 |  |" in text
    assert "score 0.44" in text
    assert "12 minutes on 1 CPU thread." in text
    assert math.isnan(BoxCounts(0, 0, 0).recall)
