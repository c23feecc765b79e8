from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from model.backbones import architecture_named
from model.backbones.stem import StemConv3d, convolve_frames

PLAIN = nn.Conv3d(3, 2, (5, 7, 5), (1, 2, 2), (2, 3, 1), bias=False)


@pytest.mark.parametrize("together", [1, 2, 3, 8])
@pytest.mark.parametrize(("taps", "padding"), [(5, 2), (3, 1), (3, 0), (1, 0)])
def test_of_frames_it_is_the_same_convolution(taps: int, padding: int, together: int) -> None:
    torch.manual_seed(1)
    plain = nn.Conv3d(3, 2, (taps, 7, 5), (1, 2, 2), (padding, 3, 1), bias=False).double()
    frames = torch.randn(2, 3, 6, 11, 13, dtype=torch.float64, requires_grad=True)
    outward = torch.randn_like(plain(frames))
    found = convolve_frames(frames, plain.weight, plain.stride, plain.padding, together)  # type: ignore[arg-type]
    torch.testing.assert_close(found, plain(frames), rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad(plain(frames), (frames, plain.weight), outward)
    for one, other in zip(torch.autograd.grad(found, (frames, plain.weight), outward), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_in_a_training_the_stem_is_as_near_to_the_truth_as_single_precision_allows() -> None:
    torch.manual_seed(0)
    stem = StemConv3d.like(PLAIN)
    frames = torch.randn(2, 3, 16, 40, 60)
    outward = torch.randn_like(PLAIN(frames))
    (found,) = torch.autograd.grad(stem(frames), stem.weight, outward)
    exact = PLAIN.weight.detach().double().requires_grad_()
    truth = functional.conv3d(frames.double(), exact, None, PLAIN.stride, PLAIN.padding)
    torch.testing.assert_close(stem(frames).double(), truth, rtol=0, atol=5e-6)
    (expected,) = torch.autograd.grad(truth, exact, outward.double())
    assert float((found - expected).abs().max() / expected.abs().max()) < 4e-6


@pytest.mark.parametrize("bf16", [False, True])
def test_a_training_and_an_inference_give_the_same(bf16: bool) -> None:
    torch.manual_seed(0)
    stem = StemConv3d.like(PLAIN)
    frames = torch.randn(1, 3, 16, 20, 30)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        trained = stem(frames)
        with torch.no_grad():
            torch.testing.assert_close(trained, stem(frames), rtol=1e-2 if bf16 else 1e-5, atol=1e-5)
    assert trained.dtype == (torch.bfloat16 if bf16 else torch.float32)


def test_a_frame_moves_only_the_taps_that_see_it() -> None:
    # One white frame, and a gradient at the output two frames before it: only the last of five taps joins them.
    frames = torch.zeros(1, 1, 6, 1, 1)
    frames[0, 0, 4] = 1.0
    outward = torch.zeros(1, 1, 6, 1, 1)
    outward[0, 0, 2] = 3.0
    weight = torch.zeros(1, 1, 5, 1, 1, requires_grad=True)
    found = convolve_frames(frames, weight, (1, 1, 1), (2, 0, 0), together=4)
    (gradient,) = torch.autograd.grad(found, weight, outward)
    assert gradient.flatten().tolist() == [0.0, 0.0, 0.0, 0.0, 3.0]


def test_with_a_bias_for_an_engine_it_is_a_plain_convolution() -> None:
    stem = StemConv3d.like(PLAIN)
    stem.bias = nn.Parameter(torch.tensor([3.0, -2.0]))
    frames = torch.randn(1, 3, 6, 11, 13)
    torch.testing.assert_close(stem(frames), PLAIN(frames) + torch.tensor([3.0, -2.0]).reshape(2, 1, 1, 1))


@pytest.mark.parametrize("odd", [{"bias": True}, {"stride": 2}, {"dilation": 2}])
def test_another_convolution_is_refused(odd: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no stem"):
        StemConv3d.like(nn.Conv3d(3, 2, 3, **{"bias": False, **odd}))  # type: ignore[arg-type]


def test_slowfast_has_it_in_the_fast_pathway_under_the_published_name() -> None:
    backbone = architecture_named("slowfast_small").build()
    stems = [name for name, module in backbone.named_modules() if isinstance(module, StemConv3d)]
    assert stems == ["blocks.0.multipathway_blocks.1.conv"]
