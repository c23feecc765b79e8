from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.metrics import (
    FrameBoxes,
    MeanAveragePrecision,
    average_precision,
    frame_map,
    instance_map,
    iou,
    keep_best_rows,
    match_boxes,
)

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


needs_ava_sample = pytest.mark.skipif(
    not AVA_SAMPLE.is_dir(), reason=f"sample annotations not present at {AVA_SAMPLE}"
)
AVA_LABELS = ("1", "2", "3")
# Found boxes with which MMAction2 tests its copy of AVA's evaluator, by image and class
# (tests/test_data/test_datasets/test_ava_dataset.py): x1, y1, x2, y2, score in thousandths.
PUBLISHED_FOUND = {
    ("3reY9zJKhqN", "1774"): {
        "1": [(362, 156, 969, 666, 106), (442, 83, 721, 947, 162)],
        "2": [(288, 365, 766, 551, 706), (178, 296, 707, 995, 223)],
        "3": [(417, 167, 843, 939, 15), (350, 421, 570, 689, 427)],
    },
    ("HmR8SmNIoxu", "1384"): {
        "1": [(256, 338, 726, 799, 563), (71, 256, 640, 750, 297)],
        "2": [(326, 36, 513, 991, 405), (351, 35, 729, 936, 945)],
        "3": [(51, 5, 975, 942, 424), (347, 50, 970, 944, 396)],
    },
    ("5HNXoce1raG", "1097"): {
        "1": [(390, 87, 833, 616, 447), (461, 212, 627, 527, 36)],
        "2": [(22, 394, 930, 527, 109), (208, 462, 874, 948, 954)],
        "3": [(206, 456, 564, 725, 685), (106, 445, 782, 673, 367)],
    },
}


def ava_rows(name: str) -> list[list[str]]:
    with (AVA_SAMPLE / name).open() as file:
        return list(csv.reader(file))


def ava_frame_map(
    truth_rows: list[list[str]],
    found_rows: list[list[str]],
    labels: tuple[str, ...] = AVA_LABELS,
    cap: int | None = None,
) -> MeanAveragePrecision:
    images = sorted({tuple(row[:2]) for row in truth_rows + found_rows})

    def of_class(rows: list[list[str]], label: str) -> FrameBoxes:
        return boxes(*((images.index(tuple(r[:2])), *map(float, r[2:6])) for r in rows if r[6] == label))

    return frame_map(
        {label: of_class(truth_rows, label) for label in labels},
        {
            label: (of_class(found_rows, label), np.array([float(r[7]) for r in found_rows if r[6] == label]))
            for label in labels
        },
        max_rows_per_image=cap,
    )


@needs_ava_sample
def test_equals_the_official_ava_evaluator() -> None:
    """Per class: what AVA's evaluator, as MMAction2 1.2 carries it, prints; the mean: MMAction2's own test."""
    truth_rows, found_rows = ava_rows("gt.csv"), ava_rows("pred.csv")
    result = ava_frame_map(truth_rows, found_rows)
    assert result.mean == pytest.approx(0.09385522, abs=5e-9)
    assert result.per_class == pytest.approx({"1": 0.1705, "2": 0.0, "3": 0.1111}, abs=5e-5)
    assert result.instances == {"1": 4, "2": 3, "3": 5}
    assert result.per_class == pytest.approx(
        {label: plain_ava_ap(truth_rows, found_rows, label) for label in AVA_LABELS}
    )


@needs_ava_sample
def test_equals_the_official_ava_evaluator_on_its_second_published_example() -> None:
    found_rows = [
        [*image, *(f"{value / 1000}" for value in row[:4]), label, f"{row[4] / 1000}"]
        for image, by_label in PUBLISHED_FOUND.items()
        for label, rows in by_label.items()
        for row in rows
    ]
    truth_rows = ava_rows("gt.csv")
    assert ava_frame_map(truth_rows, found_rows).mean == pytest.approx(0.027777778, abs=5e-9)
    assert ava_frame_map(truth_rows, found_rows, ("1", "3")).mean == pytest.approx(0.04166667, abs=5e-9)


@needs_ava_sample
@pytest.mark.parametrize("cap", [1, 3, 9, 50])
def test_the_cap_keeps_the_best_rows_of_each_image(cap: int) -> None:
    truth_rows, found_rows = ava_rows("gt.csv"), ava_rows("pred.csv")
    kept = []
    for image in {tuple(row[:2]) for row in found_rows}:
        of_image = [row for row in found_rows if tuple(row[:2]) == image]
        kept += sorted(of_image, key=lambda row: -float(row[7]))[:cap]
    assert ava_frame_map(truth_rows, found_rows, cap=cap).per_class == pytest.approx(
        {label: plain_ava_ap(truth_rows, kept, label) for label in AVA_LABELS}
    )


def test_the_cap_counts_all_classes_of_an_image_together() -> None:
    found = {
        "walk": (boxes((0, 0, 0, 1, 1), (1, 0, 0, 1, 1), (0, 2, 0, 3, 1)), np.array([0.9, 0.1, 0.5])),
        "flight": (boxes((0, 0, 0, 1, 1), (0, 4, 0, 5, 1)), np.array([0.6, 0.5])),
    }
    kept = keep_best_rows(found, 3)
    # Image 0 has four rows of which the two of score 0.5 compete: the earlier one stays.
    assert kept["walk"][1].tolist() == [0.9, 0.1, 0.5]
    assert kept["flight"][1].tolist() == [0.6]
    assert kept["flight"][0].xyxy.tolist() == [[0, 0, 1, 1]]
    assert keep_best_rows({}, 3) == {}
    with pytest.raises(ValueError, match="at least 1, got 0"):
        keep_best_rows(found, 0)


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
