"""NV12 to RGB against swscale on the same planes."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Interpolation

from workers.nv12 import COEFFICIENTS, Colour, nv12_to_rgb

SIZES = [((270, 480), (216, 384)), ((242, 430), (108, 194)), ((270, 480), (150, 250)), ((540, 960), (54, 96))]
LIMITED, FULL = 1, 2


def noisy_frame(size: tuple[int, int], matrix: int, value_range: int, seed: int = 0) -> av.VideoFrame:
    """Soft colours over the whole cube, noise, and a hard edge; chroma lies evenly, since it says nothing."""
    coarse = (
        np.random.default_rng(seed).integers(0, 256, (3, size[0] // 12, size[1] // 12)).astype(np.float32)
    )
    soft = torch.nn.functional.interpolate(torch.from_numpy(coarse)[None], size=size, mode="bicubic")[0]
    pixels = soft.permute(1, 2, 0).numpy() + np.random.default_rng(seed + 1).normal(0, 8, (*size, 3))
    pixels[:, size[1] // 3] = 255
    rgb = av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), format="rgb24")
    frame = rgb.reformat(format="yuv420p")
    frame.colorspace, frame.color_range = matrix, value_range
    return frame


def surface_of(frame: av.VideoFrame) -> torch.Tensor:
    """The planes of a 4:2:0 picture as a GPU's decoder lays them out; no number is changed."""
    y, u, v = (
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    )
    return torch.from_numpy(np.concatenate([y, np.stack((u, v), -1).reshape(len(u), -1)]))


def by_swscale(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    scaled = frame.reformat(
        width=size[1], height=size[0], format="rgb24", interpolation=Interpolation.BILINEAR
    )
    return scaled.to_ndarray()


@pytest.mark.parametrize(("coded", "size"), SIZES)
@pytest.mark.parametrize("matrix", [1, 2, 6, 7])
@pytest.mark.parametrize("value_range", [LIMITED, FULL])
def test_every_number_is_swscales(
    coded: tuple[int, int], size: tuple[int, int], matrix: int, value_range: int
) -> None:
    """swscale rounds its weights to 14 and 12 bits: a plane may be off by one where it falls near a half, which its
    tables turn into at most two steps of 1.2 levels, or four with two planes, in few pixels and without a bias.
    """
    frame = noisy_frame(coded, matrix, value_range)
    found = nv12_to_rgb(surface_of(frame), size, Colour(matrix, value_range == FULL, is_chroma_left=False))
    assert found.dtype == torch.uint8
    assert found.shape == (*size, 3)
    difference = found.numpy().astype(int) - by_swscale(frame, size)
    assert np.abs(difference).max() <= 4
    assert (difference != 0).mean() < 0.02
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.05


def test_matrix_range_and_place_of_chroma_matter() -> None:
    """What a wrong one of them costs is far beyond what the test above lets pass."""
    frame = noisy_frame((270, 480), 1, LIMITED)
    expected, surface = by_swscale(frame, (108, 192)).astype(int), surface_of(frame)
    for wrong in (Colour(2, False, False), Colour(1, True, False), Colour(1, False, True)):
        assert np.abs(nv12_to_rgb(surface, (108, 192), wrong).numpy() - expected).mean() > 1.0


def test_grey_has_no_colour_and_keeps_its_order() -> None:
    for colour in (Colour(matrix) for matrix in COEFFICIENTS):
        ramp = torch.arange(16, 236, dtype=torch.uint8).repeat_interleave(2)
        surface = torch.cat([ramp.expand(16, -1), torch.full((8, 440), 128, dtype=torch.uint8)])
        picture = nv12_to_rgb(surface, (4, 440), colour).int()
        assert (picture.amax(-1) - picture.amin(-1)).max() <= 2
        assert (picture.diff(dim=1) >= 0).all()
        assert picture[0, 0].max() == 0
        assert picture[0, -1].min() >= 252


@pytest.mark.parametrize("size", [(96, 160), (96, 80), (48, 162)])
def test_what_is_not_scaled_down_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"size must be below \(96, 160\)"):
        nv12_to_rgb(torch.zeros(144, 160, dtype=torch.uint8), size, Colour())
