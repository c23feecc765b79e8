from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from model.engines.artifact import (
    Gate,
    Manifest,
    discard,
    engine_name,
    locked,
    manifest_path,
    publish,
    read_engine,
    read_manifest,
    sha256,
    with_device_gate,
    write_manifest,
)
from model.errors import EngineArtifactError
from model.parity import Parity

CONTENT = b"an engine"
MANIFEST = Manifest(
    kind="tensorrt-rtx",
    architecture="slowfast_small",
    checkpoint="c" * 64,
    size=(48, 80),
    clip_frames=16,
    precision="fp16",
    onnx="0" * 64,
    artifact=sha256(CONTENT),
    gate=Gate("onnxruntime 1 on x86_64", Parity(10, 0.001, 1.0)),
    target="sm89",
    most_clips=16,
    versions={"torch": "2"},
    created="2026-01-01T00:00:00+00:00",
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "one.engine"
    publish(path, CONTENT, MANIFEST)
    assert read_engine(path) == (CONTENT, MANIFEST)
    assert sorted(one.name for one in path.parent.iterdir()) == ["one.engine", "one.engine.json"]


def test_the_gate_on_the_device_is_awaited_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "one.engine"
    publish(path, CONTENT, MANIFEST)
    assert read_manifest(path).awaits_device
    passed = with_device_gate(MANIFEST, Gate("tensorrt-rtx on a card", Parity(10, 0.002, 1.0)))
    write_manifest(path, passed)
    assert not read_engine(path)[1].awaits_device
    assert passed.has_passed_on("tensorrt-rtx on a card")
    assert not passed.has_passed_on("tensorrt-rtx on another of its kind")
    assert not MANIFEST.has_passed_on("tensorrt-rtx on a card")
    assert read_engine(path)[1] == passed
    assert not dataclasses.replace(MANIFEST, kind="onnx").awaits_device


def test_an_engine_that_was_changed_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "one.engine"
    publish(path, CONTENT, MANIFEST)
    path.write_bytes(b"another code")
    with pytest.raises(EngineArtifactError, match=r"one\.engine: the content does not match the digest"):
        read_engine(path)


@pytest.mark.parametrize("broken", ["", "[]", "{}", '{"format": "another"}'])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "one.engine"
    publish(path, CONTENT, MANIFEST)
    manifest_path(path).write_text(broken)
    with pytest.raises(EngineArtifactError, match="not a manifest of this version"):
        read_engine(path)


def test_a_manifest_with_other_keys_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.engine"
    publish(path, CONTENT, MANIFEST)
    document = json.loads(manifest_path(path).read_text())
    manifest_path(path).write_text(json.dumps({**document, "more": 1}))
    with pytest.raises(EngineArtifactError, match="not a manifest of this version"):
        read_engine(path)


def test_without_its_manifest_an_engine_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "one.engine"
    path.write_bytes(CONTENT)
    with pytest.raises(EngineArtifactError, match="no such manifest; run aviaflow export"):
        read_engine(path)
    publish(path, CONTENT, MANIFEST)
    path.unlink()
    with pytest.raises(EngineArtifactError, match="No such file"):
        read_engine(path)
    discard(path)
    assert list(tmp_path.iterdir()) == []


def test_the_name_changes_with_all_that_an_engine_depends_on() -> None:
    facts = {
        "onnx": "0" * 64,
        "kind": "tensorrt",
        "version": "10.9",
        "target": "sm89",
        "most_clips": 16,
    }
    graph = "slowfast_small-cccc-48x80-fp16.onnx"
    names = {engine_name(graph, **facts)}
    for change in (
        {"onnx": "1" * 64},
        {"kind": "tensorrt-rtx"},
        {"version": "11.0"},
        {"target": "sm121"},
        {"most_clips": 8},
    ):
        names.add(engine_name(graph, **{**facts, **change}))
    names.add(engine_name(graph.replace("48x80", "48x96"), **facts))
    names.add(engine_name(graph.replace("fp16", "fp32"), **facts))
    assert len(names) == 8
    assert all(name.endswith(".engine") for name in names)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(EngineArtifactError, match=r"set infer\.engine_dir"),
        locked(tmp_path / "file" / "folder"),
    ):
        pass
