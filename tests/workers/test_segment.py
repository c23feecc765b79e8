"""Bouts: laws that hold for any scores, and cases that can be worked out by hand."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.ethogram import Behaviour, BoutRule, Ethogram
from model.refiner import Refiner, RefinerShape
from storage.records import DetectionColumns, EventRecord
from workers.bouts import UNSCORED, Stretch, apply_rules, decide, smooth, stretches
from workers.messages import GRID_HZ, KEYFRAME_STEP
from workers.segment import segment_camera_day
from workers.track import TrackInput, TrackSettings, track_camera_day

STEP_S = KEYFRAME_STEP / GRID_HZ
START = dt.datetime(2026, 1, 10, 8, 0, tzinfo=dt.UTC)
NAMES = ("feeding", "vigilance", "walk")
LETTERS = {"f": 0, "v": 1, "w": 2}
PLAIN = BoutRule(enter_score=0.5, leave_score=0.5, smoothing_s=0.0, max_gap_s=0.0, min_bout_s=0.0)


def ethogram(*rules: BoutRule) -> Ethogram:
    return Ethogram(
        "test", "Grus", tuple(Behaviour(n, "", "#000000", r) for n, r in zip(NAMES, rules, strict=True))
    )


ALL_PLAIN = ethogram(PLAIN, PLAIN, PLAIN)


def recording(
    script: str,
    *,
    video_id: str = "video",
    start: dt.datetime = START,
    p_other: float = 0.0,
    p_dynamic: float = 0.2,
    duration_s: float | None = None,
) -> TrackInput:
    """One standing bird; a letter a keyframe: f, v, w as scored, ``-`` nothing sure, ``?`` unscored, a space
    where it is hidden."""
    index = np.array([k for k, letter in enumerate(script) if letter != " "])
    count = len(index)
    scores = np.full((count, 3), 0.1, np.float32)
    for row, k in enumerate(index):
        if script[k] in LETTERS:
            scores[row, LETTERS[script[k]]] = 0.9
        if script[k] == "?":
            scores[row] = np.nan
    columns = DetectionColumns(
        video_id=video_id,
        frame=(8 * index).astype(np.int32),
        time_s=index * STEP_S,
        xyxy=np.tile(np.array([0.4, 0.5, 0.5, 0.7], np.float32), (count, 1)),
        box_score=np.full(count, 0.9, np.float32),
        p_behaviour=scores,
        p_other=np.full(count, p_other, np.float32),
        p_dynamic=np.full(count, p_dynamic, np.float32),
        embedding=np.ones((count, 64), np.int8),
    )
    length_s = len(script) * STEP_S if duration_s is None else duration_s
    return TrackInput("cam", columns, start, length_s, 30.0, 16 / 9, np.array([[0.0, length_s]]))


def events_of(*videos: TrackInput, rules: Ethogram = ALL_PLAIN) -> list[EventRecord]:
    tracks = track_camera_day(videos, TrackSettings(), None)
    return segment_camera_day(tracks, rules, "model", "config")


def shown(events: list[EventRecord]) -> list[tuple[str, int]]:
    """Behaviour and length in keyframes of each event."""
    return [(event.behaviour, round(event.duration_s / STEP_S)) for event in events]


def test_scores_become_bouts_from_keyframe_to_keyframe() -> None:
    first, second, third = events_of(recording("ffffvvwww"))
    assert [e.behaviour for e in (first, second, third)] == ["feeding", "vigilance", "walk"]
    assert first.start_time == START
    assert first.start_s == 0.0
    assert first.end_s == pytest.approx(4 * STEP_S)
    assert (first.start_frame, first.end_frame) == (0, 32)
    assert first.observations == 4
    assert (first.score_mean, first.score_peak) == (pytest.approx(0.9), pytest.approx(0.9))
    assert (first.x1, first.y1, first.x2, first.y2) == pytest.approx((0.4, 0.5, 0.5, 0.7))
    assert first.end_time == second.start_time
    assert third.end_s == pytest.approx(9 * STEP_S)
    assert (first.model_digest, first.config_digest) == ("model", "config")
    assert len({e.event_id for e in (first, second, third)}) == 3
    assert {e.individual_id for e in (first, second, third)} == {first.individual_id}


def test_a_refiner_decides_from_the_scores_around_a_keyframe() -> None:
    """One that asks the keyframe before: each bout begins a keyframe late, and before the first nothing is known."""
    shape = RefinerShape(channels=7, layers=1)
    tensors = {name: np.zeros(size, np.float32) for name, size in shape.tensors(3).items()}
    one = np.eye(3, dtype=np.float32)
    tensors["enter.weight"][:, :3, :3, 0] = one
    tensors["enter.weight"][:, 3:6, :3, 0] = -one
    tensors["dilated.0.weight"][:, :6, :6, 0] = np.eye(6)  # both parts of the keyframe before
    tensors["mixing.0.weight"][:, :3, :3, 0] = one
    tensors["mixing.0.weight"][:, :3, 3:6, 0] = -one
    tensors["leave.weight"][:, :, :3, 0] = 4.0 * one
    tensors["leave.weight"][:, :, 3:6, 0] = 8.0 * one  # takes the keyframe's own part away again
    refiner = Refiner(shape, tensors)
    video = recording("ffffvvvv")
    tracks = track_camera_day([video], TrackSettings(), None)
    events = segment_camera_day(tracks, ALL_PLAIN, "model", "config", refiner)
    assert shown(events) == [("unscored", 1), ("feeding", 4), ("vigilance", 3)]


def test_what_reaches_no_enter_score_is_unscored() -> None:
    events = events_of(recording("ff--vv"))
    assert shown(events) == [("feeding", 2), ("unscored", 2), ("vigilance", 2)]
    assert np.isnan(events[1].score_mean)
    assert events[1].observations == 2


def test_a_head_raised_for_less_than_a_second_inside_feeding_is_feeding() -> None:
    feeding = dataclasses.replace(PLAIN, max_gap_s=1.0)
    assert shown(events_of(recording("ffffvvvffff"), rules=ethogram(feeding, PLAIN, PLAIN))) == [
        ("feeding", 11)
    ]
    longer = events_of(recording("ffffvvvvffff"), rules=ethogram(feeding, PLAIN, PLAIN))
    assert shown(longer) == [("feeding", 4), ("vigilance", 4), ("feeding", 4)]


def test_a_gap_of_several_states_is_filled_when_it_is_short_as_a_whole() -> None:
    feeding = dataclasses.replace(PLAIN, max_gap_s=1.0)
    rules = ethogram(feeding, PLAIN, PLAIN)
    assert shown(events_of(recording("fffv-wfff"), rules=rules)) == [("feeding", 9)]
    assert len(events_of(recording("fffv-wvfff"), rules=rules)) == 6


def test_short_bouts_go_to_what_surrounds_them_or_to_nothing() -> None:
    walk = dataclasses.replace(PLAIN, min_bout_s=1.0)
    rules = ethogram(PLAIN, PLAIN, walk)
    assert shown(events_of(recording("ffffwwffff"), rules=rules)) == [("feeding", 10)]
    assert shown(events_of(recording("ffffwwvvvv"), rules=rules)) == [
        ("feeding", 4),
        ("unscored", 2),
        ("vigilance", 4),
    ]
    assert shown(events_of(recording("wwffff"), rules=rules)) == [("unscored", 2), ("feeding", 4)]
    assert shown(events_of(recording("wwwwffff"), rules=rules)) == [("walk", 4), ("feeding", 4)]


def test_a_bird_hidden_for_longer_is_not_visible_within_its_span() -> None:
    events = events_of(recording("ffff" + " " * 10 + "vvvv"))
    assert shown(events) == [("feeding", 4), ("not_visible", 10), ("vigilance", 4)]
    hidden = events[1]
    assert hidden.observations == 0
    assert hidden.motion == ""
    assert np.isnan([hidden.score_mean, hidden.score_peak, hidden.p_dynamic, hidden.x1, hidden.y2]).all()


def test_during_a_hole_of_less_than_a_second_the_state_goes_on() -> None:
    assert shown(events_of(recording("ffff   vvvv"))) == [("feeding", 7), ("vigilance", 4)]


def test_no_bout_reaches_over_a_longer_hole() -> None:
    feeding = dataclasses.replace(PLAIN, max_gap_s=30.0, smoothing_s=9.0)
    events = events_of(recording("ffff" + " " * 10 + "ffff"), rules=ethogram(feeding, PLAIN, PLAIN))
    assert shown(events) == [("feeding", 4), ("not_visible", 10), ("feeding", 4)]


def test_a_video_without_scores_is_unscored() -> None:
    assert shown(events_of(recording("?????"))) == [("unscored", 5)]
    # A missing score neither counts as a low one nor is filled in.
    smoothed = dataclasses.replace(PLAIN, smoothing_s=1.0)
    events = events_of(recording("ff?ff"), rules=ethogram(smoothed, PLAIN, PLAIN))
    assert shown(events) == [("feeding", 2), ("unscored", 1), ("feeding", 2)]


def test_a_mover_that_is_no_bird_has_no_behaviour() -> None:
    events = events_of(recording("ffff" + " " * 8 + "vvvv", p_other=0.9))
    assert shown(events) == [("other", 4), ("not_visible", 8), ("other", 4)]
    assert events[0].score_mean == pytest.approx(0.9)


@pytest.mark.parametrize(("p_dynamic", "motion"), [(0.2, "static"), (0.5, "dynamic")])
def test_motion_is_that_of_most_of_the_bout(p_dynamic: float, motion: str) -> None:
    (event,) = events_of(recording("ffff", p_dynamic=p_dynamic))
    assert event.motion == motion
    assert event.p_dynamic == pytest.approx(p_dynamic)


def test_a_bout_goes_on_in_the_next_recording() -> None:
    first = recording("vvffff", video_id="a")
    second = recording("fffww", video_id="b", start=START + dt.timedelta(seconds=6 * STEP_S))
    watching, feeding, walking = events_of(first, second)
    assert (watching.video_id, feeding.video_id, walking.video_id) == ("a", "a", "b")
    assert feeding.start_s == pytest.approx(2 * STEP_S)
    assert feeding.end_s == pytest.approx(9 * STEP_S, abs=1e-5)  # beyond the end of its recording
    assert feeding.end_frame == 72
    assert walking.start_s == pytest.approx(3 * STEP_S, abs=1e-5)
    assert walking.start_frame == 24
    assert walking.start_time == feeding.end_time


def test_a_pause_between_recordings_is_not_visible_and_belongs_to_the_first() -> None:
    first = recording("ffff", video_id="a")
    second = recording("ffff", video_id="b", start=START + dt.timedelta(seconds=4 * STEP_S + 3))
    events = events_of(first, second)
    assert [e.behaviour for e in events] == ["feeding", "not_visible", "feeding"]
    assert [e.video_id for e in events] == ["a", "a", "b"]
    assert events[1].duration_s == pytest.approx(3.0)


def test_events_are_the_same_whatever_the_order_of_the_recordings() -> None:
    first = recording("vvff", video_id="a")
    second = recording("fffww", video_id="b", start=START + dt.timedelta(seconds=4 * STEP_S))
    assert events_of(first, second) == events_of(second, first)


def test_another_ethogram_than_the_stores_is_refused() -> None:
    one = Ethogram("narrow", "Grus", (Behaviour("feeding", "", "#000000"),))
    with pytest.raises(ValueError, match="3 probabilities per box, the ethogram 'narrow' has 1"):
        events_of(recording("ffff"), rules=one)


def test_an_empty_camera_day_has_no_events() -> None:
    assert events_of() == []
    assert events_of(recording("    ")) == []


rules_strategy = st.builds(
    lambda enter, drop, smoothing, gap, least: BoutRule(enter, enter * drop, smoothing, gap, least),
    st.floats(0.2, 0.8),
    st.floats(0.3, 1.0),
    st.sampled_from([0.0, 0.3, 0.8, 2.0]),
    st.sampled_from([0.0, 0.5, 1.5]),
    st.sampled_from([0.0, 0.6, 2.0]),
)


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(st.sampled_from([1, 1, 1, 1, 2, 4, 7, 20]), min_size=2, max_size=60),
    rules=st.tuples(rules_strategy, rules_strategy, rules_strategy),
    seed=st.integers(0, 2**16),
    cut=st.integers(1, 10_000),
    p_other=st.sampled_from([0.0, 0.0, 0.9]),
)
def test_bouts_never_overlap_and_add_up_to_the_span(
    steps: list[int], rules: tuple[BoutRule, BoutRule, BoutRule], seed: int, cut: int, p_other: float
) -> None:
    rng = np.random.default_rng(seed)
    whole = recording("f" * (sum(steps) + 1), p_other=p_other)
    # Frames are not exactly on the grid, and some are not scored.
    index = np.concatenate([[0], np.cumsum(steps)])
    time_s = index * STEP_S + rng.uniform(0, 0.03, len(index))
    scores = rng.random((len(index), 3)).astype(np.float32) ** 2
    scores[rng.random(len(index)) < 0.1] = np.nan
    border = 1 + cut % (len(index) - 1)
    videos = []
    for name, part in (("a", slice(0, border)), ("b", slice(border, None))):
        start_s = 0.0 if name == "a" else float(index[border]) * STEP_S
        columns = dataclasses.replace(
            whole.detections,
            video_id=name,
            time_s=time_s[part] - start_s,
            p_behaviour=scores[part],
            **{
                field: getattr(whole.detections, field)[: len(index)][part]
                for field in ("frame", "xyxy", "box_score", "p_other", "p_dynamic", "embedding")
            },
        )
        length_s = float(index[border]) * STEP_S if name == "a" else float(index[-1] + 1) * STEP_S - start_s
        start = START + dt.timedelta(seconds=start_s)
        videos.append(dataclasses.replace(whole, detections=columns, start_time=start, duration_s=length_s))
    tracks = track_camera_day(videos, TrackSettings(), None)
    etho = ethogram(*rules)
    events = segment_camera_day(tracks, etho, "m", "c")
    again = segment_camera_day(tracks, etho, "m", "c")
    assert repr(events) == repr(again)  # NaN is not equal to itself
    for one in tracks.individuals:
        own = [event for event in events if event.individual_id == one.individual_id]
        assert own[0].start_time == one.first_seen
        assert own[-1].end_time == one.last_seen
        for before, after in itertools.pairwise(own):
            assert before.end_time == after.start_time
            assert before.behaviour != after.behaviour
        span_s = (one.last_seen - one.first_seen).total_seconds()
        assert sum(event.duration_s for event in own) == pytest.approx(span_s, abs=2e-6)
        hidden_s = sum(event.duration_s for event in own if event.behaviour == "not_visible")
        assert one.visible_s == pytest.approx(span_s - hidden_s, abs=2e-6)
        assert sum(event.observations for event in own) == one.boxes
        allowed = {"other", "not_visible"} if one.kind == "other" else {*NAMES, "unscored", "not_visible"}
        assert {event.behaviour for event in own} <= allowed
    assert len({event.event_id for event in events}) == len(events)


def test_smoothing_counts_the_samples_within_half_the_width() -> None:
    scores = np.array([[0.0], [0.6], [0.0], [0.9], [0.3]])
    time_s = np.array([0.0, 0.25, 0.5, 0.75, 1.75])
    run = np.array([0, 0, 0, 1, 1])
    result = smooth(scores, time_s, run, [0.5])
    # Three samples in the middle of the first run; in the second, which begins at 0.75, they are far apart.
    assert result[:, 0] == pytest.approx([0.3, 0.2, 0.3, 0.9, 0.3])
    assert smooth(scores, time_s, run, [0.0])[:, 0] == pytest.approx(scores[:, 0])


def test_smoothing_leaves_out_what_is_not_known() -> None:
    scores = np.array([[0.2, 0.5], [np.nan, 0.5], [0.4, np.nan]])
    result = smooth(scores, np.array([0.0, 0.1, 0.2]), np.zeros(3, np.intp), [1.0, 0.0])
    assert result[:, 0] == pytest.approx([0.3, np.nan, 0.3], nan_ok=True)
    assert result[:, 1] == pytest.approx([0.5, 0.5, np.nan], nan_ok=True)


def test_a_behaviour_holds_on_until_it_falls_below_its_leave_score() -> None:
    rule = BoutRule(enter_score=0.6, leave_score=0.3)
    scores = np.array([0.5, 0.7, 0.4, 0.3, 0.2, 0.4, 0.6])[:, None]
    state = decide(scores, np.zeros(7, np.intp), [rule])
    assert state.tolist() == [UNSCORED, 0, 0, 0, UNSCORED, UNSCORED, 0]


def test_another_that_enters_takes_over_and_the_higher_of_two_wins() -> None:
    rule = BoutRule(enter_score=0.5, leave_score=0.2)
    scores = np.array([[0.8, 0.1], [0.45, 0.5], [0.9, 0.6], [0.3, 0.4]])
    assert decide(scores, np.zeros(4, np.intp), [rule, rule]).tolist() == [0, 1, 0, 0]


def test_nothing_holds_on_over_a_hole() -> None:
    rule = BoutRule(enter_score=0.6, leave_score=0.3)
    scores = np.array([0.7, 0.4, 0.4])[:, None]
    assert decide(scores, np.array([0, 0, 1]), [rule]).tolist() == [0, 0, UNSCORED]


def test_rules_keep_every_sample_in_exactly_one_stretch() -> None:
    rules = [BoutRule(max_gap_s=1.0, min_bout_s=1.0), BoutRule(max_gap_s=2.0, min_bout_s=0.4)]
    found = stretches(np.array([0, 0, 1, 1, 0, UNSCORED, 1, 0, 0, 0]))
    assert found[0] == Stretch(0, 0, 2)
    result = apply_rules(found, np.arange(11) * 0.4, rules)
    covered = [k for stretch in result for k in range(stretch.first, stretch.stop)]
    assert covered == list(range(10))
    assert all(a.state != b.state for a, b in itertools.pairwise(result))


def test_a_longer_pause_that_tracking_was_told_to_bridge_is_bridged_here_too() -> None:
    first = recording("ffff", video_id="a")
    second = recording("ffff", video_id="b", start=START + dt.timedelta(seconds=4 * STEP_S + 8))
    tracks = track_camera_day([first, second], TrackSettings(max_gap_s=10.0), None)
    events = segment_camera_day(tracks, ALL_PLAIN, "model", "config")
    assert [e.behaviour for e in events] == ["feeding", "not_visible", "feeding"]
    assert len(events_of(first, second)) == 2
