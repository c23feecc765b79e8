"""How long a device is busy with something that it may still be at when the call returns."""

from __future__ import annotations

import time
from typing import Protocol

import torch


class Stopwatch(Protocol):
    """Runs from when it was made until it is stopped."""

    def stop(self) -> None:
        """Stop it."""
        ...

    @property
    def seconds(self) -> float:
        """That passed; on CUDA this waits until the device is so far."""
        ...


class HostWatch:
    """On the clock of the processor."""

    def __init__(self) -> None:
        self._started_s = time.perf_counter()
        self.seconds = 0.0

    def stop(self) -> None:
        """As :meth:`Stopwatch.stop`."""
        self.seconds = time.perf_counter() - self._started_s


class CudaWatch:
    """On the clock of the device, along its current stream."""

    def __init__(self) -> None:
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
        self._events[0].record()

    def stop(self) -> None:
        """As :meth:`Stopwatch.stop`."""
        self._events[1].record()

    @property
    def seconds(self) -> float:
        """As :attr:`Stopwatch.seconds`."""
        self._events[1].synchronize()
        return float(self._events[0].elapsed_time(self._events[1])) / 1e3


def stopwatch(device: torch.device) -> Stopwatch:
    """One that has just been started."""
    return CudaWatch() if device.type == "cuda" else HostWatch()
