from __future__ import annotations

import pytest

from flows.planning.loads import Presence, VideoLoad, even_days, load_days

FIFTH = Presence(share=0.2, span_s=25.0, segment_s=300.0)


def test_what_is_present_is_cut_into_pieces_of_the_length_that_was_seen() -> None:
    assert FIFTH.load(500.0) == VideoLoad(500.0, (25.0,) * 4)
    assert FIFTH.load(50.0) == VideoLoad(50.0, (10.0,))
    assert sum(FIFTH.load(777.0).segments_s) == pytest.approx(0.2 * 777)


def test_a_video_in_which_something_is_there_all_the_time_is_one_span_cut_into_segments() -> None:
    assert Presence(1.0, 25.0, 300.0).load(900.0) == VideoLoad(900.0, (300.0,) * 3)
    assert Presence(0.0, 25.0, 300.0).load(900.0) == VideoLoad(900.0, ())


def test_spans_are_cut_for_idle_workers_as_a_run_cuts_them() -> None:
    whole = Presence(1.0, 25.0, segment_s=None)
    assert whole.load(900.0) == VideoLoad(900.0, (900.0,))
    placed = [("one", "", 900.0), ("three", "", 600.0), ("three", "", 600.0), ("three", "", 600.0)]
    one, three = load_days(placed, whole, workers=2)
    assert [video.segments_s for video in one.videos] == [(450.0, 450.0)]
    assert [video.segments_s for video in three.videos] == [(600.0,), (600.0,), (300.0, 300.0)]
    (fixed,) = load_days(placed[:1], Presence(1.0, 25.0, segment_s=300.0), workers=2)
    assert [video.segments_s for video in fixed.videos] == [(300.0,) * 3]


def test_days_are_in_order_and_know_the_day_before_of_their_camera() -> None:
    placed = [("south", "d1", 40.0), ("north", "d2", 30.0), ("north", "d1", 20.0), ("north", "d1", 10.0)]
    days = load_days(placed, FIFTH, workers=2)
    assert [day.video_s for day in days] == [30.0, 30.0, 40.0]
    assert [day.after for day in days] == [None, 0, None]


def test_even_days_keep_the_sums() -> None:
    days = even_days(2, 5, 500.0, FIFTH, workers=2)
    assert [day.video_s for day in days] == [300.0, 200.0]
    assert [day.after for day in days] == [None, None]


def test_a_share_is_no_percentage() -> None:
    with pytest.raises(ValueError, match="share from 0 to 1"):
        Presence(20.0, 25.0, 300.0)
