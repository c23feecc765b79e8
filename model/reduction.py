"""Sums over the processes of a distributed training, so that all of them take the same step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Reduction(Protocol):
    """How one process meets the others; every process must make the same calls in the same order."""

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace the tensor by its sum over all processes, and return it."""

    def from_first_(self, tensor: Tensor) -> Tensor:
        """Replace the tensor by that of the first process, and return it."""


@dataclass(frozen=True, slots=True)
class OneProcess:
    """There are no others."""

    def sum_(self, tensor: Tensor) -> Tensor:
        """The tensor as it is."""
        return tensor

    def from_first_(self, tensor: Tensor) -> Tensor:
        """The tensor as it is."""
        return tensor


@dataclass(frozen=True, slots=True, eq=False)
class ProcessGroup:
    """The processes of a ``torch.distributed`` group, gloo or NCCL."""

    group: dist.ProcessGroup | None = None
    """None is the default group."""

    def sum_(self, tensor: Tensor) -> Tensor:
        """All-reduce."""
        dist.all_reduce(tensor, group=self.group)
        return tensor

    def from_first_(self, tensor: Tensor) -> Tensor:
        """Broadcast from rank 0 of the group."""
        dist.broadcast(tensor, group=self.group, group_src=0)
        return tensor


@torch.no_grad()
def share_state(network: nn.Module, reduction: Reduction) -> None:
    """Give every process the first one's parameters and buffers."""
    for tensor in (*network.parameters(), *network.buffers()):
        # A copy in plain order: NCCL and gloo take contiguous tensors, the weights may lie channels last.
        tensor.copy_(reduction.from_first_(tensor.contiguous().clone()))
