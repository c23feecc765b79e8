"""Box and identity agreement, against answers worked out by hand, by brute force and by another tool."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.analysis.identity import (
    IdentityBoxes,
    best_pairs,
    box_agreement,
    identity_agreement,
    match_boxes,
    paired_iou,
)

TUD_CAMPUS = Path(__file__).resolve().parents[4] / "shared/data/annotations/mot/TUD-Campus"


def boxes(*rows: tuple[int, int, float], width: float = 1.0) -> IdentityBoxes:
    """Squares of side 1 at (image, identity, x)."""
    image, identity, x = (np.array(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    left = np.array(x, np.float64)
    xyxy = np.stack([left, np.zeros(len(left)), left + width, np.ones(len(left))], axis=1)
    return IdentityBoxes(np.array(image, np.int64), np.array(identity, np.int64), xyxy)


def line(identity: int, images: range, x: float = 0.0) -> list[tuple[int, int, float]]:
    return [(image, identity, x) for image in images]


def test_iou_of_boxes_row_by_row() -> None:
    first = np.array([[0, 0, 2, 1], [0, 0, 1, 1], [3, 3, 3, 3]], np.float64)
    second = np.array([[1, 0, 3, 1], [5, 5, 6, 7], [3, 3, 3, 3]], np.float64)
    assert paired_iou(first, second) == pytest.approx([1 / 3, 0, 0])


def test_a_switch_halfway_costs_half_of_the_identity() -> None:
    true = boxes(*line(0, range(10)))
    found = boxes(*line(3, range(6)), *line(5, range(6, 10)))
    result = identity_agreement(true, found)
    assert result.partner == {0: 3}
    assert (result.agreeing, result.true, result.found) == (6, 10, 10)
    assert result.idf1 == pytest.approx(0.6)


def test_misses_and_false_boxes_count_against_both_sides() -> None:
    true = boxes(*line(0, range(10)))
    found = boxes(*line(0, range(8)), *line(1, range(4), x=9.0))
    assert identity_agreement(true, found).idf1 == pytest.approx(2 * 8 / (10 + 12))
    agreement = box_agreement(true, found)
    assert (agreement.recall, agreement.precision) == (0.8, pytest.approx(8 / 12))


def test_the_assignment_is_the_best_as_a_whole_and_not_pair_by_pair() -> None:
    # Greedy would pair 0 with 0 (6 boxes) and leave 1 nothing (0 in all of the rest): 6. Best: 5 + 4.
    true = boxes(*line(0, range(11)), *line(1, range(20, 24)))
    found = boxes(*line(0, range(6)), *line(1, range(6, 11)), *line(0, range(20, 24)))
    result = identity_agreement(true, found)
    assert result.partner == {0: 1, 1: 0}
    assert result.agreeing == 9


def test_boxes_of_nobody_are_found_but_agree_with_none() -> None:
    true, found = boxes(*line(0, range(4))), boxes(*line(-1, range(4)))
    assert identity_agreement(true, found).idf1 == 0.0
    assert box_agreement(true, found).recall == 1.0


def test_boxes_match_within_their_image_from_an_iou_of_one_half() -> None:
    # A shift of 1/3 of the side gives an IoU of exactly 1/2.
    true = boxes((0, 0, 0.0), (1, 0, 0.0), (2, 0, 0.0))
    found = boxes((0, 0, 0.33), (1, 0, 0.34), (3, 0, 0.0))
    i, j = match_boxes(true, found)
    assert (i.tolist(), j.tolist()) == ([0], [0])


def test_as_many_boxes_as_possible_are_matched_and_then_the_closest() -> None:
    # The found box at 0.3 is closest to the true one at 0.25, but only it can serve the true one at 0.6.
    true = boxes((0, 0, 0.25), (0, 1, 0.6))
    found = boxes((0, 0, 0.0), (0, 1, 0.3))
    i, j = match_boxes(true, found)
    assert (i.tolist(), j.tolist()) == ([0, 1], [0, 1])


def test_nothing_there_and_nothing_found() -> None:
    nothing, something = boxes(), boxes((0, 0, 0.0))
    assert np.isnan(box_agreement(nothing, something).recall)
    assert np.isnan(box_agreement(something, nothing).precision)
    assert np.isnan(identity_agreement(nothing, nothing).idf1)
    assert identity_agreement(something, nothing).idf1 == 0.0


def test_shapes_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match=r"xyxy \(3, 4\)"):
        IdentityBoxes(np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros((3, 4)))


def most_in_common(table: np.ndarray) -> float:
    """The greatest sum of one entry per row and column at most, by trying all (columns taken as bits)."""

    @cache
    def best(row: int, taken: int) -> float:
        if row == len(table):
            return 0.0
        free = [column for column in range(table.shape[1]) if not taken & (1 << column)]
        used = [table[row, column] + best(row + 1, taken | (1 << column)) for column in free]
        return max([best(row + 1, taken), *used])

    return best(0, 0)


@settings(max_examples=60, deadline=None)
@given(
    table=st.integers(1, 5).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(0, 9), min_size=width, max_size=width), min_size=1, max_size=5
        )
    )
)
def test_pairs_are_worth_as_much_as_any_assignment(table: list[list[int]]) -> None:
    worth = np.array(table, np.float64)
    i, j = np.nonzero(worth)
    row, column = best_pairs(i, j, worth[i, j])
    assert len(set(row.tolist())) == len(row)
    assert len(set(column.tolist())) == len(column)
    assert worth[row, column].sum() == most_in_common(worth)


def mot(path: Path) -> IdentityBoxes:
    """Boxes of a MOT Challenge text file: frame, id, left, top, width, height, ..."""
    rows = np.loadtxt(path, delimiter=",")
    xyxy = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)
    return IdentityBoxes(rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64), xyxy)


@pytest.mark.skipif(not TUD_CAMPUS.exists(), reason=f"needs {TUD_CAMPUS.name} in ../shared/data")
def test_tud_campus_agrees_with_brute_force_and_with_the_published_figures() -> None:
    true, found = mot(TUD_CAMPUS / "gt.txt"), mot(TUD_CAMPUS / "test.txt")
    persons, ids = np.unique(true.identity), np.unique(found.identity)
    together = np.zeros((len(persons), len(ids)))
    for frame, person, box in zip(true.image, true.identity, true.xyxy, strict=True):
        for other in np.flatnonzero(found.image == frame):
            x1, y1 = np.maximum(box[:2], found.xyxy[other, :2])
            x2, y2 = np.minimum(box[2:], found.xyxy[other, 2:])
            shared = max(x2 - x1, 0) * max(y2 - y1, 0)
            area = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, found.xyxy[other]))
            if shared / (area - shared) >= 0.5:
                together[np.searchsorted(persons, person), np.searchsorted(ids, found.identity[other])] += 1
    result = identity_agreement(true, found)
    assert result.agreeing == most_in_common(together)
    # py-motmetrics prints IDF1 55.8 %, IDP 73.0 % and IDR 45.1 % for this pair of files.
    assert result.idf1 == pytest.approx(0.558, abs=5e-4)
    assert result.agreeing / result.found == pytest.approx(0.730, abs=5e-4)
    assert result.agreeing / result.true == pytest.approx(0.451, abs=5e-4)
    # And a recall of 58.2 % with a precision of 94.1 %, where matches persist from frame to frame.
    agreement = box_agreement(true, found)
    assert agreement.recall == pytest.approx(0.582, abs=0.01)
    assert agreement.precision == pytest.approx(0.941, abs=0.02)
