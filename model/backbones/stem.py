"""The fast pathway's first convolution, which has few channels and a kernel of five frames: unusual enough to be slow.

On a CPU PyTorch's own gradient of its weight makes a float32 training step of ``slowfast_small`` some 1.7 times as long
(``make bench`` measures it). On an H200 two kernels that were taken for its own had four tenths of the GPU's time in a
step (``docs/benchmarks``). So in a training the taps of the kernel's time axis are channels of a 2-D convolution of
each frame: on a CPU for that gradient, on CUDA for all of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight, conv3d_input


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
        if not (torch.is_grad_enabled() and self.weight.requires_grad):
            return super().forward(input)
        if input.device.type != "cpu":
            return convolve_by_frame(input, self.weight, self.stride, self.padding)  # type: ignore[arg-type]
        if torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        output: Tensor = _StemConvolution.apply(input, self.weight, self.stride, self.padding)
        return output


class _StemConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv3d(input, weight, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        (gradient,) = gradients
        input, weight = ctx.saved_tensors
        of_input = None
        if ctx.needs_input_grad[0]:
            of_input = conv3d_input(  # type: ignore[no-untyped-call]
                input.shape, weight, gradient, ctx.stride, ctx.padding
            )
        return (
            of_input,
            stem_weight_gradient(input, weight.shape, gradient, ctx.stride, ctx.padding),
            None,
            None,
        )


def convolve_by_frame(
    input: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """The convolution of ``(B, C, T, H, W)`` as a 2-D one of each frame, its neighbours being further channels."""
    outputs, channels, taps, *kernel = weight.shape
    if torch.is_autocast_enabled(input.device.type):
        input = input.to(torch.get_autocast_dtype(input.device.type))  # before it is copied for each tap
    padded = functional.pad(input.transpose(1, 2), (0, 0) * 3 + (padding[0], padding[0]))
    frames = padded.shape[1] - taps + 1
    by_tap = torch.cat([padded[:, k : k + frames] for k in range(taps)], dim=2).flatten(0, 1)
    flat = weight.transpose(1, 2).reshape(outputs, taps * channels, *kernel)
    found = functional.conv2d(
        by_tap.contiguous(memory_format=torch.channels_last), flat, None, stride[1:], padding[1:]
    )
    return torch.unflatten(found, 0, (len(input), frames)).transpose(1, 2)


def stem_weight_gradient(
    input: Tensor,
    weight_shape: torch.Size,
    gradient: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> Tensor:
    """Gradient of a convolution's weight, from its input ``(B, C, T, H, W)`` and its output's gradient.

    The stride in time is 1. Tap ``k`` of K sees frame ``t + k - padding`` where the output is frame t; so for each
    frame of the input the taps' outputs lie on K frames, which become channels of a 2-D convolution.
    """
    batch, channels, frames, height, width = input.shape
    outputs, _, taps, *kernel = weight_shape
    lead = taps - 1 - padding[0]
    padded = functional.pad(gradient.transpose(1, 2), (0, 0) * 3 + (lead, lead))
    by_tap = torch.stack([padded[:, taps - 1 - k : taps - 1 - k + frames] for k in range(taps)], dim=2)
    frame_by_frame = zip(
        input.transpose(1, 2).reshape(batch * frames, 1, channels, height, width),
        by_tap.reshape(batch * frames, 1, taps * outputs, *gradient.shape[3:]),
        strict=True,
    )
    # Summed over all frames in one call, single precision loses another digit: 2e-5 against 2e-6 of the gradient.
    shape = torch.Size((taps * outputs, channels, *kernel))
    of_frames = torch.stack(
        [
            conv2d_weight(frame, shape, own, stride[1:], padding[1:])  # type: ignore[no-untyped-call]
            for frame, own in frame_by_frame
        ]
    ).sum(dim=0)
    return of_frames.reshape(taps, outputs, channels, *kernel).permute(1, 2, 0, 3, 4)
