"""CUDA graphs: the kernels of a call with fixed shapes, recorded once and started together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP_CALLS = 3
"""Calls before recording, in which libraries choose their kernels and take their workspaces."""


class Replay:
    """A recorded call; replaying it costs one launch instead of hundreds."""

    def __init__(self, call: Callable[[Tensor], Tensor], example: Tensor) -> None:
        """Record ``call`` for inputs of the example's shape and type, on the example's device."""
        self._input = example.clone()
        current = torch.cuda.current_stream()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_CALLS):
                call(self._input)
        current.wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may allocate and wait meanwhile, which a capture of the whole process would not survive.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = call(self._input)

    def __call__(self, batch: Tensor) -> Tensor:
        """The output for a batch; the same memory at every call, so take it before the next."""
        self._input.copy_(batch)
        self._graph.replay()
        return self._output
