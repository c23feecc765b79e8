import json
import math

import av
import numpy as np
import pytest
import torch

from flows import cli
from flows.errors import SplitFileError, TruthMissingError
from flows.training.detector import DetectorRequest, train
from flows.training.detector_card import DetectorCard, Sample, ScoreRow, render_card, score_table
from flows.training.detector_data import choose_moments, collect_keyframes, divide_videos
from model.detector import (
    DetectorInfo,
    DetectorShape,
    build_detector,
    load_detector,
    load_trainable,
    save_detector,
)
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
    (truth / "reserve.json").write_text(json.dumps({"simulated": True, "cameras": cameras}))
    return root


@pytest.fixture
def annotated(reserve, tmp_path):
    """The same recordings, of which people annotated four moments each, one of them beside the keyframes' grid."""
    root = tmp_path / "ducks"
    (root / "truth").mkdir(parents=True)
    (root / "archive").symlink_to(reserve / "archive")
    said = json.loads((reserve / "truth" / "reserve.json").read_text())
    names = ["a", "b", "c", "d"]
    (root / "truth" / "reserve.json").write_text(
        json.dumps({**said, "simulated": False, "behaviours": names})
    )
    rows = (reserve / "truth" / "boxes.csv").read_text().splitlines()
    kept = [row for row in rows if row.split(",")[1] in ("1.333333", "1.600000", "2.133333", "2.666667")]
    kept = [row.replace("2.133333", "2.200000") for row in kept]
    assert len(kept) == 8
    (root / "truth" / "boxes.csv").write_text("\n".join(kept) + "\n")
    return root


def write_split(root, parts):
    videos = sorted({row.split(",")[0] for row in (root / "truth" / "boxes.csv").read_text().splitlines()})
    rows = [f"{video},{part}" for video, part in zip(videos, parts, strict=True)]
    (root / "split.csv").write_text("\n".join(["video_id,part", *rows]) + "\n")
    return videos


@pytest.fixture(autouse=True)
def short_rest(monkeypatch):
    """Eleven keyframes are a long time in these videos."""
    monkeypatch.setattr("flows.training.detector_data.RESTING_KEYFRAMES", 11)


def test_keyframes_come_with_their_birds(reserve, tmp_path):
    parts = divide_videos(reserve)
    videos = (*parts.held, *parts.learned)
    assert [video.split("/")[1] for video in videos] == ["cam01", "cam02"]
    assert (parts.tested, parts.tested_on) == (parts.held, "1 camera kept out of the training")
    keyframes = collect_keyframes(reserve, videos, 2 * 15, seed=1, cache=tmp_path, frame_height=216)
    assert keyframes.frames.shape == (30, 96, 160, 3)  # never larger than the video, as in a run
    assert [len(truth.ignored) for truth in keyframes.truths] == ([0] * 4 + [1] * 11) * 2
    assert [bool(truth.ignored.any()) for truth in keyframes.truths[:6]] == [False] * 4 + [True, False]
    assert keyframes.truths[5].xyxy_px.tolist() == [pytest.approx([40, 28.8, 80, 76.8], abs=0.01)]
    assert keyframes.infrared.tolist() == [False] * 15 + [True] * 15
    assert keyframes.resting[5].tolist() == [True]
    assert keyframes.resting[20].tolist() == [False]
    for frame, truth in zip(keyframes.frames, keyframes.truths, strict=True):
        middle = frame[53, 60].mean()
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


def test_of_annotations_only_the_annotated_moments_are_taken(annotated, tmp_path):
    videos = divide_videos(annotated).learned
    keyframes = collect_keyframes(annotated, videos, 100, seed=1, cache=tmp_path, frame_height=96)
    assert keyframes.frames.shape == (4, 96, 160, 3)
    assert [len(truth.ignored) for truth in keyframes.truths] == [1] * 4
    assert not any(resting.any() for resting in keyframes.resting)


def test_a_split_is_kept_to(annotated):
    videos = write_split(annotated, ("validation", "train"))
    with pytest.raises(SplitFileError, match="no video is in the part 'test'"):
        divide_videos(annotated)
    third = videos[1].replace("cam02", "cam03")
    archive = annotated / "archive"
    recordings = archive.resolve()
    archive.unlink()
    for video, source in zip((*videos, third), (*videos, videos[1]), strict=True):
        (archive / video).parent.mkdir(parents=True)
        (archive / video).symlink_to(recordings / source)
    boxes, said = annotated / "truth" / "boxes.csv", annotated / "truth" / "reserve.json"
    boxes.write_text(
        boxes.read_text() + "".join(f"{row}\n".replace(videos[1], third) for row in rows_of(boxes, videos[1]))
    )
    cameras = [{"camera": f"cam0{n}", "light": "day"} for n in (1, 2, 3)]
    said.write_text(json.dumps({"simulated": False, "behaviours": ["a", "b", "c", "d"], "cameras": cameras}))
    write_split(annotated, ("validation", "train", "test"))
    parts = divide_videos(annotated)
    assert (parts.held, parts.learned, parts.tested) == ((videos[0],), (videos[1],), (third,))
    assert parts.tested_on == "the 1 video of the test part"


