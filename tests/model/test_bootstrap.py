from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.bootstrap import (
    Ranking,
    bootstrap_average_precision,
    draw_videos,
    mean_of_classes,
    percentile_interval,
)
from model.metrics import average_precision


def ranking(rows: list[tuple[int, bool, int]], missed: list[int]) -> Ranking:
    """Rows of (score, is true, video); ``missed`` are true instances of each video that no row found."""
    scores, is_true, video = (np.array(column) for column in zip(*rows, strict=True))
    num_true = np.bincount(video[is_true], minlength=len(missed)) + np.array(missed)
    return Ranking(scores.astype(float), is_true, video, num_true)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 2)), min_size=1, max_size=14),
    st.lists(st.integers(0, 2), min_size=3, max_size=3),
    st.lists(st.integers(0, 3), min_size=3, max_size=3),
)
def test_a_replicate_is_the_score_of_the_rows_repeated_as_often_as_their_video_was_drawn(
    rows: list[tuple[int, bool, int]], missed: list[int], drawn: list[int]
) -> None:
    one = ranking(rows, missed)
    times = np.array(drawn)[one.video]
    scores, is_true = np.repeat(one.scores, times), np.repeat(one.is_true, times)
    expected = average_precision(scores, is_true, int(np.array(drawn) @ one.num_true))
    replicates = bootstrap_average_precision(one, np.array([drawn, [1, 1, 1]]))
    np.testing.assert_allclose(replicates, [expected, one.average_precision], atol=1e-12)


def test_every_replicate_draws_as_many_videos_as_there_are() -> None:
    draws = draw_videos(7, replicates=300, seed=3)
    assert draws.shape == (300, 7)
    assert (draws.sum(axis=1) == 7).all()
    assert np.array_equal(draws, draw_videos(7, replicates=300, seed=3))
    assert not np.array_equal(draws, draw_videos(7, replicates=300, seed=4))
    assert draws.mean(axis=0) == pytest.approx(np.ones(7), abs=0.2)


def test_the_interval_of_a_share_is_the_binomial_one() -> None:
    # Twelve videos of one true instance each, all found first in half of them and never in the others: the
    # average precision is the share of drawn videos of the first kind, which is binomial(12, 1/2) / 12.
    one = Ranking(np.ones(6), np.ones(6, bool), np.arange(6), np.ones(12, np.int64))
    replicates = bootstrap_average_precision(one, draw_videos(12, replicates=20_000))
    assert replicates.std() == pytest.approx(np.sqrt(0.25 / 12), rel=0.02)
    assert percentile_interval(replicates) == pytest.approx((3 / 12, 9 / 12))


def test_many_rows_are_worked_off_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows = [
        (int(s), bool(t), int(v)) for s, t, v in zip(*rng.integers(0, [[9], [2], [3]], (3, 40)), strict=True)
    ]
    one, draws = ranking(rows, [1, 0, 2]), draw_videos(3, replicates=11)
    whole = bootstrap_average_precision(one, draws)
    monkeypatch.setattr("model.bootstrap._CELLS_AT_ONCE", 20)
    assert np.array_equal(bootstrap_average_precision(one, draws), whole)


def test_a_replicate_without_true_instances_is_unknown_and_leaves_its_class_out_of_the_mean() -> None:
    rare = ranking([(1, True, 0), (0, False, 1)], [0, 0])
    replicates = np.stack([bootstrap_average_precision(rare, np.array([[0, 2], [1, 1]])), [0.4, 0.6]])
    assert np.isnan(replicates[0, 0])
    assert mean_of_classes(replicates).tolist() == [0.4, 0.8]
    assert np.isnan(mean_of_classes(np.full((2, 1), np.nan))).all()
    assert percentile_interval(np.full(5, np.nan)) is None


def test_some_of_the_videos() -> None:
    one = ranking([(3, True, 0), (2, False, 1), (1, True, 1), (1, False, 2)], [0, 0, 4])
    part = one.of_videos(np.array([False, True, False]))
    assert part.num_true.tolist() == [0, 1, 0]
    assert part.average_precision == pytest.approx(0.5)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"video must have shape \(2,\), got \(3,\)"):
        Ranking(np.zeros(2), np.zeros(2, bool), np.zeros(3, np.int64), np.zeros(1, np.int64))
