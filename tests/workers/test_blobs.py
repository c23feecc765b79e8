"""Pieces of one body are joined, bodies that touch are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.blobs import Blob, filled, find_blobs, join_pieces, split_neighbours

Mask = NDArray[np.uint8]


def mask_of(*rectangles: tuple[int, int, int, int]) -> Mask:
    """Rectangles (x, y, w, h) set in 40 rows and 70 columns."""
    mask = np.zeros((40, 70), np.uint8)
    for x, y, w, h in rectangles:
        mask[y : y + h, x : x + w] = 1
    return mask


def boxes(blobs: list[Blob]) -> list[tuple[int, int, int, int]]:
    return sorted((blob.x, blob.y, blob.mask.shape[1], blob.mask.shape[0]) for blob in blobs)


def test_only_regions_with_a_strong_pixel_are_found() -> None:
    weak = mask_of((5, 5, 10, 6), (40, 20, 12, 8), (60, 2, 2, 2))
    strong = mask_of((6, 6, 1, 1), (61, 2, 1, 1))
    assert boxes(find_blobs(weak, strong, min_pixels=5)) == [(5, 5, 10, 6)]


def test_a_small_piece_joins_the_body_beside_it_and_not_one_far_away() -> None:
    body, head, stranger = (10, 10, 12, 10), (24, 12, 5, 4), (50, 10, 6, 5)
    mask = mask_of(body, head, stranger)
    joined = join_pieces(find_blobs(mask, mask, 1), max_gap=3, min_body=20)
    assert boxes(joined) == [(10, 10, 19, 10), (50, 10, 6, 5)]
    assert max(blob.area for blob in joined) == 120 + 20


def test_specks_that_belong_to_no_body_are_dropped() -> None:
    mask = mask_of((10, 10, 4, 4), (15, 10, 4, 4), (40, 10, 6, 5))
    assert boxes(join_pieces(find_blobs(mask, mask, 1), max_gap=3, min_body=20)) == [(40, 10, 6, 5)]


def test_two_bodies_of_one_size_side_by_side_are_not_pieces_of_each_other() -> None:
    mask = mask_of((10, 10, 12, 10), (24, 11, 12, 10))
    assert len(join_pieces(find_blobs(mask, mask, 1), max_gap=3, min_body=20)) == 2


def test_parts_of_one_size_one_above_the_other_are_one_body() -> None:
    mask = mask_of((10, 5, 12, 10), (11, 17, 12, 10))
    assert boxes(join_pieces(find_blobs(mask, mask, 1), max_gap=3, min_body=20)) == [(10, 5, 13, 22)]


@pytest.fixture
def dumbbell() -> Mask:
    """Two bodies of 16 x 16 with a bridge of 6 x 3 between them."""
    return mask_of((4, 10, 16, 16), (20, 17, 6, 3), (26, 10, 16, 16))


def test_touching_bodies_are_split_in_the_middle_of_their_bridge(dumbbell: Mask) -> None:
    (blob,) = find_blobs(dumbbell, dumbbell, 1)
    parts = split_neighbours(blob, dumbbell, dumbbell * 100, min_pixels=20)
    assert boxes(parts) == [(4, 10, 19, 16), (23, 10, 19, 16)]
    assert sum(part.area for part in parts) == blob.area


def test_a_body_with_a_thin_neck_stays_whole() -> None:
    mask = mask_of((10, 20, 18, 12), (26, 4, 3, 16), (26, 4, 6, 4))
    (blob,) = find_blobs(mask, mask, 1)
    assert split_neighbours(blob, mask, mask * 100, min_pixels=20) == [blob]


def test_a_faint_part_beside_a_clear_one_is_a_reflection(dumbbell: Mask) -> None:
    strong = dumbbell.copy()
    strong[:, 23:] = 0
    (blob,) = find_blobs(dumbbell, strong, 1)
    assert boxes(split_neighbours(blob, strong, dumbbell * 100, 20)) == [(4, 10, 19, 16)]


def test_bodies_that_merge_at_a_low_level_are_split_at_a_higher_one() -> None:
    mask = mask_of((4, 10, 40, 12))
    apart = mask * 100
    apart[10:22, 21:27] = 20
    (blob,) = find_blobs(mask, mask, 1)
    assert boxes(split_neighbours(blob, mask, apart, 20)) == [(4, 10, 20, 12), (24, 10, 20, 12)]


def test_filled_closes_holes_and_keeps_the_outside() -> None:
    ring = mask_of((10, 10, 9, 9))
    ring[13:16, 13:16] = 0
    assert filled(ring).sum() == 81
