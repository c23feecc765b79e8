from __future__ import annotations

import math
from dataclasses import replace

import pytest

from storage.analysis.agreement import annotator_agreement, cohen_kappa
from storage.analysis.consensus import merge_annotators, one_look
from storage.formats.annotations import Annotation, Box

HZ = 15.0


def seen(
    annotator: str,
    box: Box,
    behaviour: str = "peck",
    *,
    time_s: float = 1.0,
    dynamic: bool | None = False,
    individual: str = "",
) -> Annotation:
    return Annotation(annotator, "v.mp4", time_s, box, (behaviour,), dynamic, individual)


LEFT, RIGHT, BELOW = (0.0, 0.0, 0.4, 0.4), (0.6, 0.0, 1.0, 0.4), (0.0, 0.6, 0.4, 1.0)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[20, 5], [10, 15]], 0.4),  # observed 35 / 50, expected 0.5 * 0.6 + 0.5 * 0.4
        ([[25, 0], [0, 25]], 1.0),
        ([[0, 25], [25, 0]], -1.0),
        ([[9, 3], [3, 1]], 0.0),  # 10 / 16 by chance: 0.75 ** 2 + 0.25 ** 2
        ([[4, 1, 0], [0, 3, 1], [1, 0, 2]], 58 / 94),  # 9 / 12, by chance (5 * 5 + 4 * 4 + 3 * 3) / 144
    ],
)
def test_kappa_by_hand(table: list[list[int]], expected: float) -> None:
    pairs = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
    assert cohen_kappa([i for i, _ in pairs], [j for _, j in pairs]) == pytest.approx(expected)


def test_kappa_that_is_undefined() -> None:
    assert math.isnan(cohen_kappa([], []))
    assert math.isnan(cohen_kappa(["peck"] * 3, ["peck"] * 3))
    with pytest.raises(ValueError, match="got 1 and 2"):
        cohen_kappa(["a"], ["a", "b"])


def test_agreement_of_matched_boxes_at_common_moments() -> None:
    shorter = (0.0, 0.0, 0.4, 0.3)  # overlaps LEFT by 3 / 4
    annotations = [
        seen("wang", LEFT, "peck"),
        seen("wang", RIGHT, "fly", dynamic=True),
        seen("wang", LEFT, "fly", time_s=2.0, dynamic=None),
        seen("wang", LEFT, time_s=3.0),
        seen("li", shorter, "peck", time_s=1.03),  # the same fifteenth of a second
        seen("li", RIGHT, "fly", time_s=1.03, dynamic=True),
        seen("li", LEFT, "peck", time_s=2.0),
        seen("li", RIGHT, "peck", time_s=2.0),  # nobody else drew it
    ]
    (pair,) = annotator_agreement(annotations, HZ)
    assert (pair.first, pair.second, pair.moments) == ("wang", "li", 2)
    assert (pair.first_boxes, pair.second_boxes, pair.matched) == (3, 4, 3)
    assert pair.mean_iou == pytest.approx((0.75 + 1 + 1) / 3)
    assert pair.behaviour_agreement == pytest.approx(2 / 3)
    # wang: peck fly fly; li: peck fly peck; chance (1 * 2 + 2 * 1) / 9
    assert pair.behaviour_kappa == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
    assert pair.motion_kappa == 1.0


def test_annotators_without_a_common_moment_are_not_compared() -> None:
    assert annotator_agreement([seen("wang", LEFT), seen("li", LEFT, time_s=2.0)], HZ) == []


def test_the_majority_names_the_behaviour_and_corners_are_the_mean() -> None:
    shifted = (0.0, 0.0, 0.4, 0.43)
    merged = merge_annotators(
        [
            seen("wang", LEFT, "peck", individual="", dynamic=True),
            seen("li", LEFT, "fly", individual="A"),
            seen("zhao", shifted, "fly", individual="7"),
            seen("zhao", RIGHT, "peck"),
            replace(seen("zhao", BELOW), behaviours=()),
        ],
        HZ,
    )
    one, lonely, unclear = merged.annotations
    assert (one.annotator, one.behaviours, one.individual, one.dynamic) == (
        "wang+li+zhao",
        ("fly",),
        "A",
        False,
    )
    assert one.xyxy == pytest.approx((0.0, 0.0, 0.4, 0.41))
    assert (lonely.annotator, lonely.xyxy) == ("zhao", RIGHT)
    assert unclear.behaviours == ()
    assert (merged.seen_by, merged.outvoted) == ({1: 1, 3: 1}, 1)


