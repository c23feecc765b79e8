from __future__ import annotations

import numpy as np
import pytest

from workers.visibility import CROSSING_S, seen_span_s

STEP_S = 4 / 15
WIDTH = 0.12


def flight(first_s: float, enters_s: float, leaves_s: float, boxes: int, leftwards: bool = False) -> tuple:
    """A bird whose whole box crosses the picture between two moments, found in ``boxes`` keyframes from the first."""
    time_s = first_s + STEP_S * np.arange(boxes)
    speed = (1 + WIDTH) / (leaves_s - enters_s)
    front = speed * (time_s - enters_s)
    low, high = (front - WIDTH).clip(0, 1), front.clip(0, 1)
    if leftwards:
        low, high = 1 - high, 1 - low
    still = np.full(boxes, 0.3)
    return time_s, np.stack([low, still, high, still + 0.1], axis=1).astype(np.float32)


def all_day(moment_s: float) -> tuple[float, float]:
    return 0.0, 100.0


@pytest.mark.parametrize("leftwards", [False, True])
def test_a_bird_that_flies_through_was_there_from_edge_to_edge(leftwards: bool) -> None:
    # In the picture from 10.0 to 11.4 s; found in four keyframes from 10.3 to 11.1 s.
    time_s, xyxy = flight(10.3, 10.0, 11.4, 4, leftwards)
    assert seen_span_s(time_s, xyxy, STEP_S, all_day) == pytest.approx((10.0, 11.4), abs=0.02)


def test_a_bird_that_stands_is_seen_for_one_step_after_its_last_box() -> None:
    time_s = np.array([3.0, 3.0 + STEP_S, 3.0 + 2 * STEP_S])
    xyxy = np.tile(np.array([[0.0, 0.2, 0.1, 0.4]], np.float32), (3, 1))
    assert seen_span_s(time_s, xyxy, STEP_S, all_day) == pytest.approx((3.0, 3.0 + 3 * STEP_S))


def test_a_bird_far_from_the_edge_came_out_of_cover() -> None:
    # At this speed it would have needed longer than CROSSING_S from the edge to its first box.
    time_s, xyxy = flight(10.0 + CROSSING_S + 0.2, 10.0, 14.0, 5)
    came_s, left_s = seen_span_s(time_s, xyxy, STEP_S, all_day)
    assert came_s == pytest.approx(time_s[0])
    assert left_s == pytest.approx(time_s[-1] + STEP_S)


def test_nobody_is_seen_before_the_recording_or_after_it() -> None:
    time_s, xyxy = flight(10.3, 10.0, 11.4, 4)
    came_s, left_s = seen_span_s(time_s, xyxy, STEP_S, lambda _: (10.2, 11.2))
    assert (came_s, left_s) == pytest.approx((10.2, 11.2))


def test_one_box_has_no_speed() -> None:
    xyxy = np.array([[0.0, 0.2, 0.1, 0.4]], np.float32)
    assert seen_span_s(np.array([5.0]), xyxy, STEP_S, all_day) == pytest.approx((5.0, 5.0 + STEP_S))
