from __future__ import annotations

import logging

import pytest
import torch

from model.backbones import ARCHITECTURES, Backbone
from model.cost import clips_per_second, count_cost, scene_size
from model.engines.folding import folded


class _OneInput(torch.nn.Module):
    """fvcore traces with the inputs as a tuple; this hands them to the backbone."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, slow: torch.Tensor, fast: torch.Tensor) -> torch.Tensor:
        return self.backbone(slow, fast)


def test_convolutions_are_counted_as_fvcore_counts_them() -> None:
    fvcore = pytest.importorskip("fvcore.nn")
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    small = ARCHITECTURES["slowfast_small"]
    analysis = fvcore.FlopCountAnalysis(
        _OneInput(folded(small.build())),  # a stem with a bias is one 3-D convolution on a CPU, too
        (torch.zeros(1, 3, 4, 32, 48), torch.zeros(1, 3, 16, 32, 48)),
    )
    assert count_cost(small, 6, (32, 48)).clip_macs == analysis.by_operator()["conv"]


def test_heads_are_counted_for_one_box() -> None:
    cost = count_cost(ARCHITECTURES["slowfast_small"], 5, (32, 48))
    assert cost.box_macs == 576 * 5 + 576 * 576 + 576 * 2 + 576
    assert cost.backbone_parameters == 693_194
    assert cost.network_parameters - cost.backbone_parameters == cost.box_macs + 5 + 576 + 2 + 1


def test_a_scene_is_sixteen_by_nine_in_steps_of_sixteen() -> None:
    assert scene_size(ARCHITECTURES["slowfast_small"]) == (160, 288)
    assert scene_size(ARCHITECTURES["videomae_base"]) == (224, 400)


def test_speed_is_measured_on_real_clips() -> None:
    rate = clips_per_second(ARCHITECTURES["slowfast_small"], (32, 48), device="cpu", clips=2, limit_s=1)
    assert rate > 0
