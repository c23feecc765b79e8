"""Tracks on the ground and in the air."""

import numpy as np
import pytest

from workers.simulate.behaviour import FLIGHT, WALK, make_bout
from workers.simulate.bird import Pose
from workers.simulate.cast import Bird
from workers.simulate.motion import ASPECT, STEP_HZ, Track, fly_past, join, land, stand, take_off

X, LIFT, FACING = (Pose._fields.index(name) for name in ("x", "lift", "facing"))


def test_passing_birds_keep_their_speed_and_cross_the_whole_frame():
    track = fly_past(np.random.default_rng(0), 0.2, 0.9, 0.4, -1, 0.7, 0.1)
    xs = track.poses[:, X]
    assert xs[0] > ASPECT + 0.2
    assert xs[-1] < -0.15
    np.testing.assert_allclose(np.diff(xs), -0.7 / STEP_HZ, rtol=1e-3)
    assert set(track.labels.tolist()) == {FLIGHT}


@pytest.mark.parametrize("heading", [-1, 1])
def test_a_landing_bird_comes_from_outside_and_stops_at_its_place(heading: int):
    track = land(np.random.default_rng(1), 0.6, 0.8, 0.25, heading)
    xs, lifts = track.poses[:, X], track.poses[:, LIFT]
    assert not 0 < xs[0] < ASPECT
    assert xs[-1] == pytest.approx(0.6, abs=0.01)
    assert abs(lifts[-1]) < 0.05 < lifts[0]
    assert abs(xs[-1] - xs[-2]) < 0.25 * abs(xs[1] - xs[0])


@pytest.mark.parametrize("heading", [-1, 1])
def test_a_bird_flies_off_bill_first(heading: int):
    track = take_off(np.random.default_rng(2), 0.6, 0.8, 0.25, heading)
    assert track.poses[0, X] == pytest.approx(0.6, abs=0.01)
    assert (np.diff(track.poses[:, X]) * heading >= 0).all()
    assert (track.poses[:, FACING] * heading > 0).all()
    assert not 0 < track.poses[-1, X] < ASPECT


def test_a_walker_that_stays_turns_back_at_the_edge_of_its_range():
    bird = stand(np.random.default_rng(3), 0.9, 0.8, 0.2, 0.1)
    track = bird.perform(make_bout(np.random.default_rng(4), WALK, 40.0), np.random.default_rng(5))
    assert np.abs(track.poses[:, X] - 0.9).max() < 0.1 + 0.2 * 0.3
    assert np.ptp(track.poses[:, X]) > 0.1


def test_poses_between_steps_are_interpolated():
    poses = np.zeros((3, 15), np.float32)
    poses[:, X] = (0.0, 0.3, 0.9)
    bird = Bird(7, 0.2, 0.8, {}, 60, Track(poses, np.array([1, 1, 2], np.int8)))
    assert bird.pose_at(2.0).x == pytest.approx(0.0)
    assert bird.pose_at(2.0 + 1.5 / 30).x == pytest.approx(0.6)
    assert bird.label_at(2.0 + 1.5 / 30) == 1
    assert bird.label_at(2.0 + 2 / 30) == 2
    assert bird.pose_at(1.9) is None
    assert bird.pose_at(2.2) is None


def test_joining_keeps_the_order():
    first = Track(np.full((2, 15), 1, np.float32), np.array([1, 1], np.int8))
    second = Track(np.full((3, 15), 2, np.float32), np.array([5, 5, 5], np.int8))
    joined = join([first, second])
    assert joined.labels.tolist() == [1, 1, 5, 5, 5]
    assert joined.poses[:, 0].tolist() == [1, 1, 2, 2, 2]
