"""Which engine runs a network, and why; decided without loading any of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from model.errors import EngineMissingError, how_to_install

EngineName = Literal["torch", "onnxruntime", "tensorrt", "tensorrt-rtx"]
TensorRtName = Literal["tensorrt", "tensorrt-rtx"]
TENSORRT_NAMES: tuple[TensorRtName, ...] = ("tensorrt", "tensorrt-rtx")
MODULES: dict[EngineName, tuple[str, ...]] = {
    "torch": (),
    "onnxruntime": ("onnx", "onnxscript", "onnxruntime"),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx_bindings",),
}
"""What has to be installed for each."""
FASTER_IN_ONNXRUNTIME: frozenset[str] = frozenset(
    {"slowfast_r50", "slowfast_r50_8x8", "slowonly_r50", "acrn_slowfast_r50"}
)
"""Architectures that onnxruntime runs faster than torch in float32 (``python -m tests.benchmarks.engines``).

Where the processor computes in bf16 torch is faster for all of them. ACRN's backbone is that of the 8x8 network.
"""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which engine a run uses, as a value that travels to the processes that open it."""

    name: EngineName | Literal["auto"] = "auto"
    folder: Path | None = None
    """Where engines are kept once they are built; None is :func:`default_folder`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine and the reason for it."""

    name: EngineName
    why: str

    def __str__(self) -> str:
        return f"engine {self.name}: {self.why}"


def default_folder() -> Path:
    """The user's cache folder for engines."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "aviaflow" / "engines"


def is_installed(name: EngineName) -> bool:
    """Whether the packages of an engine are there."""
    return all(find_spec(module) is not None for module in MODULES[name])


def choose(
    wanted: EngineName | Literal["auto"],
    architecture: str,
    device: str,
    *,
    has_bf16: bool,
    is_built: Callable[[TensorRtName], bool] = lambda _: False,
) -> Choice:
    """The engine that is wanted, or with ``auto`` the best that is there.

    Args:
        wanted: by the settings.
        architecture: of the network.
        device: ``cpu`` or ``cuda``.
        has_bf16: whether the device multiplies in bf16.
        is_built: whether an engine of TensorRT has been built for this checkpoint and device.

    Raises:
        EngineMissingError: the wanted engine is not installed, or does not run on this device.
    """
    if wanted != "auto":
        check_engine(wanted, device)
        return Choice(wanted, f"as set, on {device}")
    if device == "cpu":
        return _best_on_cpu(architecture, has_bf16)
    for name in TENSORRT_NAMES:
        if is_installed(name) and is_built(name):
            return Choice(name, f"one was built for this checkpoint and this {device} device")
    return Choice(
        "torch", f"FP16 on {device}; no engine of TensorRT was built for it (aviaflow export builds one)"
    )


def _best_on_cpu(architecture: str, has_bf16: bool) -> Choice:
    if has_bf16:
        return Choice("torch", "in bf16, the fastest on this processor")
    if architecture not in FASTER_IN_ONNXRUNTIME:
        return Choice("torch", f"not known to be slower than onnxruntime for {architecture} on a CPU")
    if not is_installed("onnxruntime"):
        why = (
            f"onnxruntime, faster for {architecture} on this CPU, is not installed: {how_to_install('onnx')}"
        )
        return Choice("torch", why)
    return Choice("onnxruntime", f"the fastest for {architecture} on a CPU without bf16")


def check_engine(wanted: EngineName, device: str) -> None:
    """Raise :class:`EngineMissingError` where the engine is not installed or does not run on the device."""
    if not is_installed(wanted):
        extra = "onnx" if wanted == "onnxruntime" else wanted
        raise EngineMissingError(
            f"infer.engine: {wanted} needs {', '.join(MODULES[wanted])}; {how_to_install(extra)}, or set it to auto"
        )
    if wanted in TENSORRT_NAMES and device == "cpu":
        raise EngineMissingError(
            f"infer.engine: {wanted} runs on a CUDA device, and infer.device is cpu; set the engine to auto"
        )
    if wanted == "onnxruntime" and device != "cpu":
        raise EngineMissingError(
            f"infer.engine: onnxruntime runs on the CPU here, and infer.device is {device}; set the engine to auto"
        )
