from __future__ import annotations

import numpy as np
import pytest

from model.augment import NO_AUGMENTATION, Augmentation, augment


def clip_with_a_bright_box(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    clip = np.full((16, 80, 120, 3), 40, dtype=np.uint8)
    clip[:, y1:y2, x1:x2] = (200, 160, 120)
    return clip


BOX = np.array([[30 / 120, 20 / 80, 60 / 120, 50 / 80]], dtype=np.float32)
ONLY_PLACE = Augmentation(0.5, (0.9, 1.25), (1.0, 1.0), 0.0, 0.0, 0.0)


def bright_extent(clip: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(clip[0, :, :, 0] > 120)
    return np.array([columns.min() / 120, rows.min() / 80, (columns.max() + 1) / 120, (rows.max() + 1) / 80])


def test_without_augmentation_nothing_changes() -> None:
    clip = clip_with_a_bright_box(30, 20, 60, 50)
    same, boxes, visible = augment(clip, BOX, NO_AUGMENTATION, np.random.default_rng(0))
    assert np.array_equal(same, clip)
    np.testing.assert_allclose(boxes, BOX)
    assert visible.tolist() == [True]


@pytest.mark.parametrize("seed", range(12))
def test_boxes_follow_what_they_hold(seed: int) -> None:
    clip = clip_with_a_bright_box(30, 20, 60, 50)
    changed, boxes, visible = augment(clip, BOX, ONLY_PLACE, np.random.default_rng(seed))
    assert changed.shape == clip.shape
    assert changed.dtype == np.uint8
    np.testing.assert_allclose(boxes[0], bright_extent(changed), atol=1.5 / 80)
    assert visible.tolist() == [True]


def test_all_frames_change_alike() -> None:
    clip = clip_with_a_bright_box(30, 20, 60, 50)
    changed, _, _ = augment(clip, BOX, Augmentation(), np.random.default_rng(1))
    assert (changed == changed[:1]).all()


def test_a_box_that_the_zoom_cuts_off_is_marked() -> None:
    corner = np.array([[0.0, 0.0, 0.05, 0.05], [0.4, 0.4, 0.6, 0.6]], dtype=np.float32)
    zoomed = Augmentation(0.0, (2.0, 2.0), (1.0, 1.0), 0.0, 0.0, 0.0)
    _, boxes, visible = augment(clip_with_a_bright_box(0, 0, 9, 9), corner, zoomed, np.random.default_rng(5))
    assert visible.tolist() == [False, True]
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_jitter_has_the_asked_for_spread() -> None:
    jitter = Augmentation(0.0, (1.0, 1.0), (1.0, 1.0), 0.0, 0.0, box_jitter=0.06)
    many = np.repeat(BOX, 4000, axis=0)
    _, boxes, _ = augment(clip_with_a_bright_box(0, 0, 1, 1), many, jitter, np.random.default_rng(2))
    size = np.tile(BOX[0, 2:] - BOX[0, :2], 2)
    np.testing.assert_allclose(boxes.std(axis=0) / size, 0.06, rtol=0.08)
    np.testing.assert_allclose(boxes.mean(axis=0), BOX[0], atol=1e-2)


def test_grey_and_gain() -> None:
    grey = Augmentation(0.0, (1.0, 1.0), (0.5, 0.5), 0.0, 1.0, 0.0)
    changed, _, _ = augment(clip_with_a_bright_box(0, 0, 120, 80), BOX, grey, np.random.default_rng(0))
    assert (changed == 80).all()  # mean of (200, 160, 120), halved
