"""What a device could do at best: its two ceilings, and the floor that they set under a backbone's time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.backbones import Architecture
from tests.benchmarks.timing import median_s

FP16_BYTES = 2


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Measured on the device."""

    flops_per_s: float
    """Of a large product of FP16 matrices."""
    bytes_per_s: float
    """Read plus written by a large copy within the device's memory."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What one convolution or matrix product must do for one clip."""

    flops: int
    activation_bytes: int
    """Its input read and its output written once, in FP16."""
    weight_bytes: int
    """Read once for a whole batch."""


def measure_ceilings(device: torch.device, side: int = 8192, copied: int = 1 << 30) -> Ceilings:
    """Measure on random data, which is slower than zeros; ``copied`` is in bytes."""
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    first, second = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product_s = median_s(lambda: first @ second, device)
    source = torch.randint(0, 256, (copied,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copy_s = median_s(lambda: target.copy_(source), device)
    return Ceilings(2 * side**3 / product_s, 2 * copied / copy_s)


def layers_of(architecture: Architecture, size: tuple[int, int]) -> list[Layer]:
    """Every convolution and matrix product of the backbone for a clip of this height and width, in order."""
    layers: list[Layer] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        # Each output value is a sum over one filter, an addition and a multiplication for each weight.
        flops = 2 * output.numel() * weight[0].numel()
        moved = FP16_BYTES * (inputs[0].numel() + output.numel())
        layers.append(Layer(flops, moved, FP16_BYTES * weight.numel()))

    with torch.device("meta"), torch.inference_mode():
        backbone = architecture.build().eval()
        for module in backbone.modules():
            if isinstance(module, (nn.Conv3d, nn.Linear)):
                module.register_forward_hook(note)
        backbone(
            torch.zeros(1, 3, architecture.slow_frames, *size),
            torch.zeros(1, 3, architecture.clip_frames, *size),
        )
    return layers


def floor_s(layers: list[Layer], clips: int, ceilings: Ceilings) -> float:
    """Seconds that a batch takes at least: each layer by arithmetic or by memory, whichever is slower there.

    Norms, activations, sums and the temporal means are taken to cost nothing, as if fused into their neighbours.
    """
    return sum(
        max(
            layer.flops * clips / ceilings.flops_per_s,
            (layer.activation_bytes * clips + layer.weight_bytes) / ceilings.bytes_per_s,
        )
        for layer in layers
    )
