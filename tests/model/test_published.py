from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.backbones import ARCHITECTURES, SlowOnlyArchitecture, VideoMaeArchitecture
from model.errors import (
    CheckpointDigestError,
    CheckpointFormatError,
    CheckpointKeysError,
    CheckpointShapeError,
    UnfitWeightsError,
    UnknownWeightsError,
)
from model.network import ActionNetwork
from model.published import PUBLISHED, load_named, load_published
from model.published.layouts import LAYOUTS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorchvideo.models.resnet import create_resnet
    from pytorchvideo.models.slowfast import create_slowfast, create_slowfast_with_roi_head

TINY_SLOWONLY = SlowOnlyArchitecture(
    name="slowonly_r50", summary="", input_height=64, clip_frames=32, depth=50, stem_channels=8
)
TINY_VIDEOMAE = VideoMaeArchitecture(
    name="videomae_base", summary="", input_height=64, hidden_channels=24, layers=2, attention_heads=3
)
NARROW = {"model_depth": 18, "stem_dim_outs": (16, 2)}
"""The zoo's models at the width of ``slowfast_small``: the same names in tensors that are quick to write."""


def random_state(network: torch.nn.Module, seed: int = 4) -> dict[str, torch.Tensor]:
    """Every value another, the counts of the batch norms as well."""
    torch.manual_seed(seed)
    return {
        name: torch.randn(tensor.shape) if tensor.is_floating_point() else torch.tensor(7)
        for name, tensor in network.state_dict().items()
    }