def rows_of(boxes, video):
    return [row for row in boxes.read_text().splitlines() if row.startswith(video)]


def test_training_writes_weights_and_a_card_with_their_figures(reserve, tmp_path):
    recipe = DetectorRecipe(frame_budget=24, batch_size=4, warmup_steps=2)
    out, lines = tmp_path / "detector.safetensors", []
    request = DetectorRequest(reserve, out, "aviaflow it", reserve, recipe=recipe, shape=TINY, keyframes=10)
    card = train(request, lines.append)
    _, info = load_detector(out)
    text = out.with_suffix(".CARD.md").read_text()
    assert info == card.info
    assert info.digest in text
    assert "Trained on simulated birds only" in text
    assert "`aviaflow it`" in text
    assert "frames of 96 lines, in\nwhich nine birds of ten are 48 to 48 pixels high" in text
    assert (card.videos, card.keyframes) == (1, 10)
    assert [row.counts.truth for row in card.scores] == [20, 10, 10, 10]
    assert any(line.startswith("step 6 of 6: ") for line in lines)


def test_a_training_is_the_same_each_time_but_for_where_it_starts(annotated, tmp_path):
    recipe = DetectorRecipe(frame_budget=4, batch_size=4, warmup_steps=1)

    def trained(name, **how):
        request = DetectorRequest(annotated, tmp_path / name, "", recipe=recipe, shape=TINY, **how)
        return train(request, lambda _: None).info

    once = trained("once")
    assert trained("again").digest == once.digest
    assert once.trained_on == "ducks"
    further = trained("further", initial=tmp_path / "once")
    assert further.digest != once.digest
    assert further.trained_on == "ducks, from weights trained on ducks"
    text = (tmp_path / "further.CARD.md").read_text()
    assert (
        "**Trained on ducks, from weights trained on ducks.** The figures below are of recordings like those"
        in text
    )


def test_weights_to_go_on_from_are_as_they_were_trained(tmp_path):
    detector = build_detector(TINY)
    save_detector(detector, tmp_path / "weights", TINY, "nothing", 0.3, 0.6)
    further, info = load_trainable(tmp_path / "weights")
    assert info.trained_on == "nothing"
    norms = [module for module in further.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms, "folded norms cannot be trained"
    assert all(parameter.requires_grad for parameter in further.parameters())


def test_the_command_goes_on_from_the_embedded_weights(annotated, tmp_path, capsys):
    out = tmp_path / "RUN" / "detector.safetensors"
    command = ["train-detector", "--data", str(annotated), "--out", str(out), "--initial", "embedded"]
    status = cli.main([*command, "--frames", "12", "--learning-rate", "0.0001", "--threads", "1", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert status == 0
    assert printed["trained_on"] == "ducks, from weights trained on simulated birds"
    assert printed["scores"]["all"]["birds"] == 4
    assert printed["scores"]["birds at rest throughout"]["precision"] is None


def test_a_folder_without_a_file_or_boxes_is_refused(reserve, tmp_path):
    with pytest.raises(TruthMissingError, match="archive: there is no such file"):
        divide_videos(tmp_path)
    (tmp_path / "truth").mkdir()
    (tmp_path / "archive").mkdir()
    (tmp_path / "truth" / "reserve.json").write_text("{}")
    (tmp_path / "truth" / "boxes.csv").write_text("")
    with pytest.raises(BadTruthError, match=r"reserve\.json: cannot be read \(KeyError: 'cameras'\)"):
        divide_videos(tmp_path)
    (tmp_path / "truth" / "reserve.json").write_text('{"cameras": []}')
    with pytest.raises(BadTruthError, match=r"boxes\.csv has no boxes"):
        divide_videos(tmp_path)


def test_birds_that_are_all_covered_teach_nothing(annotated, tmp_path):
    boxes = annotated / "truth" / "boxes.csv"
    boxes.write_text(boxes.read_text().replace(",0.0,1.0", ",0.9,1.0"))
    with pytest.raises(BadTruthError, match=r"no bird of site/cam02/.* is well to be seen"):
        collect_keyframes(
            annotated, divide_videos(annotated).learned, 100, seed=1, cache=tmp_path, frame_height=96
        )


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
    birds = np.array([[0, 0, 20, 30]] * 800, np.float32)
    card = DetectorCard(
        info, DetectorRecipe(), 1_300_000, 2_600_000, True, 9, 100, birds, 216, 12.0, 1, "seed 5", rows, "it"
    )
    text = render_card(card)
    assert "| all | 8 | 0.750 | 0.750 |" in text
    assert "| birds at rest throughout | 4 | 0.250 |  |" in text
    assert "score 0.44" in text
    assert "12 minutes on 1 CPU thread." in text
    assert "9 videos with 800 birds" in text.replace("\n", " ")
    assert math.isnan(BoxCounts(0, 0, 0).recall)
