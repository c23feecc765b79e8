"""Boxes by motion against the plate, from a file, and by two detectors together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from workers.detect import MotionDetector
from workers.detect_combined import CombinedDetector
from workers.detect_given import GivenBoxes
from workers.messages import Boxes, Keyframes, Plate
from workers.plates import build_plates

HEIGHT, WIDTH = 108, 192
Frame = NDArray[np.uint8]


@pytest.fixture
def scene() -> Frame:
    rng = np.random.default_rng(11)
    coarse = rng.uniform(90, 150, (12, 20, 3)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


def stand(scene: Frame, *rectangles: tuple[int, int, int, int], level: int = 20) -> Frame:
    """The scene with dark animals at (x, y, w, h)."""
    frame = scene.copy()
    for x, y, w, h in rectangles:
        frame[y : y + h, x : x + w] = level
    return frame


def noisy(frames: list[Frame], seed: int = 3) -> Frame:
    rng = np.random.default_rng(seed)
    pixels = np.stack(frames) + rng.normal(0, 1.0, (len(frames), *frames[0].shape))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


@pytest.fixture
def plates(scene: Frame) -> tuple[Plate, ...]:
    return build_plates(noisy([scene] * 10))


def keyframes(*frames: Frame) -> Keyframes:
    pixels = noisy(list(frames), seed=4)
    return Keyframes("v", np.arange(len(frames)) * 0.25, pixels)


def pixels_of(boxes: Boxes) -> NDArray[np.int64]:
    """Boxes as (x, y, w, h) in pixels."""
    corners = np.rint(boxes.xyxy * (WIDTH, HEIGHT, WIDTH, HEIGHT)).astype(np.int64)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def test_an_animal_gets_a_box_around_it_and_the_empty_scene_none(
    scene: Frame, plates: tuple[Plate, ...]
) -> None:
    found = MotionDetector().detect(keyframes(stand(scene, (50, 40, 20, 14)), scene), plates)
    assert np.abs(pixels_of(found[0]) - (50, 40, 20, 14)).max() <= 2
    assert found[0].score[0] > 0.9
    assert found[1].xyxy.shape == (0, 4)


def test_a_frame_is_compared_at_its_own_brightness(scene: Frame, plates: tuple[Plate, ...]) -> None:
    dusk = np.rint(stand(scene, (50, 40, 20, 14)) * 0.7 + 12).astype(np.uint8)
    found = MotionDetector().detect(keyframes(dusk, np.rint(scene * 0.7 + 12).astype(np.uint8)), plates)
    assert [len(boxes.score) for boxes in found] == [1, 0]


def test_the_empty_place_of_an_animal_in_the_plate_is_no_ghost(scene: Frame) -> None:
    plates = build_plates(noisy([stand(scene, (90, 50, 22, 16))] * 10))
    empty, elsewhere = MotionDetector().detect(keyframes(scene, stand(scene, (20, 20, 22, 16))), plates)
    assert len(empty.score) == 0
    assert np.abs(pixels_of(elsewhere) - (20, 20, 22, 16)).max() <= 2


def test_two_animals_that_touch_get_two_boxes(scene: Frame, plates: tuple[Plate, ...]) -> None:
    frame = stand(scene, (40, 40, 20, 16), (60, 47, 8, 3), (68, 42, 20, 16))
    (found,) = MotionDetector().detect(keyframes(frame), plates)
    assert len(found.score) == 2


def test_glitter_and_the_clock_are_not_individuals(scene: Frame) -> None:
    rng = np.random.default_rng(9)
    frames = noisy([np.asarray(cv2.resize(scene, (384, 216)), np.uint8)] * 24)
    for frame in frames:
        for x in range(4, 60, 7):
            frame[200:206, x : x + 4] = 255 * rng.integers(0, 2, (6, 4, 1), dtype=np.uint8)
        for x, y in zip(rng.integers(0, 380, 150), rng.integers(0, 190, 150), strict=True):
            frame[y, x : x + 3] = 230
    plates = build_plates(frames[:20])
    glitter = Keyframes("v", np.arange(4.0), frames[20:])
    assert [len(boxes.score) for boxes in MotionDetector().detect(glitter, plates)] == [0, 0, 0, 0]
    without_depth = MotionDetector(min_depth=0.0).detect(glitter, plates)
    assert sum(len(boxes.score) for boxes in without_depth) > 0


def test_the_result_does_not_depend_on_the_batch(scene: Frame, plates: tuple[Plate, ...]) -> None:
    batch = keyframes(*(stand(scene, (20 + 9 * i, 30, 18, 12)) for i in range(5)))
    together = MotionDetector().detect(batch, plates)
    for i, boxes in enumerate(together):
        one = Keyframes("v", batch.times_s[i : i + 1], batch.frames[i : i + 1])
        (alone,) = MotionDetector().detect(one, plates)
        assert np.array_equal(alone.xyxy, boxes.xyxy)
        assert np.array_equal(alone.score, boxes.score)


def test_a_night_frame_is_compared_with_the_infrared_plate(scene: Frame) -> None:
    night = np.repeat(255 - scene[..., :1], 3, axis=2)
    plates = build_plates(noisy([scene] * 10 + [night] * 8))
    rng_free = Keyframes("v", np.zeros(2), np.stack([night, stand(night, (60, 30, 16, 20), level=230)]))
    found = MotionDetector().detect(rng_free, plates)
    assert [len(boxes.score) for boxes in found] == [0, 1]


def test_motion_refuses_plates_of_another_size(scene: Frame, plates: tuple[Plate, ...]) -> None:
    small = Keyframes("v", np.zeros(1), scene[None, :50, :60])
    with pytest.raises(ValueError, match=r"\(50, 60\)"):
        MotionDetector().detect(small, plates)
    with pytest.raises(ValueError, match="plates"):
        MotionDetector().detect(small, ())


def test_thresholds_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="weak_threshold"):
        MotionDetector(threshold=2.0, weak_threshold=3.0)


@pytest.fixture
def boxes_csv(tmp_path: Path) -> Path:
    """Two labels of one box and another box at 1.0 s, one box at 2.0 s, and another video."""
    lines = [
        "s/c/one.mp4,1.000,0.100,0.200,0.300,0.400,1,7",
        "s/c/one.mp4,1.000,0.100,0.200,0.300,0.400,5,7",
        "s/c/one.mp4,1.000,0.500,0.200,0.700,0.900,2,8",
        "s/c/one.mp4,2.000,0.000,0.000,0.100,0.100,2,8",
        "s/c/two.mp4,3.000,0.000,0.000,1.000,1.000,2,1",
    ]
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def moments(*times_s: float) -> Keyframes:
    return Keyframes("v1", np.array(times_s), np.zeros((len(times_s), 4, 6, 3), np.uint8))


def test_given_boxes_are_those_of_the_nearest_moment_within_half_a_step(boxes_csv: Path) -> None:
    detector = GivenBoxes(boxes_csv, {"v1": "s/c/one.mp4"})
    found = detector.detect(moments(0.8, 0.9, 1.13, 1.14, 2.0, 3.0))
    assert [len(boxes.score) for boxes in found] == [0, 2, 2, 0, 1, 0]
    assert found[1].xyxy == pytest.approx(np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.2, 0.7, 0.9]]))
    assert (found[1].score == 1.0).all()


def test_given_boxes_of_a_video_without_rows_are_none(boxes_csv: Path) -> None:
    (found,) = GivenBoxes(boxes_csv, {"v1": "s/c/three.mp4"}).detect(moments(1.0))
    assert found.xyxy.shape == (0, 4)


def test_given_boxes_need_the_path_of_the_video(boxes_csv: Path) -> None:
    with pytest.raises(ValueError, match="v1"):
        GivenBoxes(boxes_csv, {"v2": "s/c/one.mp4"}).detect(moments(1.0))


@dataclass(frozen=True)
class Known:
    """A detector that always finds the same boxes."""

    xyxy: tuple[tuple[float, float, float, float], ...]
    score: float = 0.8

    def detect(self, keyframes: Keyframes, plates: tuple[Plate, ...]) -> list[Boxes]:
        corners = np.array(self.xyxy, np.float32).reshape(-1, 4)
        return [Boxes(corners, np.full(len(corners), self.score, np.float32))] * len(keyframes.times_s)


def test_motion_adds_only_what_no_learned_box_explains(scene: Frame, plates: tuple[Plate, ...]) -> None:
    frame = stand(scene, (40, 40, 20, 16), (120, 60, 24, 18))
    first = (38 / WIDTH, 38 / HEIGHT, 62 / WIDTH, 58 / HEIGHT)
    (found,) = CombinedDetector(Known((first,)), MotionDetector()).detect(keyframes(frame), plates)
    assert found.xyxy[0] == pytest.approx(first)
    assert np.abs(pixels_of(found)[1] - (120, 60, 24, 18)).max() <= 2
    assert len(found.score) == 2


def test_two_learned_birds_explain_the_moving_region_around_both(
    scene: Frame, plates: tuple[Plate, ...]
) -> None:
    learned = Known(((0.20, 0.3, 0.29, 0.6), (0.30, 0.3, 0.39, 0.6)))
    frame = stand(scene, (38, 32, 37, 33))
    (found,) = CombinedDetector(learned, MotionDetector()).detect(keyframes(frame), plates)
    assert len(found.score) == 2


def test_without_learned_boxes_all_motion_boxes_stay(scene: Frame, plates: tuple[Plate, ...]) -> None:
    frame = stand(scene, (40, 40, 20, 16), (120, 60, 24, 18))
    (found,) = CombinedDetector(Known(()), MotionDetector()).detect(keyframes(frame), plates)
    assert len(found.score) == 2


@pytest.mark.parametrize(("score", "boxes"), [(0.70, 0), (0.90, 1)])
def test_where_nothing_differs_from_the_plate_only_a_sure_box_counts(
    scene: Frame, plates: tuple[Plate, ...], score: float, boxes: int
) -> None:
    detector = CombinedDetector(Known(((0.2, 0.3, 0.4, 0.6),), score), MotionDetector())
    (found,) = detector.detect(keyframes(scene), plates)
    assert len(found.score) == boxes
    (resting,) = detector.detect_resting(keyframes(scene))
    assert len(resting.score) == boxes


def test_a_weak_learned_box_counts_where_something_moves(scene: Frame, plates: tuple[Plate, ...]) -> None:
    around = (38 / WIDTH, 38 / HEIGHT, 62 / WIDTH, 58 / HEIGHT)
    detector = CombinedDetector(Known((around,), 0.4), MotionDetector())
    (found,) = detector.detect(keyframes(stand(scene, (40, 40, 20, 16))), plates)
    assert found.xyxy == pytest.approx(np.array([around]))


@pytest.mark.parametrize(("score", "width"), [(0.6, 20 / WIDTH), (0.9, 60 / WIDTH)])
def test_an_unsure_box_around_one_much_smaller_body_gives_way_to_it(
    scene: Frame, plates: tuple[Plate, ...], score: float, width: float
) -> None:
    wide = (20 / WIDTH, 20 / HEIGHT, 80 / WIDTH, 60 / HEIGHT)
    detector = CombinedDetector(Known((wide,), score), MotionDetector())
    (found,) = detector.detect(keyframes(stand(scene, (40, 32, 20, 16))), plates)
    assert len(found.score) == 1
    assert found.xyxy[0, 2] - found.xyxy[0, 0] == pytest.approx(width, abs=3 / WIDTH)
