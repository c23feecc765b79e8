"""Check a machine: what a run needs, what it would use, and what is missing."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = (
    "ray",
    "prefect",
    "fastapi",
    "torch",
    "torchvision",
    "pytorchvideo",
    "av",
    "pyarrow",
    "pandas",
    "duckdb",
)
MIN_FREE_GIB = 5.0
MIN_MEMORY_GIB = 6.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: str
    """``ok``, ``note`` (works, but worth knowing) or ``bad`` (a run would fail)."""
    detail: str

    def as_dict(self) -> dict[str, str]:
        """As JSON values."""
        return dataclasses.asdict(self)


def run_checks(store: str | None = None) -> list[Check]:
    """Look at Python, packages, processors, memory, decoders, NVDEC, device, engines, weights and the store."""
    checks: list[Callable[[], Check]] = [
        _python,
        _packages,
        _processors,
        _memory,
        _disk,
        _decoders,
        _nvdec,
        _device,
        _engines,
        _weights,
    ]
    results = [check() for check in checks]
    if store is not None:
        results.append(_store(store))
    return results


def describe_checks(checks: Sequence[Check]) -> str:
    """One line per check."""
    return "\n".join(f"{check.status:<5} {check.name:<11} {check.detail}" for check in checks)


def _python() -> Check:
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Check("python", "ok" if fits else "bad", f"{platform.python_version()}, 3.11 or 3.12 needed")


def _packages() -> Check:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", "bad", f"missing: {', '.join(missing)}; run make setup")
    return Check("packages", "ok", ", ".join(found))


def _processors() -> Check:
    count = os.cpu_count() or 1
    return Check("processors", "ok" if count > 1 else "note", f"{count}; decoding and inference share them")


def _memory() -> Check:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Check(
        "memory", "ok" if gib >= MIN_MEMORY_GIB else "note", f"{gib:.1f} GiB, {MIN_MEMORY_GIB:g} advised"
    )


def _disk() -> Check:
    gib = shutil.disk_usage(Path.cwd()).free / 2**30
    return Check("disk", "ok" if gib >= MIN_FREE_GIB else "note", f"{gib:.1f} GiB free here")


def _decoders() -> Check:
    try:
        version = importlib.metadata.version("decord")
    except importlib.metadata.PackageNotFoundError:
        return Check(
            "decoders", "note", "decord is not built for this machine: PyAV decodes everything, slower"
        )
    return Check("decoders", "ok", f"decord {version}, PyAV {importlib.metadata.version('av')}")


def _nvdec() -> Check:
    from workers.nvdec import NvdecError, describe, is_installed

    if not is_installed():
        return Check("nvdec", "ok", "not installed: the processors decode (docs/nvdec.md)")
    try:
        return Check("nvdec", "ok", describe())
    except NvdecError as error:
        return Check("nvdec", "note", f"decode.decoder: nvdec leaves all to the processors: {error}")


def _device() -> Check:
    import torch

    from model.engines.torch_engine import computes_bf16

    if torch.cuda.is_available():
        return Check("device", "ok", f"CUDA: {torch.cuda.get_device_name(0)}")
    speed = "with bfloat16" if computes_bf16("cpu") else "without bfloat16, slower"
    return Check("device", "note", f"no CUDA device: the model runs on the processors, {speed}")


def _engines() -> Check:
    from model.engines.choice import MODULES, is_installed

    there = [name for name in MODULES if is_installed(name)]
    missing = [name for name in MODULES if name not in there]
    rest = f"; not installed: {', '.join(missing)} (docs/engines.md)" if missing else ""
    return Check("engines", "ok", ", ".join(there) + rest)


def _weights() -> Check:
    from model.checkpoint import embedded_checkpoint, load_checkpoint
    from model.errors import ModelError

    try:
        _, info = load_checkpoint(embedded_checkpoint())
    except (ModelError, OSError) as error:
        return Check("weights", "bad", str(error))
    return Check("weights", "ok", f"{info.architecture} {info.digest[:12]}, {info.trained_on}")


def _store(uri: str) -> Check:
    from storage.errors import StorageError
    from storage.filesystem import open_filesystem

    path = "doctor.tmp"
    try:
        fs = open_filesystem(uri)
        fs.write_atomic(path, b"ok")
        readable = fs.read_bytes(path) == b"ok"
        fs.delete(path)
    except (StorageError, OSError) as error:
        return Check("store", "bad", str(error))
    return Check("store", "ok" if readable else "bad", f"{uri} can be written and read")
