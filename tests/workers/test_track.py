"""Tracking, on scenes that say in words what the birds do; lengths in picture heights, times in seconds."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records import DetectionColumns, TrackRecord
from workers.association import assign, find_duplicates, unlikeness
from workers.messages import GRID_HZ, KEYFRAME_STEP
from workers.track import (
    CameraDayTracks,
    TrackInput,
    TrackSettings,
    carry_from,
    chains,
    track_camera_day,
)

STEP_S = KEYFRAME_STEP / GRID_HZ
ASPECT = 16 / 9
START = dt.datetime(2026, 1, 10, 8, 0, tzinfo=dt.UTC)
SETTINGS = TrackSettings()
Path = Callable[[float], tuple[float, float]]
"""Where the middle of a bird is at a time."""


@dataclasses.dataclass(frozen=True)
class Actor:
    """A bird of a scene."""

    path: Path
    visible: tuple[tuple[float, float], ...]
    """Spans in which it is found."""
    height: float = 0.2
    width: float = 0.15
    plumage: int = 0
    score: float = 0.9
    p_other: float = 0.1


def standing(x: float, y: float) -> Path:
    return lambda time_s: (x, y)


def moving(x: float, y: float, speed: float, climb: float = 0.0) -> Path:
    """``speed`` and ``climb`` in picture heights a second."""
    return lambda time_s: (x + speed * time_s, y + climb * time_s)


def film(
    actors: Sequence[Actor],
    duration_s: float,
    *,
    video_id: str = "video",
    start: dt.datetime = START,
    offset_s: float = 0.0,
    jitter: float = 0.0,
    spans_s: Sequence[tuple[float, float]] | None = None,
    aspect: float = ASPECT,
    fps: float = 30.0,
) -> tuple[TrackInput, list[int]]:
    """What a detector finds at the keyframes, and whom each row shows; the scene is at ``offset_s``."""
    rng = np.random.default_rng(7)
    plumages = np.random.default_rng(3).normal(size=(8, 64))
    rows = []
    for index in range(int((duration_s - 1e-9) / STEP_S) + 1):
        time_s = index * STEP_S
        for who, actor in enumerate(actors):
            if not any(a <= time_s + offset_s + 1e-9 < b for a, b in actor.visible):
                continue
            x, y = actor.path(time_s + offset_s)
            half = np.array([actor.width, actor.height]) / 2
            off = rng.normal(0.0, jitter, 4) * np.tile(2 * half, 2)
            box = (np.array([x - half[0], y - half[1], x + half[0], y + half[1]]) + off) / [
                aspect,
                1,
                aspect,
                1,
            ]
            rows.append((index, *np.clip(box, 0, 1), who))
    rows.sort()
    who_is = [row[5] for row in rows]
    frame = np.array([round(row[0] * STEP_S * fps) for row in rows], np.int32)
    count = len(rows)
    columns = DetectionColumns(
        video_id=video_id,
        frame=frame,
        time_s=np.array([row[0] * STEP_S for row in rows], np.float64),
        xyxy=np.array([row[1:5] for row in rows], np.float32).reshape(count, 4),
        box_score=np.array([actors[who].score for who in who_is], np.float32),
        p_behaviour=np.full((count, 3), 0.2, np.float32),
        p_other=np.array([actors[who].p_other for who in who_is], np.float32),
        p_dynamic=np.zeros(count, np.float32),
        embedding=(plumages[[actors[who].plumage for who in who_is]] * 40).clip(-127, 127).astype(np.int8),
    )
    spans = np.array(spans_s or [(0.0, duration_s)], np.float64)
    return TrackInput("cam", columns, start, duration_s, fps, aspect, spans), who_is


def ids_by_actor(
    tracks: CameraDayTracks, filmed: Sequence[tuple[TrackInput, list[int]]]
) -> dict[int, list[str]]:
    """The ids that each actor got, in the order of first use."""
    found: dict[int, list[str]] = {}
    for video, who_is in filmed:
        for who, individual_id in zip(who_is, tracks.individual_ids(video.video_id), strict=True):
            used = found.setdefault(who, [])
            if individual_id not in used:
                used.append(individual_id)
    return found


def run(*filmed: tuple[TrackInput, list[int]], settings: TrackSettings = SETTINGS) -> dict[int, list[str]]:
    return ids_by_actor(track_camera_day([video for video, _ in filmed], settings, None), filmed)


def assert_each_has_one_id_of_its_own(found: dict[int, list[str]]) -> None:
    assert all(len(ids) == 1 and ids[0] for ids in found.values()), found
    assert len({ids[0] for ids in found.values()}) == len(found), found


ALWAYS = ((0.0, 1e9),)


def test_two_birds_that_walk_past_each_other_at_different_depths_keep_their_ids() -> None:
    scene = [
        Actor(moving(0.3, 0.60, 0.06), ALWAYS),
        Actor(moving(1.3, 0.68, -0.06), ALWAYS),
    ]
    assert_each_has_one_id_of_its_own(run(film(scene, 16.0, jitter=0.02)))


def test_a_bird_that_flies_two_and_a_half_body_lengths_a_keyframe_is_one_individual() -> None:
    length = 0.08
    scene = [Actor(moving(0.05, 0.4, 2.5 * length / STEP_S, -0.05), ALWAYS, 0.05, length)]
    found = run(film(scene, 8 * STEP_S))
    assert_each_has_one_id_of_its_own(found)


def test_a_flock_closer_than_its_step_is_not_mixed_up() -> None:
    # Spacing 1.2 lengths, step 2.2 lengths: the box nearest to where a bird was is the follower's.
    length = 0.1
    scene = [
        Actor(
            moving(0.05 - 1.2 * length * k, 0.4 + 0.02 * k, 2.2 * length / STEP_S),
            ((0.3 * k, 1e9),),
            0.06,
            length,
        )
        for k in range(3)
    ]
    filmed = film(scene, 6 * STEP_S)
    ids = track_camera_day([filmed[0]], SETTINGS, None).individual_ids("video")
    pairs = {(who, name) for who, name in zip(filmed[1], ids, strict=True) if name}
    assert len(pairs) == len({who for who, _ in pairs}) == 3


def test_a_flying_bird_passes_over_a_resting_one() -> None:
    scene = [
        Actor(standing(0.9, 0.5), ALWAYS, 0.2, 0.15),
        Actor(moving(0.1, 0.48, 0.9), ALWAYS, 0.1, 0.15, plumage=1),
    ]
    assert_each_has_one_id_of_its_own(run(film(scene, 1.8)))


def test_a_bird_hidden_for_four_seconds_behind_another_is_the_same_again() -> None:
    scene = [
        Actor(standing(0.9, 0.55), ALWAYS, plumage=1),
        Actor(standing(0.88, 0.53), ((0.0, 6.0), (10.0, 20.0))),
    ]
    assert_each_has_one_id_of_its_own(run(film(scene, 20.0, jitter=0.02)))


def test_a_walking_bird_reappears_on_the_other_side() -> None:
    scene = [
        Actor(standing(0.9, 0.55), ALWAYS, plumage=1),
        Actor(moving(0.4, 0.53, 0.05), ((0.0, 8.0), (11.5, 20.0))),
    ]
    assert_each_has_one_id_of_its_own(run(film(scene, 20.0, jitter=0.02)))


@pytest.mark.parametrize(("hidden_s", "ids"), [(11.0, 1), (14.0, 2)])
def test_after_a_longer_time_than_max_occlusion_it_is_a_new_individual(hidden_s: float, ids: int) -> None:
    scene = [Actor(standing(0.9, 0.5), ((0.0, 5.0), (5.0 + hidden_s, 30.0)))]
    assert len(run(film(scene, 30.0))[0]) == ids


@pytest.mark.parametrize("way", [1.0, -1.0], ids=["takes off", "lands"])
@pytest.mark.parametrize(("unseen_s", "ids"), [(0.5, 1), (1.4, 2)])
def test_a_bird_that_is_not_seen_taking_off_or_landing_is_the_same(
    way: float, unseen_s: float, ids: int
) -> None:
    def path(time_s: float) -> tuple[float, float]:
        flown_s = max(0.0, way * (time_s - 6.0))
        return 1.0 - 0.5 * flown_s, 0.7 - 0.2 * flown_s

    first, second = sorted((6.0, 6.0 + way * unseen_s))
    found = run(film([Actor(path, ((4.0, first), (second, 8.0)))], 9.0))
    assert len(found[0]) == ids


def test_of_two_places_to_reappear_plumage_decides() -> None:
    scene = [
        Actor(standing(0.80, 0.5), ((0.0, 5.0),), plumage=1),
        Actor(standing(0.90, 0.5), ((0.0, 5.0),), plumage=2),
        Actor(standing(0.85, 0.5), ((8.0, 14.0),), plumage=2),
    ]
    found = run(film(scene, 14.0))
    assert found[2] == found[1] != found[0]


def test_a_bird_that_leaves_and_another_that_enters_there_are_two() -> None:
    right = moving(1.2, 0.5, 0.30)
    back = moving(2.17, 0.5, -0.15)
    scene = [Actor(right, ((0.0, 1.8),)), Actor(back, ((3.0, 6.0),))]
    assert_each_has_one_id_of_its_own(run(film(scene, 6.0)))


def test_a_bird_that_flies_out_and_another_that_flies_in_two_keyframes_later_are_two() -> None:
    length, gone_s, in_s = 0.25, 6.5 * STEP_S, 7.5 * STEP_S
    out = moving(0.9, 0.2, -0.125 / STEP_S)
    back = moving(0.07 - in_s * 0.09 / STEP_S, 0.4, 0.09 / STEP_S)
    scene = [Actor(out, ((0.0, gone_s),), 0.1, length), Actor(back, ((in_s, 9.0),), 0.1, length)]
    assert_each_has_one_id_of_its_own(run(film(scene, 14 * STEP_S)))


@pytest.mark.parametrize(("place", "ids"), [(0.9, 1), (1.2, 2)])
def test_over_a_stretch_in_which_nothing_was_there_only_the_same_place_joins(place: float, ids: int) -> None:
    scene = [Actor(standing(0.9, 0.5), ((0.0, 4.0),)), Actor(standing(place, 0.5), ((8.0, 12.0),))]
    watched = run(film(scene, 12.0))
    skipped = run(film(scene, 12.0, spans_s=[(0.0, 4.0), (8.0, 12.0)]))
    assert len({name for names in watched.values() for name in names}) == 1
    assert len({name for names in skipped.values() for name in names}) == ids


@pytest.mark.parametrize(("pause_s", "ids"), [(-1.0, 1), (0.0, 1), (4.0, 1), (6.0, 2), (-3.0, 2)])
def test_identities_go_on_in_the_next_recording_unless_it_comes_late_or_overlaps(
    pause_s: float, ids: int
) -> None:
    scene = [Actor(moving(0.5, 0.5, 0.01), ALWAYS), Actor(standing(1.2, 0.6), ALWAYS)]
    first = film(scene, 20.0, video_id="a")
    second = film(
        scene, 12.0, video_id="b", start=START + dt.timedelta(seconds=20.0 + pause_s), offset_s=20.0 + pause_s
    )
    found = run(first, second)
    assert [len(names) for names in found.values()] == [ids, ids]


def film_in_files(
    scene: list[Actor], files: int, seconds: float, jitter: float = 0.0
) -> list[tuple[TrackInput, list[int]]]:
    """Files that each repeat the last 0.6 s of the one before."""
    begins_s = [(seconds - 0.6) * k for k in range(files)]
    return [
        film(
            scene,
            seconds,
            video_id=f"v{k}",
            start=START + dt.timedelta(seconds=begin_s),
            offset_s=begin_s,
            jitter=jitter,
        )
        for k, begin_s in enumerate(begins_s)
    ]


def test_identities_go_on_through_many_files_that_repeat_a_little_and_nothing_counts_twice_for_long() -> None:
    scene = [Actor(moving(0.3, 0.5, 0.006), ALWAYS), Actor(standing(1.2, 0.6), ALWAYS)]
    filmed = film_in_files(scene, 8, 20.0)
    tracks = track_camera_day([video for video, _ in filmed], SETTINGS, None)
    (chain,) = tracks.chains
    # Whole seconds may hide up to 1 s of overlap; beyond, the clock is the recordings' own, and the rest is left out.
    assert chain.starts_s == pytest.approx((0.0, 20.0, *(19.4 * k + 1.0 for k in range(2, 8))))
    assert chain.skipped == (0, 0, 2, *[6] * 5)  # 0.2 s and 0.6 s of two birds, every 4/15 s
    assert (np.diff(chain.times_s()) >= 0).all()
    for video, _ in filmed:
        names = tracks.individual_ids(video.video_id)
        assert [name == "" for name in names] == [
            k < len(names) - sum(map(bool, names)) for k in range(len(names))
        ]
    found = ids_by_actor(tracks, filmed)
    assert_each_has_one_id_of_its_own({who: [name for name in ids if name] for who, ids in found.items()})
    end = START + dt.timedelta(seconds=7 * 19.4 + 20.0)
    assert all(end <= one.last_seen <= end + dt.timedelta(seconds=1.3) for one in tracks.individuals)


def test_recordings_of_another_shape_share_no_individual() -> None:
    scene = [Actor(standing(0.5, 0.5), ALWAYS)]
    second = film(scene, 9.0, video_id="b", start=START + dt.timedelta(seconds=9), aspect=4 / 3)
    assert len(run(film(scene, 9.0, video_id="a"), second)[0]) == 2


MIDNIGHT_SCENE = (
    Actor(moving(0.4, 0.5, 0.02), ALWAYS),
    Actor(standing(1.0, 0.62), ((0.0, 25.0), (33.0, 60.0)), plumage=1),
    Actor(standing(1.5, 0.5), ((0.0, 12.0), (40.0, 60.0)), plumage=2),
    Actor(standing(0.2, 0.7), ((35.0, 60.0),), plumage=3),
)
"""One walks through midnight; one is hidden then; one has left, and a bird comes back there; one is new."""


def over_midnight() -> tuple[tuple[TrackInput, list[int]], tuple[TrackInput, list[int]]]:
    evening = dt.datetime(2026, 1, 10, 23, 59, 30, tzinfo=dt.UTC)
    before = film(MIDNIGHT_SCENE, 30.0, video_id="before", start=evening, jitter=0.01)
    midnight = evening + dt.timedelta(seconds=31)
    return before, film(MIDNIGHT_SCENE, 20.0, video_id="after", start=midnight, offset_s=31.0, jitter=0.01)


def records_of(tracks: CameraDayTracks, video: TrackInput) -> list[TrackRecord]:
    names = tracks.individual_ids(video.video_id)
    frame = video.detections.frame
    return [TrackRecord(video.video_id, k, int(frame[k]), name) for k, name in enumerate(names) if name]


def test_a_bird_present_at_midnight_keeps_its_id_and_the_cut_changes_nothing() -> None:
    before, after = over_midnight()
    whole = track_camera_day([before[0], after[0]], SETTINGS, None)
    evening = track_camera_day([before[0]], SETTINGS, None)
    carry = carry_from([before[0]], list(reversed(records_of(evening, before[0]))), SETTINGS, 0.0)
    morning = track_camera_day([after[0]], SETTINGS, carry)

    found = {who: names[0] for who, names in ids_by_actor(morning, [after]).items()}
    earlier = {who: names[0] for who, names in ids_by_actor(evening, [before]).items()}
    assert found[0] == earlier[0]
    assert found[1] == earlier[1]
    assert found[2] != earlier[2]
    assert morning.individual_ids("after") == whole.individual_ids("after")
    assert evening.individual_ids("before") == whole.individual_ids("before")
    assert min(one.first_seen for one in morning.individuals) == after[0].start_time


@pytest.mark.parametrize("days", [(3, 2), (2, 1, 2), (1, 1, 1, 2)])
def test_borders_of_days_between_files_that_repeat_a_little_change_nothing(days: tuple[int, ...]) -> None:
    videos = [video for video, _ in film_in_files(MIDNIGHT_SCENE, 5, 12.0, jitter=0.01)]
    whole = track_camera_day(videos, SETTINGS, None)
    carry, begin = None, 0
    for count in days:
        part = videos[begin : begin + count]
        tracks = track_camera_day(part, SETTINGS, carry)
        for video in part:
            assert tracks.individual_ids(video.video_id) == whole.individual_ids(video.video_id)
        (chain,) = tracks.chains
        assert chain.skipped == whole.chains[0].skipped[begin : begin + count]
        shift_s = (part[0].start_time - START).total_seconds()
        own_s = [start_s + shift_s for start_s in chain.starts_s]
        assert own_s == pytest.approx(whole.chains[0].starts_s[begin : begin + count])
        records = [record for video in part for record in records_of(tracks, video)]
        carry, begin = carry_from(part, records, SETTINGS, tracks.until_s), begin + count


def test_without_a_carry_the_same_birds_are_new() -> None:
    before, after = over_midnight()
    evening = set(track_camera_day([before[0]], SETTINGS, None).individual_ids("before"))
    assert not evening & set(track_camera_day([after[0]], SETTINGS, None).individual_ids("after"))


def test_a_carry_from_long_before_or_of_another_picture_is_not_used() -> None:
    before, after = over_midnight()
    evening = track_camera_day([before[0]], SETTINGS, None)
    carry = carry_from([before[0]], records_of(evening, before[0]), SETTINGS, 0.0)
    assert carry is not None
    alone = track_camera_day([after[0]], SETTINGS, None).individual_ids("after")
    late = dataclasses.replace(after[0], start_time=after[0].start_time + dt.timedelta(seconds=10))
    assert track_camera_day([late], SETTINGS, carry).individual_ids("after") == alone
    other = dataclasses.replace(carry, aspect=4 / 3)
    assert track_camera_day([after[0]], SETTINGS, other).individual_ids("after") == alone
    assert carry_from([], [], SETTINGS, 0.0) is None


def test_an_id_comes_from_the_first_box_and_not_from_a_count() -> None:
    bird = Actor(standing(0.5, 0.5), ((3.0, 9.0),))
    alone = run(film([bird], 9.0))[0]
    in_company = run(film([bird, Actor(standing(1.4, 0.5), ((0.0, 9.0),))], 9.0))[0]
    assert alone == in_company
    elsewhere = run(film([bird], 9.0, video_id="other"))[0]
    assert alone != elsewhere


def test_the_order_of_the_recordings_does_not_matter() -> None:
    scene = [Actor(moving(0.5, 0.5, 0.02), ALWAYS), Actor(standing(1.2, 0.6), ((5.0, 1e9),))]
    pieces = [
        film(scene, 8.0, video_id=f"v{k}", start=START + dt.timedelta(seconds=8 * k), offset_s=8.0 * k)
        for k in range(3)
    ]
    forward = track_camera_day([video for video, _ in pieces], SETTINGS, None)
    backward = track_camera_day([video for video, _ in reversed(pieces)], SETTINGS, None)
    assert forward.individuals == backward.individuals
    assert all(forward.individual_ids(v.video_id) == backward.individual_ids(v.video_id) for v, _ in pieces)


def test_a_second_box_on_a_bird_makes_no_second_individual() -> None:
    scene = [
        Actor(standing(0.5, 0.5), ALWAYS, 0.20, 0.15, score=0.9),
        Actor(standing(0.51, 0.5), ALWAYS, 0.19, 0.15, score=0.8),
        Actor(standing(0.5, 0.45), ALWAYS, 0.06, 0.08, score=0.7),
    ]
    found = run(film(scene, 8.0))
    assert found[0] != [""]
    assert found[1] == found[2] == [""]


def test_a_weak_box_continues_a_track_but_begins_none() -> None:
    strong, faint = ((0.0, 2.0), (4.0, 6.0)), ((2.0, 4.0),)
    scene = [
        Actor(standing(0.5, 0.5), strong),
        Actor(standing(0.5, 0.5), faint, score=0.3),
        Actor(standing(1.2, 0.5), ALWAYS, score=0.3),
    ]
    found = run(film(scene, 6.0))
    assert found[0] == found[1] != [""]
    assert found[2] == [""]


def test_ghosts_of_two_boxes_are_dropped() -> None:
    scene = [Actor(standing(0.5, 0.5), ((1.0, 1.0 + 2 * STEP_S),)), Actor(standing(1.2, 0.5), ((1.0, 1.9),))]
    found = run(film(scene, 5.0))
    assert found[0] == [""]
    assert found[1] != [""]


def test_an_animal_keeps_its_id_while_its_reflection_joins_the_box_and_leaves_it() -> None:
    small = {"width": 0.1, "height": 0.1}
    scene = [
        Actor(standing(0.5, 0.500), ((0.0, 4.0), (8.0, 12.0)), **small),
        Actor(standing(0.5, 0.580), ((4.0, 8.0),), width=0.1, height=0.26, plumage=1),
    ]
    found = run(film(scene, 12.0))
    assert found[0] == found[1]
    assert len(found[0]) == 1


def test_the_record_of_an_individual_counts_what_was_seen() -> None:
    # Seen in keyframes 0 to 14 and 33 to 44: 27 boxes of 45, and a hole of 18 keyframes.
    scene = [Actor(standing(0.5, 0.5), ((0.0, 15 * STEP_S), (33 * STEP_S, 45 * STEP_S)), p_other=0.25)]
    (one,) = track_camera_day([film(scene, 60 * STEP_S)[0]], SETTINGS, None).individuals
    assert one.camera == "cam"
    assert one.boxes == 27
    assert one.first_seen == START
    assert (one.last_seen - START).total_seconds() == pytest.approx(45 * STEP_S, abs=1e-5)
    assert one.visible_s == pytest.approx(27 * STEP_S)
    assert one.track_quality == pytest.approx(27 / 45)
    assert one.p_other == pytest.approx(0.25)
    assert one.kind == "subject"


def test_a_hole_of_less_than_a_second_counts_as_visible() -> None:
    scene = [Actor(standing(0.5, 0.5), ((0.0, 10 * STEP_S), (13 * STEP_S, 20 * STEP_S)))]
    (one,) = track_camera_day([film(scene, 20 * STEP_S)[0]], SETTINGS, None).individuals
    assert one.visible_s == pytest.approx(20 * STEP_S)


def test_a_mover_that_is_no_bird_is_other_by_its_surer_boxes() -> None:
    scene = [
        Actor(standing(0.5, 0.5), ((0.0, 4.0),), score=0.9, p_other=0.8),
        Actor(standing(0.5, 0.5), ((4.0, 8.0),), score=0.3, p_other=0.0),
        Actor(standing(1.2, 0.5), ALWAYS, p_other=0.49),
    ]
    individuals = track_camera_day([film(scene, 8.0)[0]], SETTINGS, None).individuals
    kinds = {round(one.p_other, 2): one.kind for one in individuals}
    assert kinds == {0.6: "other", 0.49: "subject"}


def test_a_video_of_one_frame_a_second_is_tracked_too() -> None:
    rows = film([Actor(moving(0.3, 0.5, 0.02), ALWAYS), Actor(standing(1.2, 0.5), ALWAYS)], 20.0, fps=1.0)
    video, who_is = rows
    second = np.flatnonzero(np.isin(np.round(video.detections.time_s / STEP_S), np.arange(0, 75, 4)))
    columns = video.detections
    thin = DetectionColumns(
        columns.video_id,
        *(
            getattr(columns, name)[second]
            for name in (
                "frame",
                "time_s",
                "xyxy",
                "box_score",
                "p_behaviour",
                "p_other",
                "p_dynamic",
                "embedding",
            )
        ),
    )
    found = run((dataclasses.replace(video, detections=thin), [who_is[k] for k in second]))
    assert_each_has_one_id_of_its_own(found)


def test_nothing_in_nothing_out() -> None:
    assert track_camera_day([], SETTINGS, None).individuals == ()
    empty, _ = film([], 10.0)
    tracks = track_camera_day([empty], SETTINGS, None)
    assert tracks.individuals == ()
    assert tracks.individual_ids("video") == ()


def test_the_clock_of_a_chain_never_runs_backwards() -> None:
    pieces = [
        film([], 10.0, video_id=f"v{k}", start=START + dt.timedelta(seconds=9.5 * k))[0] for k in range(3)
    ]
    (chain,) = chains(pieces, SETTINGS)
    assert chain.starts_s == (0.0, 10.0, 20.0)


@settings(max_examples=40, deadline=None)
@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 30), st.floats(0.05, 0.9), st.floats(0.05, 0.9), st.floats(0.05, 1.0)),
        max_size=60,
    )
)
def test_in_one_keyframe_an_individual_is_in_one_place(boxes: list[tuple[int, float, float, float]]) -> None:
    rows = sorted(boxes)
    count = len(rows)
    xyxy = np.array([(x, y, x + 0.08, y + 0.1) for _, x, y, _ in rows], np.float32).reshape(count, 4)
    columns = DetectionColumns(
        "video",
        np.array([8 * k for k, *_ in rows], np.int32),
        np.array([k * STEP_S for k, *_ in rows], np.float64),
        xyxy,
        np.array([score for *_, score in rows], np.float32),
        np.full((count, 3), np.nan, np.float32),
        np.zeros(count, np.float32),
        np.zeros(count, np.float32),
        np.zeros((count, 64), np.int8),
    )
    tracks = track_camera_day(
        [TrackInput("cam", columns, START, 9.0, 30.0, ASPECT, np.array([[0.0, 9.0]]))], SETTINGS, None
    )
    seen = [
        (int(frame), name)
        for frame, name in zip(columns.frame, tracks.individual_ids("video"), strict=True)
        if name
    ]
    assert len(seen) == len(set(seen))
    counted = {one.individual_id: one.boxes for one in tracks.individuals}
    assert counted == {name: sum(n == name for _, n in seen) for name in counted}
    assert {name for _, name in seen} == set(counted)
    assert all(boxes >= 3 for boxes in counted.values())


def test_leaving_a_pair_apart_is_better_than_two_bad_links() -> None:
    row, column = assign(np.array([[0.0, 0.9], [0.95, 2.0]]))
    assert (row.tolist(), column.tolist()) == ([0], [0])


def test_duplicates_are_the_less_sure_of_boxes_in_the_same_keyframe() -> None:
    whole, shifted, inner = (0.2, 0.2, 0.4, 0.6), (0.21, 0.2, 0.41, 0.6), (0.25, 0.25, 0.30, 0.35)
    apart = (0.4, 0.2, 0.6, 0.6)
    found = find_duplicates(
        np.array([whole, shifted, inner, apart, shifted], np.float32),
        np.array([0.6, 0.9, 0.95, 0.7, 0.5], np.float32),
        np.array([0, 0, 0, 0, 1]),
        0.7,
        0.9,
    )
    # The inner box is surer than those around it, so it is no duplicate of theirs.
    assert found.tolist() == [True, False, False, False, False]


def test_unlikeness_adds_doublings_of_the_sides_and_another_look() -> None:
    look = np.eye(2, 64, dtype=np.float32)
    cost = unlikeness(np.array([[0.0, 0.0]]), look[:1], np.array([[1.0, -2.0], [0.0, 0.0]]), look, 0.1, 0.4)
    assert cost == pytest.approx(np.array([[0.3, 0.1]]))
