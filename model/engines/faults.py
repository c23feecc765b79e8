"""Which errors of a device mean what: memory that is short, or a device that this process cannot use any more."""

from __future__ import annotations

import torch

_SHORT = ("can't allocate memory", "out of memory")
_BROKEN = ("CUDA error", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "CUBLAS_STATUS_EXECUTION_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less at once may fit."""
    is_short = isinstance(error, RuntimeError) and any(text in str(error) for text in _SHORT)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or is_short


def is_device_fault(error: BaseException) -> bool:
    """Whether the process has lost its device: after an error of CUDA every further call fails."""
    if is_out_of_memory(error):
        return False
    is_broken = isinstance(error, RuntimeError) and any(text in str(error) for text in _BROKEN)
    return isinstance(error, torch.AcceleratorError) or is_broken
