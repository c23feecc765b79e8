from __future__ import annotations

import pytest
import torch
from torch import nn

from model.backbones import architecture_named
from model.engines.folding import PlaneConv, folded, in_planes
from model.engines.half import HalfNetwork
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
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert not [module for module in rewritten.modules() if isinstance(module, nn.BatchNorm3d)]
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_all_convolutions_of_slowfast_but_the_fast_stem_become_planes() -> None:
    rewritten = in_planes(folded(settled("slowfast_small")))
    left = [module for module in rewritten.modules() if isinstance(module, nn.Conv3d)]
    assert [tuple(module.kernel_size) for module in left] == [(5, 7, 7)]


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
