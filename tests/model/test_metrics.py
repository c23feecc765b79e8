from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.metrics import FrameBoxes, average_precision, frame_map, instance_map, iou, match_boxes

AVA_SAMPLE = Path(__file__).parents[2] / "../shared/data/annotations/mmaction2_eval_detection"


def boxes(*rows: tuple[int, float, float, float, float]) -> FrameBoxes:
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return FrameBoxes(table[:, 0].astype(np.int64), table[:, 1:])


def test_average_precision_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    # True at ranks 1 and 3: precisions 1 and 2/3, each over half of the recall.
    assert average_precision(scores, np.array([True, False, True, False])) == pytest.approx((1 + 2 / 3) / 2)


def test_precision_is_made_non_increasing_first() -> None:
    # Ranks 2 and 3 are true: precisions 1/2 and 2/3; both recalls count the later, better 2/3.
    assert average_precision(np.array([3.0, 2.0, 1.0]), np.array([False, True, True])) == pytest.approx(2 / 3)


def test_instances_that_nobody_found_lower_the_recall() -> None:
    assert average_precision(np.array([0.5]), np.array([True]), num_true=4) == pytest.approx(0.25)


def test_a_class_without_instances_is_unknown_and_without_detections_is_zero() -> None:
    assert np.isnan(average_precision(np.array([0.5]), np.array([False])))
    assert average_precision(np.array([]), np.array([], dtype=bool), num_true=3) == 0.0


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=12), st.randoms())
def test_order_of_rows_does_not_matter_even_with_ties(rows: list[tuple[int, bool]], random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    values = [
        average_precision(np.array([s for s, _ in r], float), np.array([t for _, t in r]))
        for r in (rows, shuffled)
    ]
    np.testing.assert_equal(values[0], values[1])


def test_instance_map_is_the_mean_of_the_classes_that_occur() -> None:
    probabilities = np.array([[0.9, 0.1, 0.5], [0.2, 0.3, 0.5], [0.8, 0.2, 0.5], [0.1, 0.4, 0.5]])
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    result = instance_map(probabilities, labels, ("feeding", "walk", "flight"))
    assert result.per_class["feeding"] == 1.0
    assert result.per_class["walk"] == pytest.approx(0.5)  # second of the ranking
    assert np.isnan(result.per_class["flight"])
    assert result.mean == pytest.approx(0.75)
    assert result.instances == {"feeding": 2, "walk": 1, "flight": 0}
    with pytest.raises(ValueError, match=r"need shape \(N, 2\)"):
        instance_map(probabilities, labels, ("feeding", "walk"))


def test_iou_by_hand() -> None:
    first = np.array([[0.0, 0, 2, 1], [0, 0, 1, 1], [0, 0, 0, 0]])
    second = np.array([[1.0, 0, 3, 1], [5, 5, 6, 6], [0, 0, 0, 0]])
    np.testing.assert_allclose(iou(first, second), [1 / 3, 0, 0])


def test_of_two_boxes_on_one_bird_the_surer_is_right() -> None:
    truth = boxes((7, 0, 0, 10, 10), (8, 0, 0, 10, 10))
    found = boxes((7, 0, 0, 10, 9), (7, 0, 0, 10, 10), (8, 0, 0, 4, 10), (9, 0, 0, 10, 10))
    # The third overlaps by 0.4 only, the fourth is in an image without birds.
    is_true = match_boxes(found, np.array([0.9, 0.8, 0.7, 0.6]), truth, min_iou=0.5)
    assert is_true.tolist() == [True, False, False, False]


def test_a_box_counts_only_for_the_bird_that_it_overlaps_most() -> None:
    truth = boxes((0, 0, 0, 10, 10), (0, 2, 0, 12, 10))
    found = boxes((0, 0, 0, 10, 10), (0, 1, 0, 10.5, 10), (0, 2, 0, 12, 10))
    is_true = match_boxes(found, np.array([0.9, 0.5, 0.4]), truth, min_iou=0.5)
    assert is_true.tolist() == [True, False, True]


def test_frame_map_has_no_cap_on_the_rows_of_an_image() -> None:
    count = 84
    rows = [(3, 20.0 * i, 0.0, 20.0 * i + 10, 10.0) for i in range(count)]
    result = frame_map({"feeding": boxes(*rows)}, {"feeding": (boxes(*rows), np.linspace(0.9, 0.1, count))})
    assert result.per_class == {"feeding": 1.0}


def test_frame_map_of_a_class_that_was_never_found_is_zero() -> None:
    assert frame_map({"walk": boxes((0, 0, 0, 1, 1))}, {}).mean == 0.0


@pytest.mark.skipif(not AVA_SAMPLE.is_dir(), reason=f"sample annotations not present at {AVA_SAMPLE}")
def test_agrees_with_a_plain_implementation_of_avas_rules_on_published_sample_annotations() -> None:
    truth_rows = list(csv.reader((AVA_SAMPLE / "gt.csv").open()))
    found_rows = list(csv.reader((AVA_SAMPLE / "pred.csv").open()))
    images = sorted({tuple(row[:2]) for row in truth_rows + found_rows})

    def of_class(rows: list[list[str]], label: str) -> FrameBoxes:
        return boxes(*((images.index(tuple(r[:2])), *map(float, r[2:6])) for r in rows if r[6] == label))

    labels = ("1", "2", "3")
    result = frame_map(
        {label: of_class(truth_rows, label) for label in labels},
        {
            label: (of_class(found_rows, label), np.array([float(r[7]) for r in found_rows if r[6] == label]))
            for label in labels
        },
    )
    expected = {label: plain_ava_ap(truth_rows, found_rows, label) for label in labels}
    assert result.per_class == pytest.approx(expected)
    assert 0 < result.mean < 1


def plain_ava_ap(truth_rows: list[list[str]], found_rows: list[list[str]], label: str) -> float:
    """AVA's rules, one row at a time: match in order of score, then the interpolated area."""
    truth = [row for row in truth_rows if row[6] == label]
    taken: set[int] = set()
    hits = []
    for row in sorted((r for r in found_rows if r[6] == label), key=lambda r: -float(r[7])):
        best, best_iou = -1, 0.0
        for index, other in enumerate(truth):
            if other[:2] != row[:2]:
                continue
            a, b = [float(v) for v in row[2:6]], [float(v) for v in other[2:6]]
            width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
            height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
            area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
            if width * height / area > best_iou:
                best, best_iou = index, width * height / area
        hits.append(best_iou >= 0.5 and best not in taken)
        if hits[-1]:
            taken.add(best)
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return sum(max(precision[i:]) for i, hit in enumerate(hits) if hit) / len(truth)
