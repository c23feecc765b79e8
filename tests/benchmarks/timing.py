"""Seconds on a device, by its own clock where it has one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let tensors and pictures have one processor, as in a task of one."""
    tensors, pictures = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(tensors)
        cv2.setNumThreads(pictures)


def median_s(
    call: Callable[[], object],
    device: torch.device,
    *,
    warm_up: int = 2,
    rounds: int = 15,
    limit_s: float = 1.0,
) -> float:
    """Median seconds of a call, after some to warm up; no further round is begun after ``limit_s`` seconds."""
    for _ in range(warm_up):
        call()
    synchronise(device)
    seconds: list[float] = []
    started = time.perf_counter()
    while len(seconds) < rounds and (not seconds or time.perf_counter() - started < limit_s):
        seconds.append(one_s(call, device))
    return float(np.median(seconds))


def one_s(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, until the device has done all of it."""
    if device.type != "cuda":
        started = time.perf_counter()
        call()
        return time.perf_counter() - started
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1000


def synchronise(device: torch.device) -> None:
    """Wait until the device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
