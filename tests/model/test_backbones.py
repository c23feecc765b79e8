from __future__ import annotations

import pytest
import torch

from model.backbones import ARCHITECTURES, SlowFastBackbone, architecture_named
from model.errors import UnknownArchitectureError


def parameters_millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def test_r50_has_the_papers_size() -> None:
    backbone = SlowFastBackbone(ARCHITECTURES["slowfast_r50"])
    assert parameters_millions(backbone) == pytest.approx(33.64, abs=0.01)
    assert ARCHITECTURES["slowfast_r50"].channels == 2304


def test_r50_maps_have_2304_channels_at_stride_16() -> None:
    backbone = SlowFastBackbone(ARCHITECTURES["slowfast_r50"]).eval()
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, 4, 32, 64), torch.zeros(1, 3, 16, 32, 64))
    assert maps.shape == (1, 2304, 2, 4)


def test_small_has_about_0_7_million_parameters() -> None:
    assert parameters_millions(SlowFastBackbone(ARCHITECTURES["slowfast_small"])) == pytest.approx(
        0.693, abs=0.001
    )


def test_pooled_maps_are_the_temporal_means_slow_first() -> None:
    torch.manual_seed(0)
    backbone = SlowFastBackbone(ARCHITECTURES["slowfast_small"]).eval()
    slow, fast = torch.randn(2, 3, 4, 48, 80), torch.randn(2, 3, 16, 48, 80)
    with torch.inference_mode():
        slow_maps, fast_maps = backbone.pathway_maps(slow, fast)
        pooled = backbone(slow, fast)
    assert slow_maps.shape == (2, 512, 4, 3, 5)
    assert fast_maps.shape == (2, 64, 16, 3, 5)
    torch.testing.assert_close(pooled, torch.cat([slow_maps.mean(2), fast_maps.mean(2)], dim=1))


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(UnknownArchitectureError, match=r"'resnet9'.*slowfast_r50, slowfast_small"):
        architecture_named("resnet9")
