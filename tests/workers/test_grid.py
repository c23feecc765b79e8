"""The 15 Hz grid: the nearest frame at every moment, whatever the rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from workers.grid import FrameGrid
from workers.messages import GRID_HZ, GridSpan, Probe


def probe_at(times_s: NDArray[np.float64]) -> Probe:
    count = len(times_s)
    return Probe(
        container="mov",
        codec="h264",
        pixel_format="yuv420p",
        width=160,
        height=96,
        rotation_deg=0,
        fps=30.0,
        times_s=times_s,
        is_iframe=np.ones(count, np.bool_),
        packet_bytes=np.ones(count, np.int64),
        duration_s=float(times_s[-1]) + 0.04,
        container_start=None,
        decoder="decord",
        decoder_reason="",
    )


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (30, [0, 2, 4, 6, 8, 10, 12]),
        (15, [0, 1, 2, 3, 4, 5, 6]),
        (25, [0, 2, 3, 5, 7, 8, 10]),  # 0, 1.67, 3.33, 5, 6.67, 8.33, 10
        (24, [0, 2, 3, 5, 6, 8, 10]),  # 0, 1.6, 3.2, 4.8, 6.4, 8, 9.6
        (10, [0, 1, 1, 2, 3, 3, 4]),  # 0, 0.67, 1.33, 2, 2.67, 3.33, 4
        (7.5, [0, 0, 1, 1, 2, 2, 3]),  # halfway between two frames the earlier one is taken
    ],
)
def test_nearest_frame_at_each_moment(fps: float, expected: list[int]) -> None:
    grid = FrameGrid.of(probe_at(np.arange(100) / fps))
    assert grid.frame_indices[:7].tolist() == expected
    np.testing.assert_array_equal(grid.times_s[:7], np.array(expected) / fps)


def test_grid_ends_at_the_last_frame() -> None:
    assert FrameGrid.of(probe_at(np.arange(31) / 30)).length == 16  # the last frame is at 1.0 s
    assert FrameGrid.of(probe_at(np.arange(30) / 30)).length == 15  # the last frame is at 0.967 s
    assert FrameGrid.of(probe_at(np.zeros(1))).length == 1


def test_one_frame_a_second_is_repeated() -> None:
    grid = FrameGrid.of(probe_at(np.arange(3.0)))
    assert grid.frame_indices.tolist() == [0] * 8 + [1] * 15 + [2] * 8


def test_frames_at_one_time_count_as_the_first_of_them() -> None:
    grid = FrameGrid.of(probe_at(np.array([0.0, 0.0, 2 / 15, 2 / 15, 2 / 15])))
    assert grid.frame_indices.tolist() == [0, 0, 2]


@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=60))
def test_no_other_frame_is_nearer(gaps: list[float]) -> None:
    times_s = np.concatenate([[0.0], np.cumsum(gaps)])
    grid = FrameGrid.of(probe_at(times_s))
    moments_s = np.arange(grid.length) / GRID_HZ
    best_s = np.abs(times_s[None] - moments_s[:, None]).min(axis=1)
    np.testing.assert_allclose(np.abs(grid.times_s - moments_s), best_s, atol=1e-6)
    assert (np.diff(grid.frame_indices) >= 0).all()


def test_a_span_beyond_the_video_is_refused() -> None:
    grid = FrameGrid.of(probe_at(np.arange(31) / 30))
    assert grid.frames_of(GridSpan(14, 16)).tolist() == [28, 30]
    with pytest.raises(ValueError, match="16 grid points"):
        grid.frames_of(GridSpan(14, 17))