def test_in_a_tie_the_annotator_who_comes_first_decides() -> None:
    first, second = seen("wang", LEFT, "peck"), seen("li", LEFT, "fly", dynamic=True)
    assert merge_annotators([first, second], HZ).annotations[0].behaviours == ("peck",)
    assert merge_annotators([second, first], HZ).annotations[0].dynamic is True


def test_within_one_moment_an_individual_counts_once_and_birds_side_by_side_stay_two() -> None:
    near, far = seen("wang", LEFT, individual="A"), seen("wang", LEFT, "fly", individual="A", time_s=1.02)
    unnamed = [seen("wang", LEFT), seen("wang", RIGHT)]
    assert merge_annotators([far, near], HZ).annotations == (near,)
    assert set(merge_annotators(unnamed, HZ).annotations) == set(unnamed)
    assert len(merge_annotators([near, replace(near, time_s=1.1)], HZ).annotations) == 2


def test_one_behaviour_counts_more_than_two_whoever_comes_first() -> None:
    unsure = replace(seen("wang", LEFT), behaviours=("peck", "fly"))
    mute = replace(seen("zhao", LEFT), behaviours=())
    merged = merge_annotators([unsure, mute, seen("li", LEFT, "fly")], HZ)
    assert [one.behaviours for one in merged.annotations] == [("fly",)]
    assert merged.outvoted == 1
    assert [one.behaviours for one in merge_annotators([mute], HZ).annotations] == [()]


def test_names_of_individuals_are_each_annotators_own() -> None:
    """One calls the left bird 1 and the right one 2, the other the other way round; the third draws another."""
    far = (0.0, 0.6, 0.4, 1.0)
    drawn = [
        seen("wang", LEFT, individual="1"),
        seen("wang", RIGHT, individual="2"),
        seen("li", LEFT, individual="2"),
        seen("li", RIGHT, individual="1"),
        seen("li", LEFT, individual="2", time_s=2.0),  # wang did not look here
        seen("li", RIGHT, individual="1", time_s=2.0),
        seen("li", far, individual="3", time_s=2.0),
        seen("zhao", far, individual="1", time_s=3.0),  # nothing says which of the birds that is
    ]
    merged = merge_annotators(drawn, HZ).annotations
    assert [(one.time_s, one.xyxy, one.individual) for one in merged] == [
        (1.0, LEFT, "1"),
        (1.0, RIGHT, "2"),
        (2.0, LEFT, "1"),
        (2.0, RIGHT, "2"),
        (2.0, far, "3"),
        (3.0, far, "zhao:1"),
    ]


def test_one_name_is_one_box_at_a_moment() -> None:
    drawn = [
        seen("wang", LEFT, individual="1"),
        seen("li", LEFT, individual="7"),
        seen("wang", LEFT, individual="1", time_s=2.0),
        seen("li", RIGHT, individual="7", time_s=2.0),  # which is wang's 1 by the boxes before
    ]
    merged = merge_annotators(drawn, HZ).annotations
    assert [one.individual for one in merged] == ["1", "1", ""]


def test_boxes_without_a_name_count_once_where_they_lie_more_densely_than_moments() -> None:
    dense = [seen("wang", box, time_s=time_s) for time_s in (0.99, 1.0, 1.02) for box in (LEFT, RIGHT)]
    beside = seen("wang", (0.0, 0.6, 0.4, 1.0), time_s=1.01)
    looks = one_look([*dense, beside], HZ)
    assert sorted((one.time_s, one.xyxy) for one in looks) == [(1.0, LEFT), (1.0, RIGHT), (1.01, beside.xyxy)]
    assert one_look(looks, HZ) == looks
