from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from model.checkpoint import embedded_checkpoint, load_checkpoint, save_checkpoint
from model.errors import (
    CheckpointDigestError,
    CheckpointFormatError,
    CheckpointKeysError,
    CheckpointShapeError,
    UnknownArchitectureError,
)
from model.network import ActionNetwork


@pytest.fixture
def network() -> ActionNetwork:
    torch.manual_seed(2)
    return ActionNetwork("slowfast_small", ("rest", "dig", "swim", "sing"))


@pytest.fixture
def checkpoint(network: ActionNetwork, tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "net.safetensors"
    save_checkpoint(network, path, trained_on="trained on nothing", ethogram="otters")
    return path


def rewrite(path: Path, *, tensors=None, **facts: object) -> None:
    """Change the file as somebody would who does not keep its digest up."""
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["aviaflow"])
    save_file(tensors or load_file(path), path, metadata={"aviaflow": json.dumps({**metadata, **facts})})


def resave(path: Path, network: ActionNetwork) -> None:
    """Write a file with a right digest over wrong content."""
    save_checkpoint(network, path, trained_on="t", ethogram="e")


def test_round_trip(network: ActionNetwork, checkpoint: Path) -> None:
    loaded, info = load_checkpoint(checkpoint)
    assert (info.architecture, info.input_height) == ("slowfast_small", 160)
    assert info.behaviours == loaded.behaviours == ("rest", "dig", "swim", "sing")
    assert info.clip_frames == 16
    assert (info.trained_on, info.ethogram) == ("trained on nothing", "otters")
    assert len(info.digest) == 64
    assert not loaded.training
    for name, tensor in network.state_dict().items():
        restored = loaded.state_dict()[name]
        assert restored.dtype == tensor.dtype
        torch.testing.assert_close(restored, tensor, atol=1e-3 if tensor.ndim > 1 else 0, rtol=1e-3)


def test_file_is_small_and_alone(checkpoint: Path) -> None:
    assert checkpoint.stat().st_size < 2.2e6
    assert [path.name for path in checkpoint.parent.iterdir()] == ["net.safetensors"]


def test_digest_tells_networks_apart(network: ActionNetwork, checkpoint: Path) -> None:
    first = load_checkpoint(checkpoint)[1].digest
    assert (
        save_checkpoint(network, checkpoint, trained_on="trained on nothing", ethogram="otters").digest
        == first
    )
    with torch.no_grad():
        network.heads.other.bias += 1
    assert (
        save_checkpoint(network, checkpoint, trained_on="trained on nothing", ethogram="otters").digest
        != first
    )


def test_changed_weights_are_noticed(checkpoint: Path) -> None:
    tensors = load_file(checkpoint)
    tensors["heads.other.bias"] += 1
    rewrite(checkpoint, tensors=tensors)
    with pytest.raises(CheckpointDigestError, match="does not match its sha256"):
        load_checkpoint(checkpoint)


def test_a_changed_note_on_the_training_is_noticed(checkpoint: Path) -> None:
    rewrite(checkpoint, trained_on="trained on real cranes")
    with pytest.raises(CheckpointDigestError):
        load_checkpoint(checkpoint)


def test_an_unknown_architecture_is_named(network: ActionNetwork, checkpoint: Path) -> None:
    network.architecture = replace(network.architecture, name="slowfast_giant")
    resave(checkpoint, network)
    with pytest.raises(UnknownArchitectureError, match="slowfast_giant"):
        load_checkpoint(checkpoint)


def test_missing_and_surplus_tensors_are_named(network: ActionNetwork, checkpoint: Path) -> None:
    network.heads.other = torch.nn.Identity()
    network.heads.extra = torch.nn.Linear(2, 2)
    resave(checkpoint, network)
    with pytest.raises(
        CheckpointKeysError, match=r"2 tensors are missing \(first: \['heads.other.bias'.*2 are too many"
    ):
        load_checkpoint(checkpoint)


def test_a_wrong_shape_is_named(network: ActionNetwork, checkpoint: Path) -> None:
    network.heads.behaviour = torch.nn.Linear(576, 3)
    resave(checkpoint, network)
    with pytest.raises(
        CheckpointShapeError, match=r"heads.behaviour.weight has shape \(3, 576\).*\(4, 576\)"
    ):
        load_checkpoint(checkpoint)


def test_incomplete_metadata_is_named(checkpoint: Path) -> None:
    rewrite(checkpoint, behaviours="rest")
    with pytest.raises(CheckpointFormatError, match="incomplete"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"\x80\x04cos\nsystem\n."])
def test_other_files_are_no_checkpoints(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointFormatError, match="not a checkpoint"):
        load_checkpoint(path)


def test_safetensors_of_others_are_no_checkpoints(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointFormatError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_an_absent_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointFormatError, match="make weights"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_embedded_weights_say_that_they_are_trained_on_simulated_birds() -> None:
    if not embedded_checkpoint().exists():
        pytest.skip("no embedded weights here: run 'make weights'")
    network, info = load_checkpoint(embedded_checkpoint())
    assert "simulated birds" in info.trained_on
    assert info.behaviours == ("feeding", "vigilance", "social", "maintenance", "walk", "flight")
    assert network.architecture.name == "slowfast_small"
    assert embedded_checkpoint().stat().st_size < 5e6
