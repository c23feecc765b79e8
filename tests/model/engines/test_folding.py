from __future__ import annotations

import pytest
import torch
from torch import nn

from model.backbones import architecture_named
from model.engines.folding import PlaneConv, PlanePool, folded, in_planes
from model.engines.half import HalfNetwork
from model.engines.stems import BlockStem, block_weight, blocks_of
from model.pathways import to_pathways


def settled(name: str) -> nn.Module:
    """A backbone whose norms have statistics unlike a fresh one's."""
    torch.manual_seed(3)
    backbone = architecture_named(name).build().eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return backbone


def random_clips(frames: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, frames, 48, 80, 3), dtype=torch.uint8)


@pytest.mark.parametrize(("name", "frames"), [("slowfast_small", 16), ("slowonly_r50", 32)])
def test_folding_leaves_the_maps_and_no_norm(name: str, frames: int) -> None:
    backbone = settled(name)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    clips = random_clips(frames)
    rewritten = in_planes(folded(backbone))
    with torch.inference_mode():
        expected, found = (net(*to_pathways(clips)) for net in (backbone, rewritten))
    # The norms' weights let the maps of the deep network grow to a thousand.
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())
    assert not [module for module in rewritten.modules() if isinstance(module, nn.BatchNorm3d)]
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_no_3d_layer_of_slowfast_is_left() -> None:
    rewritten = in_planes(folded(settled("slowfast_small")))
    kinds = [type(module) for module in rewritten.modules()]
    assert nn.Conv3d not in kinds
    assert nn.MaxPool3d not in kinds
    assert kinds.count(BlockStem) == kinds.count(PlanePool) == 2


@pytest.mark.parametrize("taps", [1, 3, 5])
@pytest.mark.parametrize("bias", [True, False])
def test_a_stem_over_blocks_is_the_stem(taps: int, bias: bool) -> None:
    torch.manual_seed(2)
    conv = nn.Conv3d(3, 10, (taps, 7, 7), (1, 2, 2), (taps // 2, 3, 3), bias=bias)
    clips = torch.randn(2, 3, 8, 20, 28).to(memory_format=torch.channels_last_3d)
    assert BlockStem.can_be(conv)
    with torch.inference_mode():
        expected, found = conv(clips), BlockStem(conv)(clips)
    assert found.shape == (2, 10, 8, 10, 14)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_block_holds_its_four_pixels_and_its_weights_are_theirs() -> None:
    """The pixel at row 4, column 7 is in block (2, 3), the upper right of it; two blocks of zeros come before."""
    clips = torch.zeros(1, 3, 2, 8, 12)
    clips[0, 1, 1, 4, 7] = 5.0
    found = blocks_of(clips).nonzero().tolist()
    assert found == [[1, 1 * 3 + 1, 2 + 2, 3 + 2]]
    weight = torch.zeros(4, 3, 5, 7, 7)
    weight[2, 1, 3, 6, 0] = 1.0  # tap 7 and 1 of the 8x8 kernel: block 3, lower; block 0, right
    assert block_weight(weight).nonzero().tolist() == [[3 * 4 + 2, 3 * 3 + 1, 3, 0]]


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv3d(3, 8, (1, 7, 7), (2, 2, 2), (0, 3, 3)),
        nn.Conv3d(3, 8, (1, 7, 7), (1, 2, 2), (0, 2, 2)),
        nn.Conv3d(3, 8, (4, 7, 7), (1, 2, 2), (2, 3, 3)),
        nn.Conv3d(5, 8, (1, 7, 7), (1, 2, 2), (0, 3, 3)),
    ],
)
def test_another_stem_is_left(conv: nn.Conv3d) -> None:
    assert not BlockStem.can_be(conv)


def test_a_plane_maximum_is_the_maximum() -> None:
    pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
    clips = torch.randn(2, 5, 4, 11, 14).to(memory_format=torch.channels_last_3d)
    assert PlanePool.can_be(pool)
    assert torch.equal(PlanePool(pool)(clips), pool(clips))
    assert not PlanePool.can_be(nn.MaxPool3d((2, 3, 3), (1, 2, 2), (0, 1, 1)))
    assert not PlanePool.can_be(nn.MaxPool3d(2))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((1, 3, 3), (1, 2, 2), (0, 1, 1), (1, 1, 1)),
        ((1, 3, 3), (1, 1, 1), (0, 2, 2), (1, 2, 2)),
        ((1, 1, 1), (1, 2, 2), (0, 0, 0), (1, 1, 1)),
        ((1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
        ((7, 1, 1), (4, 1, 1), (3, 0, 0), (1, 1, 1)),
        ((3, 1, 1), (1, 1, 1), (2, 0, 0), (2, 1, 1)),
        ((1, 3, 5), (1, 2, 1), (0, 1, 2), (1, 1, 1)),
    ],
)
def test_a_plane_convolution_is_the_convolution(
    kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...]
) -> None:
    torch.manual_seed(1)
    conv = nn.Conv3d(5, 7, kernel, stride, padding, dilation)
    clips = torch.randn(2, 5, 8, 11, 13).to(memory_format=torch.channels_last_3d)
    assert PlaneConv.can_be(conv)
    with torch.inference_mode():
        expected, found = conv(clips), PlaneConv(conv)(clips)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "conv",
    [nn.Conv3d(4, 4, 3), nn.Conv3d(4, 4, (3, 1, 1), (1, 2, 2)), nn.Conv3d(4, 4, (1, 3, 3), groups=2)],
)
def test_what_mixes_time_and_space_stays_a_3d_convolution(conv: nn.Conv3d) -> None:
    assert not PlaneConv.can_be(conv)


def test_the_half_network_takes_bytes_and_stays_near() -> None:
    backbone = settled("slowfast_small")
    clips = random_clips(16)
    with torch.inference_mode():
        expected = backbone(*to_pathways(clips))
        maps = HalfNetwork(backbone)(clips)
    assert maps.dtype == torch.float16
    assert float((maps.float() - expected).norm() / expected.norm()) < 3e-3
    assert next(backbone.parameters()).dtype == torch.float32
