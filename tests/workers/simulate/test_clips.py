from __future__ import annotations

import numpy as np
import pytest

from workers.simulate.clips import gate_clips, sample_clips


def test_clips_hold_birds_in_their_boxes() -> None:
    sample = sample_clips(3, 16, (64, 112), seed=5, clips_per_camera=2)
    assert sample.clips.shape == (3, 16, 64, 112, 3)
    assert sample.clips.dtype == np.uint8
    assert sample.xyxy.shape == (len(sample.clip_index), 4)
    assert ((sample.xyxy >= 0) & (sample.xyxy <= 1)).all()
    assert (np.diff(sample.clip_index) >= 0).all()
    assert set(sample.clip_index) == {0, 1, 2}


def test_neighbouring_clips_share_frames_and_cameras_do_not() -> None:
    sample = sample_clips(3, 16, (64, 112), seed=5, clips_per_camera=2)
    assert np.array_equal(sample.clips[0, 4:], sample.clips[1, :12])
    assert not np.array_equal(sample.clips[0, 4:], sample.clips[2, :12])


def test_the_seed_decides() -> None:
    first, again, other = (sample_clips(1, 16, (32, 48), seed=seed).clips for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        sample_clips(0, 16, (32, 48), seed=1)


def test_the_gate_has_a_hundred_boxes_of_every_size() -> None:
    sample = gate_clips(16, (32, 48))
    assert sample.clips.shape == (24, 16, 32, 48, 3)
    assert len(sample.xyxy) >= 100
