"""The fast pathway's first convolution, which has few channels and a kernel of five frames: unusual enough to be slow.

On a CPU, and in a training on CUDA, it is a 2-D convolution of frames. On an H200 two kernels that were taken for the
3-D one had four tenths of the GPU's time in a step (``docs/benchmarks``); there each frame is one image, with its
neighbours as further channels. A CPU computes sixteen channels in the time of two, so several frames are one image:
``make bench`` has the ratio. For inference on CUDA and in TensorRT there is :mod:`model.engines.stems`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS_AT_ONCE = 16
"""Channels of an output that a CPU computes in about the time of one."""


class StemConv3d(nn.Conv3d):
    """A convolution without bias, dilation and groups that steps by one in time; as ``nn.Conv3d`` but for speed."""

    @classmethod
    def like(cls, conv: nn.Conv3d) -> StemConv3d:
        """The same convolution with the same parameters.

        Raises:
            ValueError: it has a bias, dilation, groups or a stride in time.
        """
        plain = conv.bias is None and conv.groups == 1 and set(conv.dilation) == {1}
        if not plain or conv.stride[0] != 1 or not isinstance(conv.padding, tuple):
            raise ValueError(f"no stem without bias, dilation, groups and stride in time: {conv}")
        size, stride, padding = conv.kernel_size, conv.stride, conv.padding
        stem = cls(conv.in_channels, conv.out_channels, size, stride, padding, bias=False)  # type: ignore[arg-type]
        stem.weight = conv.weight
        return stem

    def forward(self, input: Tensor) -> Tensor:
        """As ``nn.Conv3d``."""
        on_cpu = input.device.type == "cpu"
        learns = torch.is_grad_enabled() and self.weight.requires_grad
        if self.bias is not None or not (
            on_cpu or learns
        ):  # a bias comes with a norm that was folded in, for an engine
            return super().forward(input)
        together = max(1, CHANNELS_AT_ONCE // self.out_channels) if on_cpu else 1
        return convolve_frames(input, self.weight, self.stride, self.padding, together)  # type: ignore[arg-type]


def convolve_frames(
    input: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...], together: int = 1
) -> Tensor:
    """The convolution of ``(B, C, T, H, W)``, with a stride of 1 in time, as a 2-D one of frames.

    So many output frames as ``together`` says are the channels of one image, all frames that they see those of the
    image that it is made of.
    """
    if torch.is_autocast_enabled(input.device.type):
        input = input.to(torch.get_autocast_dtype(input.device.type))  # before it is copied
    outputs, _, taps, *_ = weight.shape
    frames = input.shape[2] + 2 * padding[0] - taps + 1
    images = _frames_together(input, frames, taps, padding[0], together)
    kernel = _kernel_of_each(weight, together)
    found = [functional.conv2d(part, kernel, None, stride[1:], padding[1:]) for part in _parts(images)]
    by_frame = torch.cat(found).reshape(-1, len(input), together, outputs, *found[0].shape[2:])
    return by_frame.permute(1, 3, 0, 2, 4, 5).flatten(2, 3)[:, :, :frames]


def _frames_together(input: Tensor, frames: int, taps: int, lead: int, together: int) -> Tensor:
    """Images of all frames that ``together`` outputs see, the first ones of each clip before the next ones."""
    lacking = -frames % together
    padded = functional.pad(input.transpose(1, 2), (0, 0) * 3 + (lead, lead + lacking))
    firsts = range(0, frames, together)
    images = torch.cat([padded[:, first : first + together + taps - 1].flatten(1, 2) for first in firsts])
    return images.contiguous(memory_format=torch.channels_last)


def _kernel_of_each(weight: Tensor, together: int) -> Tensor:
    """The weight once for each output frame, at that frame's own place among zeros."""
    by_tap = weight.transpose(1, 2)
    shifted = [
        functional.pad(by_tap, (0, 0) * 3 + (place, together - 1 - place)) for place in range(together)
    ]
    return torch.cat(shifted).flatten(1, 2)


def _parts(images: Tensor) -> list[Tensor]:
    """What is convolved in one call: all, but on a CPU in single precision each image by itself.

    Summed over all of them in one call, the weight's gradient loses another digit: 2e-5 against 2e-6 of it.
    """
    alone = images.device.type == "cpu" and images.dtype != torch.bfloat16
    return [images[n : n + 1] for n in range(len(images))] if alone else [images]
