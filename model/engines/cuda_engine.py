"""The backbone in torch on a CUDA device: half precision, compiled where that is possible, replayed as a CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from model.backbones import Backbone
from model.engines.half import HalfNetwork
from model.engines.replay import Replay
from model.errors import DeviceMemoryError

CudaMode = Literal["eager", "graph", "compiled", "compiled-graph", "tuned-graph"]
"""Whether the network is compiled, with ``tuned`` by timing many kernels for minutes, and recorded as a graph."""
MOST_SHAPES = 4
"""Recorded graphs are kept for this many shapes of batches; each holds its own feature maps."""


class CudaEngine:
    """A backbone in FP16, channels last; maps stay on the device, and a call returns before they are computed."""

    def __init__(self, backbone: Backbone, device: str = "cuda", mode: CudaMode = "compiled-graph") -> None:
        """Copy the weights to the device.

        Args:
            backbone: in single precision; it is not changed.
            device: ``cuda``, or ``cuda:N``.
            mode: where the network cannot be compiled it runs as it is, with a warning that says why.
        """
        self.device = torch.device(device)
        torch.backends.cudnn.benchmark = True
        self._network = HalfNetwork(backbone).to(self.device)
        self._compiles = mode.startswith(("compiled", "tuned"))
        self._tuning = "max-autotune-no-cudagraphs" if mode.startswith("tuned") else "default"
        self._records = mode.endswith("graph")
        self._calls: dict[torch.Size, Callable[[Tensor], Tensor]] = {}
        self.most_clips: int | None = None
        """Clips that are computed at once at most, where a larger batch was found not to fit; else None."""

    @torch.no_grad()
    def pooled_maps(self, clips: Tensor) -> Tensor:
        """As :meth:`model.engines.base.Engine.pooled_maps`; a batch that does not fit is computed in parts.

        Raises:
            DeviceMemoryError: not even one clip fits into the device's memory.
        """
        clips = clips.to(self.device, non_blocking=True)
        with torch.cuda.device(self.device):
            while True:
                try:
                    parts = torch.split(clips, self.most_clips or len(clips))
                    return torch.cat([self._call_for(part)(part).float() for part in parts])
                except torch.cuda.OutOfMemoryError as error:
                    self._take_less(clips, error)

    def _call_for(self, clips: Tensor) -> Callable[[Tensor], Tensor]:
        if clips.shape not in self._calls:
            if len(self._calls) >= MOST_SHAPES:
                self._calls.pop(next(iter(self._calls)))
            call = self._compiled(clips) if self._compiles else self._network
            self._calls[clips.shape] = Replay(call, clips) if self._records else call
        return self._calls[clips.shape]

    def _compiled(self, clips: Tensor) -> Callable[[Tensor], Tensor]:
        compiled: Callable[[Tensor], Tensor] = torch.compile(self._network, dynamic=False, mode=self._tuning)
        try:
            compiled(clips)
        except torch.cuda.OutOfMemoryError:
            raise
        except (RuntimeError, ImportError, OSError) as error:  # no C compiler, no Triton, an unknown card
            warnings.warn(
                f"the network runs in FP16 without torch.compile, which failed here: {_first_line(error)}",
                RuntimeWarning,
                stacklevel=2,
            )
            self._compiles = False
            return self._network
        return compiled

    def _take_less(self, clips: Tensor, error: torch.cuda.OutOfMemoryError) -> None:
        """Halve the number of clips that are computed at once."""
        at_once = self.most_clips or len(clips)
        self._calls.clear()
        torch.cuda.empty_cache()
        if at_once == 1:
            raise DeviceMemoryError(
                f"{self.device}: one clip of {tuple(clips.shape[1:])} does not fit into its memory "
                f"({_first_line(error)}); take a smaller network, or fewer actors on this device"
            ) from error
        self.most_clips = at_once // 2
        warnings.warn(
            f"{self.device}: {at_once} clips at once do not fit into its memory, going on with "
            f"{self.most_clips}; set infer.batch_clips to {self.most_clips} to save the attempt",
            RuntimeWarning,
            stacklevel=3,
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
