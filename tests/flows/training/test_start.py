"""What a training starts from: checkpoints of ours, the embedded weights, and published weights in local files."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from flows.errors import SettingsError, TrainingError
from flows.settings import load_train_settings
from flows.training.recipe import Recipe
from flows.training.settings import initial_option
from flows.training.start import PublishedStart, start_from
from flows.training.trainer import Trainer
from model.backbones import ARCHITECTURES
from model.batch_norm import FrozenBatchNorm3d, SynchronisedBatchNorm3d, synchronise_batch_norm
from model.checkpoint import embedded_checkpoint, load_checkpoint, save_checkpoint
from model.errors import CheckpointDigestError, CheckpointFormatError, UnfitWeightsError
from model.network import ActionNetwork
from model.published import PUBLISHED
from model.reduction import OneProcess
from workers.clips import WindowSet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorchvideo.models.resnet import create_resnet
    from pytorchvideo.models.slowfast import create_slowfast, create_slowfast_with_roi_head

NAMES = ("peck", "doze", "soar")
KINETICS, AVA, SLOW = "kinetics400_slowfast_8x8_r50", "ava_slowfast_8x8_r50", "kinetics400_slow_8x8_r50"


def publish(path: Path, zoo: torch.nn.Module) -> tuple[dict[str, torch.Tensor], str]:
    """A file of the zoo's keys and shapes with values of our own; its tensors, and its checksum."""
    random = torch.Generator().manual_seed(4)
    state = {
        name: torch.rand(tensor.shape, generator=random) * 0.02 + ("running_var" in name)
        if tensor.is_floating_point()
        else torch.tensor(7)
        for name, tensor in zoo.state_dict().items()
    }
    torch.save({"model_state": state}, path)
    return state, hashlib.sha256(path.read_bytes()).hexdigest()


def scene(keyframes: int = 2) -> WindowSet:
    """One short video of noise with a bird at each keyframe."""
    rng = np.random.default_rng(0)
    return WindowSet(
        frames=rng.integers(0, 256, (8 * keyframes, 32, 48, 3), dtype=np.uint8),
        video_start=np.array([0, 8 * keyframes]),
        light=np.array(["day"]),
        video=np.zeros(keyframes, dtype=np.int64),
        grid=8 * np.arange(keyframes),
        box_start=np.arange(keyframes + 1),
        xyxy=np.tile(np.array([0.2, 0.1, 0.7, 0.9], np.float32), (keyframes, 1)),
        label=np.arange(keyframes) % 3,
        dynamic=np.arange(keyframes) % 2,
        learnable=np.ones(keyframes, dtype=bool),
        other=np.zeros(keyframes, dtype=bool),
        individual=np.full(keyframes, "1"),
    )


