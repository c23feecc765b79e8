"""The plate is the empty scene, whoever stands in it most of the time."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from workers.pictures import fit_brightness, is_infrared, smooth
from workers.plates import build_plates

HEIGHT, WIDTH = 72, 128
Frame = NDArray[np.uint8]


@pytest.fixture
def scene() -> Frame:
    """A coloured, gently textured empty scene, about 120 grey levels bright."""
    rng = np.random.default_rng(5)
    coarse = rng.uniform(80, 160, (9, 16, 3)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


def with_animal(scene: Frame, x: int, y: int, level: int = 20) -> Frame:
    """The scene with a dark animal of 14 x 10 pixels at column ``x`` and row ``y``."""
    frame = scene.copy()
    frame[y : y + 10, x : x + 14] = level
    return frame


def noisy(frames: list[Frame]) -> Frame:
    rng = np.random.default_rng(7)
    pixels = np.stack(frames) + rng.normal(0, 1.0, (len(frames), *frames[0].shape))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def difference(one: Frame, other: Frame) -> NDArray[np.int16]:
    return np.abs(one.astype(np.int16) - other).max(axis=2)


def test_a_passing_animal_leaves_no_trace(scene: Frame) -> None:
    frames = noisy([with_animal(scene, 5 * i, 30) for i in range(20)])
    (plate,) = build_plates(frames)
    assert plate.regime == "day"
    assert difference(plate.pixels, smooth(scene)).max() <= 4


@pytest.mark.parametrize("stays", [11, 16], ids=["55 percent", "80 percent"])
def test_an_animal_that_stays_most_of_the_time_is_healed(scene: Frame, stays: int) -> None:
    frames = noisy([with_animal(scene, 60, 30)] * stays + [scene] * (20 - stays))
    (plate,) = build_plates(frames)
    assert difference(plate.pixels, smooth(scene))[28:42, 58:76].max() <= 4


def test_an_animal_that_never_leaves_is_part_of_the_plate(scene: Frame) -> None:
    (plate,) = build_plates(noisy([with_animal(scene, 60, 30)] * 12))
    assert difference(plate.pixels, smooth(with_animal(scene, 60, 30))).max() <= 4


def test_samples_of_changing_brightness_make_one_plate(scene: Frame) -> None:
    gains = np.linspace(0.8, 1.2, 15)
    frames = noisy([np.clip(scene * gain, 0, 255).astype(np.uint8) for gain in gains])
    (plate,) = build_plates(frames)
    assert difference(plate.pixels, smooth(scene)).max() <= 5
    assert np.median(plate.noise) <= 2.0


def test_cloth_in_another_light_is_no_thing_that_left(scene: Frame) -> None:
    folds = np.linspace(150, 250, 30)[None, :, None] * np.linspace(1.0, 0.9, 24)[:, None, None]
    usual, dimmer = scene.copy(), scene.copy()
    usual[40:64, 80:110] = folds
    dimmer[40:64, 80:110] = 0.8 * folds
    (plate,) = build_plates(noisy([dimmer] * 2 + [usual] * 18))
    assert difference(plate.pixels, smooth(usual))[42:62, 82:108].max() <= 5


def test_glitter_is_noise_and_still_ground_is_not(scene: Frame) -> None:
    frames = noisy([scene] * 20)
    frames[::3, 40:43, 20] += 90
    (plate,) = build_plates(frames)
    assert plate.noise[41, 20] > 15
    assert plate.noise[:30].max() <= 3.0


def test_every_lighting_regime_has_its_plate(scene: Frame) -> None:
    dim = (scene * 0.25).astype(np.uint8)
    grey = np.repeat(scene.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    plates = build_plates(noisy([scene] * 14 + [dim] * 7 + [grey] * 10))
    assert [plate.regime for plate in plates] == ["day", "infrared", "dim"]
    for plate, empty in zip(plates, (scene, grey, dim), strict=True):
        assert difference(plate.pixels, smooth(empty)).max() <= 4


def test_a_regime_of_a_few_frames_gets_no_plate(scene: Frame) -> None:
    plates = build_plates(noisy([scene] * 10 + [(scene * 0.25).astype(np.uint8)] * 3))
    assert [plate.regime for plate in plates] == ["day"]


def test_one_frame_is_its_own_plate(scene: Frame) -> None:
    (plate,) = build_plates(scene[None])
    assert np.array_equal(plate.pixels, smooth(scene))


def test_the_plate_id_names_the_pixels(scene: Frame) -> None:
    frames = noisy([scene] * 8)
    (one,), (same,) = build_plates(frames), build_plates(frames.copy())
    (other,) = build_plates(noisy([with_animal(scene, 60, 30)] * 8))
    assert one.plate_id == same.plate_id != other.plate_id


def test_brightness_is_fitted_without_what_stands_in_the_scene(scene: Frame) -> None:
    brighter = np.clip(np.rint(scene * 1.2 + 8), 0, 255).astype(np.uint8)
    brighter[20:60, 30:80] = 250
    table = fit_brightness(scene, brighter)
    assert np.abs(table[0, 100].astype(int) - 128).max() <= 2


def test_grey_frames_are_infrared_even_with_a_coloured_caption(scene: Frame) -> None:
    grey = np.repeat(scene[..., :1], 3, axis=2)
    grey[:8] = (255, 0, 0)
    assert is_infrared(grey)
    assert not is_infrared(scene)


@pytest.mark.parametrize("shape", [(0, 8, 9, 3), (8, 9, 3), (2, 8, 9, 4)])
def test_samples_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(N, H, W, 3\)"):
        build_plates(np.zeros(shape, np.uint8))
