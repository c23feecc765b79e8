"""Bringing frames to where the engine is, on CUDA while it computes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Upload = Callable[[NDArray[np.uint8]], Tensor]
"""From an array in the host's memory to a tensor on the device."""


def upload_to(device: torch.device) -> Upload:
    """How arrays get to the device: not at all on a CPU, through pinned memory to CUDA."""
    return PinnedUpload(device) if device.type == "cuda" else torch.from_numpy


class PinnedUpload:
    """Copies on a stream of its own from two pinned buffers in turn, so that it waits for no computation.

    May be used from several threads.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers = [torch.empty(0, dtype=torch.uint8) for _ in range(2)]
        self._copied = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]
        self._turn = 0
        self._lock = threading.Lock()

    def __call__(self, array: NDArray[np.uint8]) -> Tensor:
        """A tensor of the array's shape; work on the current stream waits until it is there, the caller does not."""
        with self._lock:
            return self._copied_over(array)

    def _copied_over(self, array: NDArray[np.uint8]) -> Tensor:
        turn, self._turn = self._turn, 1 - self._turn
        self._copied[turn].synchronize()  # the last copy from this buffer
        if self._buffers[turn].numel() < array.size:
            self._buffers[turn] = torch.empty(array.size, dtype=torch.uint8, pin_memory=True)
        pinned = self._buffers[turn][: array.size].view(array.shape)
        pinned.copy_(torch.from_numpy(array))
        with torch.cuda.stream(self._stream):
            there = pinned.to(self._device, non_blocking=True)
            self._copied[turn].record(self._stream)
        current = torch.cuda.current_stream(self._device)
        current.wait_event(self._copied[turn])
        there.record_stream(current)
        return there
