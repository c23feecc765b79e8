from __future__ import annotations

import pytest
import torch

from model.pathways import input_size, resize_frames, to_pathways


@pytest.mark.parametrize(
    ("frame", "input_height", "expected"),
    [
        ((216, 384), 160, (160, 288)),  # 284.4 rounds to 18 columns of 16
        ((240, 320), 160, (160, 208)),  # 213.3 rounds to 13 columns
        ((216, 216), 256, (256, 256)),
        ((1000, 10), 160, (160, 16)),  # never narrower than one column
    ],
)
def test_width_follows_the_aspect_ratio_in_steps_of_sixteen(frame, input_height, expected) -> None:
    assert input_size(*frame, input_height) == expected


@pytest.mark.parametrize("bad", [(216, 384, 100), (0, 384, 160), (216, 0, 160)])
def test_impossible_sizes_are_refused(bad) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        input_size(*bad)


def test_slow_pathway_has_every_fourth_frame_from_the_first() -> None:
    clips = torch.arange(16, dtype=torch.uint8).reshape(1, 16, 1, 1, 1).repeat(2, 1, 3, 5, 3)
    slow, fast = to_pathways(clips)
    assert slow.shape == (2, 3, 4, 3, 5)
    assert fast.shape == (2, 3, 16, 3, 5)
    levels = slow[1, 2, :, 0, 0] * 0.225 * 255 + 0.45 * 255
    torch.testing.assert_close(levels, torch.tensor([0.0, 4, 8, 12]), atol=1e-4, rtol=0)


def test_grey_of_the_normalisation_mean_becomes_zero() -> None:
    _, fast = to_pathways(torch.full((1, 16, 2, 2, 3), 255, dtype=torch.uint8))
    torch.testing.assert_close(fast, torch.full_like(fast, (1 - 0.45) / 0.225))


def test_clips_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"T a multiple of 4, got \(1, 15,"):
        to_pathways(torch.zeros(1, 15, 2, 2, 3, dtype=torch.uint8))


def test_resizing_keeps_flat_frames_apart_and_flat() -> None:
    frames = torch.zeros(2, 10, 20, 3, dtype=torch.uint8)
    frames[1, ..., 1] = 200
    resized = resize_frames(frames, (4, 6))
    assert resized.shape == (2, 4, 6, 3)
    assert resized.dtype == torch.uint8
    assert resized[0].max() == 0
    assert resized[1, ..., 1].unique().tolist() == [200]
    assert resized[1, ..., 0].max() == 0


def test_resizing_does_not_depend_on_the_other_frames() -> None:
    frames = torch.randint(0, 256, (5, 27, 48, 3), dtype=torch.uint8, generator=torch.manual_seed(3))
    together = resize_frames(frames, (16, 32))
    alone = torch.cat([resize_frames(frame[None], (16, 32)) for frame in frames])
    assert torch.equal(together, alone)