def publish(path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save({"model_state": state, "epoch": 3}, path)
    return path


@pytest.fixture
def network() -> ActionNetwork:
    return ActionNetwork("slowfast_small", ("feeding", "walk"))


@pytest.fixture
def slowfast_state() -> dict[str, torch.Tensor]:
    return random_state(create_slowfast(**NARROW))


def test_classification_weights_fill_the_backbone(network, slowfast_state, tmp_path: Path) -> None:
    path = publish(tmp_path / "k.pyth", slowfast_state)
    heads = {name: tensor.clone() for name, tensor in network.heads.state_dict().items()}
    report = load_published(network, path)
    for name, tensor in network.backbone.state_dict().items():
        assert torch.equal(tensor, slowfast_state[name]), name
    for name, tensor in network.heads.state_dict().items():
        assert torch.equal(tensor, heads[name]), name
    assert report.layout == "slowfast classification"
    assert len(report.loaded) == len(network.backbone.state_dict())
    assert report.left_out == ("blocks.6.proj.weight", "blocks.6.proj.bias")
    assert set(report.missing) == {f"heads.{name}" for name in heads}
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "2 left out (blocks.6)" in report.words()
    assert "heads.behaviour, heads.motion, heads.other" in report.words()


def test_detection_weights_fill_the_same_backbone(network, tmp_path: Path) -> None:
    state = random_state(create_slowfast_with_roi_head(**NARROW))
    report = load_published(network, publish(tmp_path / "ava.pyth", state))
    for name, tensor in network.backbone.state_dict().items():
        assert torch.equal(tensor, state[f"model.{name}"]), name
    assert report.layout == "slowfast detection"
    assert report.left_out == ("detection_head.proj.weight", "detection_head.proj.bias")


def test_slow_weights_fill_slowonly(tmp_path: Path) -> None:
    zoo = create_resnet(
        stem_conv_kernel_size=(1, 7, 7), head_pool_kernel_size=(8, 7, 7), model_depth=50, stem_dim_out=8
    )
    state = random_state(zoo)
    network = ActionNetwork(TINY_SLOWONLY, ("feeding",))
    report = load_published(network, publish(tmp_path / "slow.pyth", state))
    for name, tensor in network.backbone.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert (report.layout, len(report.left_out)) == ("slow classification", 2)


@pytest.mark.parametrize("bias", ["published", "renamed"])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", ["VideoMAEForVideoClassification", "VideoMAEForPreTraining"])
def test_a_transformers_folder_fills_videomae(tmp_path: Path, kind: str, file: str, bias: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.VideoMAEConfig(
        image_size=32,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        decoder_hidden_size=12,
        decoder_num_attention_heads=2,
        decoder_num_hidden_layers=1,
        decoder_intermediate_size=24,
        use_mean_pooling=kind.endswith("Classification"),
    )
    published = random_state(getattr(transformers, kind)(config))
    config.save_pretrained(tmp_path)
    state = published
    if bias == "published":  # the files at the source keep the names of the original repository
        names = {"query.bias": "q_bias", "value.bias": "v_bias"}
        state = {_renamed(name, names): tensor for name, tensor in published.items()}
        assert any(name.endswith("q_bias") for name in state)
    if file.endswith("safetensors"):
        save_file(state, tmp_path / file)
    else:
        torch.save(state, tmp_path / file)
    network = ActionNetwork(TINY_VIDEOMAE, ("feeding",))
    report = load_published(network, tmp_path)
    for name, tensor in network.backbone.state_dict().items():
        assert torch.equal(tensor, published[name]), name
    left_out = {name.split(".")[0] if "layernorm" not in name else "layernorm" for name in report.left_out}
    heads = {
        "VideoMAEForVideoClassification": {"fc_norm", "classifier"},
        "VideoMAEForPreTraining": {"layernorm", "decoder", "encoder_to_decoder", "mask_token"},
    }
    assert left_out == heads[kind]


def _renamed(name: str, names: dict[str, str]) -> str:
    for here, there in names.items():
        if name.startswith("videomae."):
            name = name.replace(f"attention.attention.{here}", f"attention.attention.{there}")
    return name


def test_counts_of_batch_norms_may_be_absent_and_are_reported(network, slowfast_state, tmp_path) -> None:
    state = {name: tensor for name, tensor in slowfast_state.items() if "num_batches" not in name}
    report = load_published(network, publish(tmp_path / "k.pyth", state))
    assert "backbone.blocks.0.multipathway_fusion.norm.num_batches_tracked" in report.missing
    assert "counts of batch norms" in report.words()


def test_the_4x16_checkpoints_shapes_are_refused_and_nothing_is_changed(network, tmp_path: Path) -> None:
    other = create_slowfast(
        slowfast_fusion_conv_kernel_size=(5, 1, 1), slowfast_fusion_conv_stride=(8, 1, 1), **NARROW
    )
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(
        CheckpointShapeError, match=r"has shape \(4, 2, 5, 1, 1\).*needs \(4, 2, 7, 1, 1\).*4x16"
    ):
        load_published(network, publish(tmp_path / "k.pyth", random_state(other)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_weights_of_another_family_are_refused(network, tmp_path: Path) -> None:
    state = random_state(create_resnet(model_depth=50, stem_dim_out=8))
    with pytest.raises(
        CheckpointKeysError, match=r"'slow classification', which does not fit slowfast_small"
    ):
        load_published(network, publish(tmp_path / "slow.pyth", state))


def test_missing_and_strange_tensors_are_refused(network, slowfast_state, tmp_path: Path) -> None:
    gone = "blocks.3.multipathway_fusion.norm.weight"
    state = {name: tensor for name, tensor in slowfast_state.items() if name != gone}
    with pytest.raises(CheckpointKeysError, match=rf"1 tensors are missing \(first: \['{gone}'\]"):
        load_published(network, publish(tmp_path / "k.pyth", state))
    state = {**slowfast_state, "blocks.4.extra": torch.zeros(2)}
    with pytest.raises(CheckpointKeysError, match=r"1 are too many \(first: \['blocks.4.extra'\]"):
        load_published(network, publish(tmp_path / "k.pyth", state))
    state = {**slowfast_state, "transform.weight": torch.zeros(2)}
    with pytest.raises(CheckpointKeysError, match=r"do not belong to the layout 'slowfast classification'"):
        load_published(network, publish(tmp_path / "k.pyth", state))


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("s1.pathway0_stem.conv.weight", "PySlowFast's own"),
        ("backbone.slow_path.conv1.conv.weight", "MMAction2's SlowFast"),
        ("conv1.weight", "none of the layouts"),
    ],
)
def test_the_layouts_of_others_are_named(network, tmp_path: Path, name: str, owner: str) -> None:
    with pytest.raises(CheckpointKeysError, match=owner):
        load_published(network, publish(tmp_path / "x.pyth", {name: torch.zeros(2)}))


class _Bomb:
    def __reduce__(self):
        return Path.touch, (Path("bomb"),)


def test_code_in_a_file_does_not_run(network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.pyth").write_bytes(pickle.dumps({"model_state": _Bomb()}, protocol=2))
    with pytest.raises(CheckpointFormatError, match="without running code"):
        load_published(network, Path("x.pyth"))
    torch.save({"model_state": _Bomb()}, "y.pyth")
    with pytest.raises(CheckpointFormatError, match="without running code"):
        load_published(network, Path("y.pyth"))
    assert not Path("bomb").exists()


@pytest.mark.parametrize("content", [[1], {"state_dict": {}}, {"model_state": {"a": 3}}])
def test_files_without_model_state_are_refused(network, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pyth")
    with pytest.raises(CheckpointFormatError, match="no 'model_state'"):
        load_published(network, tmp_path / "x.pyth")


def test_absent_files_and_foreign_folders_are_refused(network, tmp_path: Path) -> None:
    with pytest.raises(CheckpointFormatError, match="no such file or folder"):
        load_published(network, tmp_path / "none.pyth")
    with pytest.raises(CheckpointFormatError, match=r"config\.json: no transformers configuration"):
        load_published(network, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(CheckpointFormatError, match="model_type is 'vit'"):
        load_published(network, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "videomae"}))
    with pytest.raises(CheckpointFormatError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        load_published(network, tmp_path)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch, slowfast_state, tmp_path: Path) -> tuple[ActionNetwork, Path, str]:
    """A narrow network that goes by the name of the R50, its file in a folder, and the file's checksum."""
    network = ActionNetwork("slowfast_small", ("feeding",))
    network.architecture = ARCHITECTURES["slowfast_r50"]
    path = publish(tmp_path / "SLOWFAST_8x8_R50.pyth", slowfast_state)
    return network, tmp_path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_by_name_with_the_right_checksum(named) -> None:
    network, folder, sha256 = named
    report = load_named(network, "kinetics400_slowfast_8x8_r50", folder, sha256.upper())
    assert (report.layout, report.sha256) == ("slowfast classification", sha256)


def test_by_name_asks_for_a_checksum_and_says_the_files_own(named) -> None:
    network, folder, sha256 = named
    with pytest.raises(CheckpointDigestError, match=rf"states no sha256.*this file has {sha256}"):
        load_named(network, "kinetics400_slowfast_8x8_r50", folder, None)
    with pytest.raises(CheckpointDigestError, match=rf"its sha256 is {sha256}, not the expected 00"):
        load_named(network, "kinetics400_slowfast_8x8_r50", folder, "00")


def test_by_name_refuses_what_does_not_fit(named, slowfast_state) -> None:
    network, folder, sha256 = named
    with pytest.raises(UnknownWeightsError, match=r"'imagenet'.*ava_slowfast_8x8_r50"):
        load_named(network, "imagenet", folder, sha256)
    with pytest.raises(UnfitWeightsError, match="fits slowonly_r50, not slowfast_r50"):
        load_named(network, "kinetics400_slow_8x8_r50", folder, sha256)
    with pytest.raises(
        CheckpointFormatError, match=r"no such file.*comes from https://dl\.fbaipublicfiles\.com"
    ):
        load_named(network, "ava_slowfast_8x8_r50", folder, sha256)
    path = publish(folder / "SLOWFAST_8x8_R50_DETECTION.pyth", slowfast_state)
    with pytest.raises(
        CheckpointKeysError, match="'slowfast classification', but 'slowfast detection' is expected"
    ):
        load_named(network, "ava_slowfast_8x8_r50", folder, hashlib.sha256(path.read_bytes()).hexdigest())


def test_the_table_names_layouts_and_architectures_that_exist() -> None:
    for name, weights in PUBLISHED.items():
        assert weights.name == name
        assert weights.layout in LAYOUTS
        assert set(weights.architectures) <= set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("architecture", "zoo"),
    [
        ("slowfast_r50_8x8", lambda: create_slowfast(slowfast_fusion_conv_kernel_size=(7, 1, 1))),
        ("slowfast_r50", lambda: create_slowfast_with_roi_head()),
        (
            "slowonly_r50",
            lambda: create_resnet(stem_conv_kernel_size=(1, 7, 7), head_pool_kernel_size=(8, 7, 7)),
        ),
    ],
)
def test_the_zoos_full_models_have_our_names_and_shapes(architecture: str, zoo) -> None:
    """Built as the zoo's hub builds them, without values."""
    with torch.device("meta"):
        published = {name.removeprefix("model."): tensor.shape for name, tensor in zoo().state_dict().items()}
        ours = {name: t.shape for name, t in ARCHITECTURES[architecture].build().state_dict().items()}
    heads = {name for name in published if "proj." in name}
    assert {name: shape for name, shape in published.items() if name not in heads} == ours
