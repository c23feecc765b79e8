"""``aviaflow export``: what it writes, says and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows import export
from flows.cli import main
from flows.errors import ExportError
from flows.export import export_checkpoint
from model.checkpoint import embedded_checkpoint, load_checkpoint
from model.engines.artifact import read_engine, sha256
from workers.simulate.clips import sample_clips


@pytest.fixture(autouse=True)
def few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clips in the gate instead of all."""
    monkeypatch.setattr(export, "gate_clips", lambda frames, size: sample_clips(2, frames, size, seed=3))


def no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "device_target", lambda: None)


def test_the_embedded_weights_for_an_rtx_4090(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "export",
        "embedded",
        "--engine",
        "tensorrt-rtx",
        "--target",
        "sm89",
        "--out",
        str(tmp_path),
        "--json",
    ]
    assert main(arguments) == 0
    written = json.loads(capsys.readouterr().out)
    content, manifest = read_engine(Path(written["path"]))
    assert written["artifact"] == sha256(content) == manifest.artifact
    assert written["bytes"] == len(content)
    assert (written["target"], written["precision"], written["size"]) == ("sm89", "fp16", [160, 288])
    assert written["checkpoint"] == load_checkpoint(embedded_checkpoint())[1].digest
    assert written["gate"]["parity"]["largest_difference"] < 0.01
    assert Path(written["manifest"]).exists()
    assert len(list(tmp_path.glob("*.onnx"))) == 1


def test_an_onnx_graph_for_videos_of_another_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(embedded_checkpoint()), "--engine", "onnx", "--out", str(tmp_path)]
    assert main([*arguments, "--video-size", "640x480", "--precision", "fp16"]) == 0
    said = capsys.readouterr().out
    (path,) = tmp_path.glob("*.onnx")
    assert "160x208-fp16" in path.name
    assert str(path) in said
    assert "probabilities differ by at most" in said
    assert f"set infer.engine_dir to {tmp_path}" in said


def test_targets_that_do_not_go_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_device(monkeypatch)
    checkpoint = embedded_checkpoint()
    with pytest.raises(ExportError, match="an ONNX graph is for any device"):
        export_checkpoint(checkpoint, "onnx", tmp_path, target="sm89")
    with pytest.raises(ExportError, match=r"no CUDA device to build for; name one of sm75, .* with --target"):
        export_checkpoint(checkpoint, "tensorrt-rtx", tmp_path)
    assert main(["export", "missing.safetensors", "--engine", "onnx", "--out", str(tmp_path)]) == 1
    assert "missing.safetensors: no such checkpoint" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", "embedded", "--engine", "onnx", "--out", str(tmp_path), "--video-size", "1080p"])
    assert ended.value.code == 1
    assert "must be like 1920x1080, got 1080p" in capsys.readouterr().err


def test_a_failed_gate_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("model.parity.MAX_DIFFERENCE", 1e-12)
    assert (
        main(["export", "embedded", "--engine", "onnx", "--out", str(tmp_path), "--precision", "fp16"]) == 1
    )
    assert "is not used: probabilities differ by at most" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
