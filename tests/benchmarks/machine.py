"""On what a benchmark ran."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess

import torch


def facts_of_machine(device: torch.device) -> dict[str, str]:
    """Processor, GPU, driver, versions, date and commit; ``unknown`` where the machine does not say."""
    facts = {
        "processor": f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors",
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
            "cudnn": str(torch.backends.cudnn.version()),
        }
    return facts


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
