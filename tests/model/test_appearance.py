from __future__ import annotations

import numpy as np

from model.appearance import EMBEDDING_SIZE, describe


def scene(*birds: tuple[int, int, int, int, tuple[int, int, int]], brightness: int = 0) -> np.ndarray:
    """A green field with filled rectangles: x, y, width, height, colour."""
    frame = np.full((216, 384, 3), (70, 110, 60), dtype=np.int64)
    frame += np.random.default_rng(4).integers(-6, 7, frame.shape)
    for x, y, width, height, colour in birds:
        frame[y + height // 8 : y + height - height // 8, x + width // 6 : x + width - width // 6] = colour
    return (frame + brightness).clip(0, 255).astype(np.uint8)


def box(x: int, y: int, width: int, height: int) -> np.ndarray:
    return np.array([[x / 384, y / 216, (x + width) / 384, (y + height) / 216]], dtype=np.float32)


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first.astype(float) @ second.astype(float) / 127**2)


WHITE, BROWN = (225, 225, 220), (150, 110, 75)


def test_shape_type_and_length() -> None:
    rows = describe(
        scene((40, 50, 30, 60, WHITE)), np.concatenate([box(40, 50, 30, 60), box(200, 20, 44, 33)])
    )
    assert rows.shape == (2, EMBEDDING_SIZE)
    assert rows.dtype == np.int8
    np.testing.assert_allclose(np.linalg.norm(rows.astype(float), axis=1), 127, rtol=0.02)
    assert describe(scene(), np.zeros((0, 4), dtype=np.float32)).shape == (0, EMBEDDING_SIZE)


def test_a_bird_elsewhere_is_itself_and_a_brown_or_a_small_one_is_not() -> None:
    adult = describe(scene((40, 50, 30, 60, WHITE)), box(40, 50, 30, 60))[0]
    moved = describe(scene((211, 93, 30, 60, WHITE), brightness=6), box(211, 93, 30, 60))[0]
    juvenile = describe(scene((40, 50, 30, 60, BROWN)), box(40, 50, 30, 60))[0]
    small = describe(scene((40, 50, 14, 28, WHITE)), box(40, 50, 14, 28))[0]
    assert cosine(adult, moved) > 0.95
    assert cosine(adult, juvenile) < 0.8
    assert cosine(adult, small) < cosine(adult, moved) - 0.05


def test_rows_do_not_depend_on_the_other_boxes() -> None:
    frame = scene((40, 50, 30, 60, WHITE), (200, 20, 44, 33, BROWN))
    first, second = box(40, 50, 30, 60), box(200, 20, 44, 33)
    together = describe(frame, np.concatenate([first, second]))
    assert np.array_equal(together, np.concatenate([describe(frame, first), describe(frame, second)]))


def test_boxes_at_the_edge_and_empty_boxes_are_described() -> None:
    rows = describe(scene(), np.array([[0, 0, 0.1, 0.1], [0.5, 0.5, 0.5, 0.5]], dtype=np.float32))
    assert np.isfinite(rows).all()
    assert (np.linalg.norm(rows.astype(float), axis=1) > 100).all()
