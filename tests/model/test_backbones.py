from __future__ import annotations

import dataclasses
import sys

import pytest
import torch

from model.backbones import (
    ARCHITECTURES,
    Architecture,
    Backbone,
    SlowFastBackbone,
    SlowOnlyArchitecture,
    VideoMaeArchitecture,
    architecture_named,
)
from model.engines.torch_engine import TorchEngine
from model.errors import MissingExtraError, UnknownArchitectureError

TINY_VIDEOMAE = VideoMaeArchitecture(
    name="videomae_tiny", summary="", input_height=64, hidden_channels=24, layers=2, attention_heads=3
)
TINY_SLOWONLY = SlowOnlyArchitecture(
    name="slowonly_tiny", summary="", input_height=64, clip_frames=32, depth=50, stem_channels=4
)


def parameters_millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def built_without_weights(name: str) -> Backbone:
    with torch.device("meta"):
        return ARCHITECTURES[name].build().eval()


@pytest.mark.parametrize(
    ("name", "millions", "channels"),
    [
        ("slowfast_r50", 33.644, 2304),
        ("slowfast_r50_8x8", 33.644, 2304),
        ("slowfast_small", 0.693, 576),
        ("slowonly_r50", 31.634, 2048),
        ("acrn_slowfast_r50", 33.644, 2304),
        ("videomae_base", 86.226, 768),
        ("videomae_large", 303.859, 1024),
    ],
)
def test_size_and_pooled_maps_at_stride_16(name: str, millions: float, channels: int) -> None:
    if name.startswith("videomae"):
        pytest.importorskip("transformers")
    backbone = built_without_weights(name)
    assert parameters_millions(backbone) == pytest.approx(millions, abs=0.001)
    frames = backbone.architecture.clip_frames
    with torch.device("meta"), torch.inference_mode():
        maps = backbone(torch.zeros(2, 3, frames // 4, 32, 48), torch.zeros(2, 3, frames, 32, 48))
    assert maps.shape == (2, channels, 2, 3)
    assert backbone.architecture.channels == channels


def test_undilated_res5_strides_to_32() -> None:
    architecture = dataclasses.replace(ARCHITECTURES["slowfast_r50"], dilated_res5=False)
    with torch.device("meta"), torch.inference_mode():
        maps = architecture.build()(torch.zeros(1, 3, 4, 64, 96), torch.zeros(1, 3, 16, 64, 96))
    assert maps.shape == (1, 2304, 2, 3)


def test_clips_of_another_length_are_refused() -> None:
    backbone = built_without_weights("slowfast_r50_8x8")
    with pytest.raises(ValueError, match="slowfast_r50_8x8 looks at clips of 32 frames, got 16"):
        backbone(torch.zeros(1, 3, 4, 32, 32), torch.zeros(1, 3, 16, 32, 32))


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


def test_slowonly_sees_the_slow_frames_only() -> None:
    torch.manual_seed(0)
    backbone = TINY_SLOWONLY.build().eval()
    slow, fast = torch.randn(1, 3, 8, 32, 48), torch.randn(1, 3, 32, 32, 48)
    with torch.inference_mode():
        maps = backbone(slow, fast)
        assert maps.shape == (1, 128, 2, 3)
        assert torch.equal(maps, backbone(slow, torch.zeros_like(fast)))
        assert not torch.allclose(maps, backbone(slow.flip(3), fast))


def test_videomae_is_the_encoder_of_transformers_at_its_own_size() -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    backbone = TINY_VIDEOMAE.build().eval()
    clip = torch.rand(1, 16, 3, 224, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        tokens = backbone.videomae((clip - mean[:, None, None]) / std[:, None, None]).last_hidden_state
        maps = backbone(torch.zeros(1, 3, 4, 224, 224), (clip.transpose(1, 2) - 0.45) / 0.225)
    expected = tokens.reshape(1, 8, 14, 14, 24).mean(1).permute(0, 3, 1, 2)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-5)


def test_videomae_takes_scenes_of_any_size_and_the_engine_runs_it() -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    engine = TorchEngine(TINY_VIDEOMAE.build(), "cpu")
    maps = engine.pooled_maps(torch.randint(0, 256, (2, 16, 64, 112, 3), dtype=torch.uint8))
    assert maps.shape == (2, 24, 4, 7)
    assert maps.dtype == torch.float32


def test_the_resampled_position_code_keeps_its_order() -> None:
    """Resampled to twice the cells, neighbours stay nearer to each other than the far ends of a row."""
    pytest.importorskip("transformers")
    backbone = TINY_VIDEOMAE.build()
    code = backbone._positions_at(14, 28)
    assert code.shape == (1, 24, 8, 14, 28)
    row = code[0, :, 0, 5]
    assert (row[:, 1:] - row[:, :-1]).norm(dim=0).max() < (row[:, 0] - row[:, -1]).norm()


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"videomae_base needs .*pip install -e '\.\[videomae\]'"):
        ARCHITECTURES["videomae_base"].build()


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(UnknownArchitectureError, match=r"'resnet9'.*slowfast_r50, .*slowfast_small"):
        architecture_named("resnet9")


def test_names_of_the_table_are_those_of_its_rows() -> None:
    assert all(name == architecture.name for name, architecture in ARCHITECTURES.items())
    assert all(isinstance(architecture, Architecture) for architecture in ARCHITECTURES.values())