@pytest.mark.parametrize(
    ("architecture", "zoo"),
    [
        ("slowfast_small", {"model_depth": 18, "stem_dim_outs": (16, 2)}),
        pytest.param("slowfast_r50_8x8", {}, marks=pytest.mark.slow),
    ],
)
def test_a_step_from_published_weights_with_frozen_batch_norm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, zoo: dict[str, Any]
) -> None:
    """On a tiny clip; the small network has the zoo's names at another width."""
    fitting = replace(PUBLISHED[KINETICS], architectures=(architecture,))
    monkeypatch.setitem(PUBLISHED, KINETICS, fitting)
    state, sha256 = publish(tmp_path / "SLOWFAST_8x8_R50.pyth", create_slowfast(**zoo))
    recipe = Recipe(
        architecture=architecture,
        total_clips=1,
        batch_clips=1,
        warmup_steps=0,
        batch_norm="frozen",
        weighting="lgh",
    )
    trainer = Trainer(scene(), NAMES, recipe, initial=PublishedStart(KINETICS, tmp_path, sha256))
    stem = "blocks.0.multipathway_blocks.0."
    for name, tensor in trainer.network.backbone.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    norms = [m for m in trainer.network.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert len(norms) > 30
    assert all(isinstance(norm, FrozenBatchNorm3d) and not norm.training for norm in norms)
    row = trainer.advance()
    after = trainer.network.backbone.state_dict()
    assert np.isfinite([row.loss_behaviour, row.gradient_norm]).all()
    assert not torch.equal(after[f"{stem}conv.weight"], state[f"{stem}conv.weight"])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(after[f"{stem}norm.{name}"], state[f"{stem}norm.{name}"]), name


def test_norms_after_a_published_backbone_are_not_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """ACRN's relation is not published: frozen, its norms would stay as they are made."""
    monkeypatch.setattr("flows.training.trainer.start_from", lambda network, start: "")
    recipe = Recipe(architecture="acrn_slowfast_r50", total_clips=1, batch_clips=1, batch_norm="frozen")
    start = PublishedStart(KINETICS, Path("nowhere"), "0" * 64)
    network = Trainer(scene(), NAMES, recipe, initial=start).network
    synchronise_batch_norm(network, OneProcess())

    def kinds(module: torch.nn.Module | None) -> set[type]:
        assert module is not None
        return {type(one) for one in module.modules() if isinstance(one, torch.nn.BatchNorm3d)}

    assert kinds(network.backbone) == {FrozenBatchNorm3d}
    assert kinds(network.relation) == {SynchronisedBatchNorm3d}


@pytest.mark.parametrize(
    ("name", "architecture", "zoo", "prefix"),
    [
        (AVA, "slowfast_r50", create_slowfast_with_roi_head, "model."),
        (
            SLOW,
            "slowonly_r50",
            lambda: create_resnet(stem_conv_kernel_size=(1, 7, 7), head_pool_kernel_size=(8, 7, 7)),
            "",
        ),
    ],
)
def test_the_other_published_weights_fill_the_backbone_too(
    tmp_path: Path, name: str, architecture: str, zoo: Callable[[], torch.nn.Module], prefix: str
) -> None:
    state, sha256 = publish(tmp_path / "mine.pyth", zoo())
    network = ActionNetwork(architecture, NAMES)
    words = start_from(network, PublishedStart(name, tmp_path / "mine.pyth", sha256))
    assert words == f"from the published weights {name}"
    for key, tensor in network.backbone.state_dict().items():
        assert torch.equal(tensor, state[prefix + key]), key


def test_what_is_wrong_with_published_weights_is_said(tmp_path: Path) -> None:
    network = ActionNetwork("slowfast_small", NAMES)
    with pytest.raises(UnfitWeightsError, match=r"fits slowfast_r50, .*, not slowfast_small"):
        start_from(network, PublishedStart(KINETICS, tmp_path, "00"))
    network.architecture = ARCHITECTURES["slowfast_r50"]
    with pytest.raises(
        CheckpointFormatError, match=r"SLOWFAST_8x8_R50\.pyth: no such file; .* comes from https"
    ):
        start_from(network, PublishedStart(KINETICS, tmp_path, "00"))
    _, sha256 = publish(tmp_path / "k.pyth", create_slowfast(model_depth=18, stem_dim_outs=(16, 2)))
    with pytest.raises(CheckpointDigestError, match=f"its sha256 is {sha256}, not the expected 00"):
        start_from(network, PublishedStart(KINETICS, tmp_path / "k.pyth", "00"))
    with pytest.raises(CheckpointDigestError, match=f"needs the one that you trust; this file has {sha256}"):
        start_from(network, PublishedStart(KINETICS, tmp_path / "k.pyth", None))


def test_heads_of_ours_are_taken_where_the_behaviours_are_the_same() -> None:
    ours = ActionNetwork("slowfast_small", NAMES)
    before = ours.heads.behaviour.weight.detach().clone()
    assert start_from(ours, embedded_checkpoint()) == "from weights trained on simulated birds"
    assert torch.equal(ours.heads.behaviour.weight, before)
    with pytest.raises(TrainingError, match="a slowfast_small, but the training is of a slowfast_r50"):
        start_from(SimpleNamespace(architecture=ARCHITECTURES["slowfast_r50"]), embedded_checkpoint())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("initial: w.safetensors", lambda folder: folder / "w.safetensors"),
        ("initial: {file: w.safetensors}", lambda folder: folder / "w.safetensors"),
        ("initial: embedded", lambda folder: embedded_checkpoint()),
        (
            f"initial: {{published: {AVA}, file: w.pyth, sha256: ab12}}\narchitecture: slowfast_r50",
            lambda folder: PublishedStart(AVA, folder / "w.pyth", "ab12"),
        ),
        ("seed: 3", lambda folder: None),
    ],
)
def test_how_a_file_says_what_to_start_from(
    tmp_path: Path, text: str, start: Callable[[Path], object]
) -> None:
    """Paths are relative to the file."""
    (tmp_path / "mine.yaml").write_text(f"clips: 4\n{text}\n")
    initial = load_train_settings(tmp_path / "mine.yaml").initial
    assert (None if initial is None else initial.start()) == start(tmp_path)


