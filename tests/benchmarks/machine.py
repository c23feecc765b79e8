"""On what a benchmark ran."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("ray", "prefect", "av", "decord", "numpy", "onnxruntime", "pyarrow", "pandas", "duckdb")
"""Whose versions decide how long a run takes, beside those of Python and torch."""


def facts_of_machine(device: torch.device) -> dict[str, str]:
    """Processor, GPU, driver, versions, date and commit; ``unknown`` where the machine does not say."""
    facts = {
        "processor": f"{_processor()}, {os.cpu_count()} processors",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "rev-parse", "HEAD"),
        "gpu": "none",
    }
    if device.type == "cuda":
        facts |= {
            "gpu": torch.cuda.get_device_name(device),
            "memory_gib": f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.1f}",
            "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        }
    return facts


def versions_of(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of installed packages; ``none`` where one is not there."""
    return {package: _version(package) for package in packages}


def load_of_machine() -> str:
    """How many processes wanted a processor, in the mean of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(models), platform.processor() or platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
