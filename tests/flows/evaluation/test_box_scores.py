from __future__ import annotations

import numpy as np
import pytest

from flows.evaluation.box_scores import (
    Estimate,
    ScoredBoxes,
    TrueBoxes,
    box_agreement,
    frame_rankings,
    instance_rankings,
    score_column,
    set_aside,
)
from model.bootstrap import draw_videos
from model.metrics import FrameBoxes, frame_map, instance_map

NAMES = ("feeding", "walk", "never")
ALL = np.ones(5, bool)


def true_boxes(*rows: tuple[int, int, float, int, bool]) -> TrueBoxes:
    """Rows of (video, image, left edge, label, asked); boxes are 10 wide and 10 high."""
    video, image, left, label, asked = (np.array(column) for column in zip(*rows, strict=True))
    return TrueBoxes(video, image, at(left), label, asked.astype(bool))


def scored(*rows: tuple[int, int, float, tuple[float, ...]]) -> ScoredBoxes:
    """Rows of (video, image, left edge, probabilities)."""
    video, image, left, probabilities = (np.array(column) for column in zip(*rows, strict=True))
    return ScoredBoxes(video, image, at(left), probabilities)


def at(left: np.ndarray) -> np.ndarray:
    return np.stack([left, np.zeros_like(left), left + 10, np.full_like(left, 10)], axis=1).astype(float)


def random_case(seed: int) -> tuple[TrueBoxes, ScoredBoxes]:
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(20), 6)
    true = TrueBoxes(
        image // 4, image, at(rng.uniform(0, 60, 120)), rng.integers(0, 2, 120), rng.random(120) < 0.8
    )
    probabilities = rng.random((120, 3))
    return true, ScoredBoxes(image // 4, image, true.xyxy + rng.normal(0, 2, (120, 1)), probabilities)


def test_values_are_those_of_the_metrics() -> None:
    true, found = random_case(0)
    asked = true.asked
    paper = score_column(instance_rankings(true, found.probabilities, NAMES, 5), ALL, draw_videos(5, 50))
    labels = true.label[asked][:, None] == np.arange(3)
    expected = instance_map(found.probabilities[asked], labels, NAMES)
    assert paper.instances == expected.instances
    assert paper.mean.value == pytest.approx(expected.mean)
    assert paper.per_class["never"] == Estimate(None)

    frame = score_column(frame_rankings(true, found, NAMES, 5, max_rows_per_image=9), ALL, draw_videos(5, 50))
    kept = found.where(~set_aside(true, found))
    plain = frame_map(
        {
            name: FrameBoxes(true.image[asked & (true.label == c)], true.xyxy[asked & (true.label == c)])
            for c, name in enumerate(NAMES)
        },
        {name: (FrameBoxes(kept.image, kept.xyxy), kept.probabilities[:, c]) for c, name in enumerate(NAMES)},
        max_rows_per_image=9,
    )
    for name in ("feeding", "walk"):
        assert frame.per_class[name].value == pytest.approx(plain.per_class[name])
        assert paper.per_class[name].value == pytest.approx(expected.per_class[name])
    assert frame.mean.value != pytest.approx(paper.mean.value)


def test_intervals_are_over_videos_and_not_over_boxes() -> None:
    # Two videos in which all is right and two in which all is wrong, a hundred instances each.
    rows = [(video, 100 * video + k, 0.0, k % 2, True) for video in range(4) for k in range(100)]
    true = true_boxes(*rows)
    right = true.video < 2
    probabilities = np.where((true.label[:, None] == np.arange(2)) == right[:, None], 0.9, 0.1)
    rankings = instance_rankings(true, probabilities, ("feeding", "walk"), 4)
    column = score_column(rankings, np.ones(4, bool), draw_videos(4, 1000))
    low, high = column.mean.low, column.mean.high
    assert column.videos == 4
    # Replicates in which all four draws are of one kind are rarer than 1 in 15, so both ends are reached.
    assert (low, high) == (pytest.approx(0.5, abs=0.01), 1.0)
    # Of the first two videos alone every replicate is perfect; of one video there is no interval.
    assert score_column(rankings, np.arange(4) < 2, draw_videos(4, 1000)).mean == Estimate(1.0, 1.0, 1.0)
    assert score_column(rankings, np.arange(4) < 1, draw_videos(4, 1000)).mean == Estimate(1.0)


def test_what_is_found_on_a_hidden_bird_is_neither_right_nor_wrong() -> None:
    true = true_boxes((0, 0, 0.0, 0, True), (0, 0, 50.0, 0, False), (0, 0, 53.0, 1, True))
    found = scored(
        (0, 0, 1.0, (0.5, 0.1)),  # on the first
        (0, 0, 47.5, (0.9, 0.2)),  # on the hidden one only
        (0, 0, 52.0, (0.4, 0.8)),  # on the hidden one and its neighbour
        (0, 0, 90.0, (0.3, 0.9)),  # on nothing
    )
    assert set_aside(true, found).tolist() == [False, True, False, False]
    rankings = frame_rankings(true, found, ("feeding", "walk"), 1)
    assert rankings["feeding"].average_precision == 1.0
    assert rankings["walk"].average_precision == pytest.approx(0.5)
    assert box_agreement(true, found) == (1.0, pytest.approx(2 / 3))


def test_found_boxes_where_nothing_is_and_birds_that_were_not_found_count() -> None:
    true = true_boxes((1, 7, 0.0, 0, True), (1, 8, 0.0, 0, True))
    found = scored((0, 2, 0.0, (0.9,)), (1, 7, 0.0, (0.8,)))
    ranking = frame_rankings(true, found, ("feeding",), 2)["feeding"]
    assert ranking.video.tolist() == [0, 1]
    assert ranking.num_true.tolist() == [0, 2]
    assert ranking.average_precision == pytest.approx(0.25)
    assert box_agreement(true, found) == (0.5, 0.5)


def test_nothing_found_is_zero_and_nothing_there_is_unknown() -> None:
    true = true_boxes((0, 0, 0.0, 0, True))
    nothing = scored((0, 0, 0.0, (0.5,))).where(np.array([False]))
    assert frame_rankings(true, nothing, ("feeding",), 1)["feeding"].average_precision == 0.0
    assert box_agreement(true, nothing) == (0.0, None)
