from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from model.engines import choice
from model.engines.choice import choose, default_folder
from model.errors import EngineMissingError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The engines that seem to be installed."""
    names = {"torch", "onnxruntime", "tensorrt", "tensorrt-rtx"}
    monkeypatch.setattr(choice, "is_installed", lambda name: name in names)
    return names


def test_on_a_cpu_the_measurement_decides(installed: set[str]) -> None:
    assert choose("auto", "slowfast_r50", "cpu", has_bf16=False).name == "onnxruntime"
    assert choose("auto", "slowfast_r50", "cpu", has_bf16=True).name == "torch"
    assert choose("auto", "slowfast_small", "cpu", has_bf16=False).name == "torch"
    installed.remove("onnxruntime")
    without = choose("auto", "slowfast_r50", "cpu", has_bf16=False)
    assert without.name == "torch"
    assert "pip install -e '.[onnx]'" in without.why


def test_on_cuda_what_was_built_is_used_and_nothing_is_built_unasked(installed: set[str]) -> None:
    def auto(*built: str) -> str:
        return choose("auto", "slowfast_r50", "cuda", has_bf16=True, is_built=lambda name: name in built).name

    assert auto() == "torch"
    assert auto("tensorrt-rtx") == "tensorrt-rtx"
    assert auto("tensorrt-rtx", "tensorrt") == "tensorrt"
    installed.remove("tensorrt")
    assert auto("tensorrt-rtx", "tensorrt") == "tensorrt-rtx"
    installed.remove("tensorrt-rtx")
    assert auto("tensorrt-rtx", "tensorrt") == "torch"


def test_what_is_named_is_taken_and_said(installed: set[str]) -> None:
    taken = choose("onnxruntime", "slowfast_small", "cpu", has_bf16=True)
    assert str(taken) == "engine onnxruntime: as set, on cpu"


@pytest.mark.parametrize(
    ("wanted", "device", "said"),
    [
        ("tensorrt", "cpu", "tensorrt runs on a CUDA device, and infer.device is cpu"),
        ("tensorrt-rtx", "cpu", "tensorrt-rtx runs on a CUDA device"),
        ("onnxruntime", "cuda", "onnxruntime runs on the CPU here, and infer.device is cuda"),
    ],
)
def test_an_engine_that_does_not_run_there_is_refused(
    installed: set[str], wanted: choice.EngineName, device: str, said: str
) -> None:
    with pytest.raises(EngineMissingError, match=said):
        choose(wanted, "slowfast_small", device, has_bf16=False)


def test_an_engine_that_is_not_installed_is_refused(installed: set[str]) -> None:
    installed.clear()
    with pytest.raises(
        EngineMissingError, match=r"needs tensorrt_rtx_bindings; run .* install -e '\.\[tensorrt-rtx\]'"
    ):
        choose("tensorrt-rtx", "slowfast_small", "cuda", has_bf16=True)


def test_choosing_loads_no_engine() -> None:
    code = "import sys, model.engines.choice; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx_bindings"} & set(run.stdout.split())


def test_engines_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "aviaflow" / "engines"
