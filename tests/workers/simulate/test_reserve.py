"""Frames in memory."""

import cv2
import numpy as np
import pytest

from workers.simulate.reserve import Painter, plan_camera, plan_reserve
from workers.simulate.truth import boxes_at, presence_of, visible_steps


def test_the_same_seed_paints_the_same_pixels():
    frames = [Painter(plan_camera(12, 0, 1, 20.0), 180).frame(7.3) for _ in range(2)]
    np.testing.assert_array_equal(*frames)
    assert frames[0].shape == (180, 320, 3)


def test_other_seeds_look_different():
    one, two = (Painter(plan_camera(seed, 0, 1, 20.0, "marsh"), 180).frame(3.0) for seed in (1, 2))
    assert np.abs(one.astype(int) - two).mean() > 8


def test_a_place_is_the_same_at_any_size():
    camera = plan_camera(5, 1, 1, 20.0, "marsh")
    large, small = Painter(camera, 360).frame(4.0), Painter(camera, 180).frame(4.0)
    reduced = cv2.resize(large, (320, 180), interpolation=cv2.INTER_AREA)
    soft = [cv2.GaussianBlur(frame, (0, 0), 3).astype(float).ravel() for frame in (reduced, small)]
    assert np.corrcoef(*soft)[0, 1] > 0.97


def test_night_is_infrared_and_grey_with_light_in_the_middle():
    camera = plan_camera(3, 0, 1, 10.0, "night")
    frame = Painter(camera, 216).frame(2.0)
    assert camera.scenery.light == "infrared"
    assert np.ptp(frame.astype(int), axis=2).max() == 0
    assert frame[100:160, 150:230].mean() > 1.25 * frame[20:60, :40].mean()


def test_birds_are_drawn_where_the_truth_says():
    camera = plan_camera(90, 0, 1, 30.0, "marsh")
    painter, time_s = Painter(camera, 360), 12.0
    frame = painter.frame(time_s)
    without = Painter(camera.__class__(*[() if name == "birds" else getattr(camera, name)
                                         for name in camera.__slots__]), 360).frame(time_s)  # fmt: skip
    changed = np.abs(frame.astype(int) - without).max(axis=2) > 0
    inside = np.zeros_like(changed)
    boxes = boxes_at(camera, time_s)
    for box in boxes:
        x1, y1, x2, y2 = (v * s for v, s in zip(box.xyxy, (640, 360, 640, 360), strict=True))
        region = (slice(int(max(0, y1 - 4)), int(y2 + 5)), slice(int(max(0, x1 - 4)), int(x2 + 5)))
        assert changed[region].any()
        inside[region] = True
    assert boxes
    assert not changed[~inside].any()


def test_scenes_of_ten_cameras_have_their_shares():
    cameras = plan_reserve(4, 10, 5.0, videos_per_camera=1)
    scenes = [camera.scenery.scene for camera in cameras]
    assert (scenes.count("marsh"), scenes.count("forest"), scenes.count("night")) == (5, 2, 3)
    assert len({camera.scenery.horizon for camera in cameras}) == 10


def test_recordings_of_a_camera_follow_each_other():
    first, second = plan_reserve(8, 3, 45.0)
    assert (first.recordings, second.recordings) == (2, 1)
    assert (first.recording_start(1) - first.recording_start(0)).total_seconds() == 45.0
    assert first.uri("here", 1).startswith("here/cam01/cam01_")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 10.0), "at least 1"), ((2, 7.5), "whole number"), ((2, 0.0), "whole number")],
)
def test_impossible_reserves_are_refused(arguments: tuple[int, float], message: str):
    with pytest.raises(ValueError, match=message):
        plan_reserve(1, *arguments)


def test_social_scenes_can_be_made_frequent():
    def share(boost: float) -> float:
        labels = [b.track.labels for c in plan_reserve(6, 8, 60.0, social_boost=boost) for b in c.birds]
        return float((np.concatenate(labels) == 3).mean())

    assert share(4.0) > 2.5 * share(1.0) > 0.03


def test_long_recordings_are_mostly_empty():
    quiet = [plan_camera(seed, 0, 1, 1800.0) for seed in range(4)]
    for camera in quiet:
        minutes = np.zeros(30, bool)
        for bird in camera.birds:
            stop = bird.first_step + len(bird.track.labels)
            minutes[max(0, bird.first_step // 1800) : min(30, stop // 1800 + 1)] = True
        assert minutes.any()
    assert sum(len(c.birds) > 0 and c.birds[0].first_step > 0 for c in quiet) >= 2


def test_visits_can_be_strewn_over_a_share_of_the_time():
    shares, shortest = [], []
    for number in range(4):
        camera = plan_camera(3, number, 2, 150, busy_share=0.2)
        spans = presence_of(
            camera, {bird.individual_id: visible_steps(camera, bird) for bird in camera.birds}
        )
        shares.append(sum(stop - start for start, stop in spans) / camera.total_s)
        shortest += [stop - start for start, stop in spans]
    assert 0.12 < np.mean(shares) < 0.4
    assert 1.5 < min(shortest) < 5.0
    assert max(shortest) < 120.0


def test_iframes_change_no_pixel_and_no_bird():
    plain, sparse = plan_camera(4, 0, 1, 20), plan_camera(4, 0, 1, 20, keyint_s=7.0)
    assert sparse.optics.keyint_s == 7.0
    assert np.array_equal(Painter(plain, 90).frame(3.0), Painter(sparse, 90).frame(3.0))
