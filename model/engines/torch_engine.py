"""The backbone in torch itself: runs everywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from model.backbones import Backbone
from model.engines.base import Engine
from model.engines.cuda_engine import CudaEngine
from model.pathways import to_pathways


def torch_engine(backbone: Backbone, device: str) -> Engine:
    """The engine of torch for a device: in half precision on CUDA, else :class:`TorchEngine`."""
    return (
        CudaEngine(backbone, device) if torch.device(device).type == "cuda" else TorchEngine(backbone, device)
    )


class TorchEngine:
    """A backbone in evaluation mode, channels last, with bf16 autocast where the device computes in bf16."""

    def __init__(self, backbone: Backbone, device: str) -> None:
        self.device = torch.device(device)
        self._backbone = backbone.to(self.device).to(memory_format=torch.channels_last_3d).eval()
        self._bf16 = computes_bf16(device)

    @torch.inference_mode()
    def pooled_maps(self, clips: Tensor) -> Tensor:
        """As :meth:`model.engines.base.Engine.pooled_maps`."""
        slow, fast = to_pathways(clips.to(self.device))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            maps: Tensor = self._backbone(slow, fast)
        return maps.float()


def computes_bf16(device: str) -> bool:
    """Whether the device multiplies in bf16; elsewhere bf16 is emulated, slower than float32."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # oneDNN runs bf16 on any AVX-512, but only these instructions make it faster than float32.
    return bool(torch.cpu._is_avx512_bf16_supported())


def trains_in_bf16(device: str) -> bool:
    """Whether gradients are computed in bf16 there.

    Not on processors with AMX: the convolutions' backward pass in oneDNN of torch 2.15 ends the process there
    (a segmentation fault, measured on ``slowfast_small``), and plain AVX-512 bf16 was no faster than float32.
    """
    return computes_bf16(device) and not (
        torch.device(device).type == "cpu" and torch.cpu._is_amx_tile_supported()
    )