def test_how_the_command_line_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.safetensors").touch()
    for option, sha256, start in (
        ("w.safetensors", None, tmp_path / "w.safetensors"),
        ("a=b.safetensors", None, tmp_path / "a=b.safetensors"),
        ("embedded", None, embedded_checkpoint()),
        (f"{SLOW}=zoo/w.pyth", "ab12", PublishedStart(SLOW, tmp_path / "zoo" / "w.pyth", "ab12")),
        (f"{SLOW}=zoo/w.pyth", None, PublishedStart(SLOW, tmp_path / "zoo" / "w.pyth", None)),
    ):
        given = {"clips": 4, "initial": initial_option(option, sha256)}
        initial = load_train_settings(None, given).initial
        assert initial is not None
        assert initial.start() == start
    assert initial_option(None, None) is None
    with pytest.raises(SettingsError, match="--sha256 is of weights that --initial names"):
        initial_option(None, "ab12")


def test_the_relation_module_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "acrn.safetensors"
    save_checkpoint(
        ActionNetwork("acrn_slowfast_r50", NAMES), path, trained_on="trained on ducks", ethogram="d"
    )
    network = ActionNetwork("acrn_slowfast_r50", NAMES)
    start_from(network, path)
    trained, _ = load_checkpoint(path)
    assert network.relation is not None
    assert trained.relation is not None
    taken = network.relation.state_dict()
    assert all(torch.equal(taken[name], value) for name, value in trained.relation.state_dict().items())


def test_a_folder_for_checkpoints_is_relative_to_the_file_and_a_uri_stays_one(tmp_path: Path) -> None:
    for storage, meant in (("kept", str(tmp_path / "kept")), ("s3://bucket/kept", "s3://bucket/kept")):
        (tmp_path / "mine.yaml").write_text(f"{{clips: 4, storage: '{storage}'}}")
        assert str(load_train_settings(tmp_path / "mine.yaml").storage) == meant


def test_lambda_base_has_one_place(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("{clips: 4, weighting: {name: lgh, parameters: {lambda_base: 0.2}}}")
    with pytest.raises(SettingsError, match=r"weighting: .*lambda_base is beside the parameters"):
        load_train_settings(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{published: imagenet, file: w}", r"initial\.published: .*unknown published weights 'imagenet': .*"),
        ("{published: kinetics400_slow_8x8_r50}", r"initial\.file: Field required"),
        ("{file: w, sha: 3}", r"initial\.sha: there is no such setting"),
        ("{file: w, sha256: ab}", r"initial: .*sha256 is of published weights"),
    ],
)
def test_a_mistake_in_what_to_start_from_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"clips: 4\ninitial: {text}\n")
    with pytest.raises(SettingsError, match=said):
        load_train_settings(tmp_path / "mine.yaml")


def test_the_names_are_those_that_aviaflow_models_lists() -> None:
    assert {KINETICS, AVA, SLOW} <= set(PUBLISHED)
