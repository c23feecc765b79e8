from __future__ import annotations

import pytest
import torch
from torch import nn

from model.backbones import architecture_named
from model.backbones.stem import StemConv3d, convolve_by_frame, stem_weight_gradient


@pytest.mark.parametrize(("taps", "padding"), [(5, 2), (3, 1), (3, 0), (1, 0)])
def test_the_gradients_are_those_of_a_plain_convolution(taps: int, padding: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv3d(3, 2, (taps, 7, 5), (1, 2, 2), (padding, 3, 1), bias=False).double()
    stem = StemConv3d.like(plain)
    frames = torch.randn(2, 3, 6, 11, 13, dtype=torch.float64, requires_grad=True)
    outward = torch.randn_like(plain(frames))
    expected = torch.autograd.grad(plain(frames), (frames, plain.weight), outward)
    found = torch.autograd.grad(stem(frames), (frames, stem.weight), outward)
    assert torch.equal(stem(frames), plain(frames))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("taps", "padding"), [(5, 2), (3, 1), (3, 0), (1, 0)])
def test_frame_by_frame_it_is_the_same_convolution(taps: int, padding: int) -> None:
    torch.manual_seed(1)
    plain = nn.Conv3d(3, 2, (taps, 7, 5), (1, 2, 2), (padding, 3, 1), bias=False).double()
    frames = torch.randn(2, 3, 6, 11, 13, dtype=torch.float64, requires_grad=True)
    outward = torch.randn_like(plain(frames))
    found = convolve_by_frame(frames, plain.weight, plain.stride, plain.padding)  # type: ignore[arg-type]
    torch.testing.assert_close(found, plain(frames), rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad(plain(frames), (frames, plain.weight), outward)
    for one, other in zip(torch.autograd.grad(found, (frames, plain.weight), outward), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_frame_moves_only_the_taps_that_see_it() -> None:
    # One white frame, and a gradient at the output two frames before it: only the last of five taps joins them.
    frames = torch.zeros(1, 1, 6, 1, 1)
    frames[0, 0, 4] = 1.0
    outward = torch.zeros(1, 1, 6, 1, 1)
    outward[0, 0, 2] = 3.0
    gradient = stem_weight_gradient(frames, torch.Size((1, 1, 5, 1, 1)), outward, (1, 1, 1), (2, 0, 0))
    assert gradient.flatten().tolist() == [0.0, 0.0, 0.0, 0.0, 3.0]


@pytest.mark.parametrize("odd", [{"bias": True}, {"stride": 2}, {"dilation": 2}])
def test_another_convolution_is_refused(odd: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no stem"):
        StemConv3d.like(nn.Conv3d(3, 2, 3, **{"bias": False, **odd}))  # type: ignore[arg-type]


def test_slowfast_has_it_in_the_fast_pathway_under_the_published_name() -> None:
    backbone = architecture_named("slowfast_small").build()
    stems = [name for name, module in backbone.named_modules() if isinstance(module, StemConv3d)]
    assert stems == ["blocks.0.multipathway_blocks.1.conv"]
