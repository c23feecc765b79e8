"""The stems of a SlowFast network for tensor cores, which want channels in eights and the stems have three.

Two by two pixels become the channels of one: the 7x7 kernel with stride 2 is a 4x4 kernel with stride 1 over blocks of
12 channels, filled up to 16. And the five frames of the fast stem's kernel become its outputs: each frame is
convolved once, to five times the outputs, of which those that belong together are then added.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCK = 2
"""Pixels of a block in either direction: the stride."""
CHANNELS = 16
"""Channels of a block, zeros included."""
_BEFORE, _AFTER = 2, 1
"""Blocks of zeros around the frame."""


class BlockStem(nn.Module):
    """A 3-D convolution of few channels with a spatial kernel of 7 and stride 2, as a 2-D one over blocks."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        outputs, _, self._taps, *_ = conv.weight.shape
        self.weight = nn.Parameter(block_weight(conv.weight), requires_grad=False)
        bias = torch.zeros(self._taps, outputs) if conv.bias is None else _once(conv.bias, self._taps)
        self.bias = nn.Parameter(bias.flatten(), requires_grad=False)

    @staticmethod
    def can_be(conv: nn.Conv3d) -> bool:
        """Whether it is such a convolution, with a padding that keeps the number of frames."""
        taps = conv.kernel_size[0]
        return (
            conv.kernel_size[1:] == (7, 7)
            and tuple(conv.stride) == (1, BLOCK, BLOCK)
            and tuple(conv.padding) == (taps // 2, 3, 3)
            and taps % 2 == 1
            and set(conv.dilation) == {1}
            and conv.groups == 1
            and conv.in_channels * BLOCK**2 <= CHANNELS
        )

    def forward(self, clips: Tensor) -> Tensor:
        """As the ``nn.Conv3d`` that it was made from, for ``(B, C, T, H, W)`` of even height and width."""
        found = functional.conv2d(blocks_of(clips), self.weight, self.bias)
        by_tap = torch.unflatten(found.permute(0, 2, 3, 1), 3, (self._taps, -1))
        by_tap = torch.unflatten(by_tap, 0, (clips.shape[0], clips.shape[2]))
        summed = _sum_over_time(by_tap, self._taps)
        return summed.permute(0, 4, 1, 2, 3)


def blocks_of(clips: Tensor) -> Tensor:
    """Blocks of all frames with zeros around them, ``(B T, 16, H / 2 + 3, W / 2 + 3)`` in channels-last order.

    The channels of a block are those of its upper left, upper right, lower left and lower right pixel, and zeros.
    """
    batch, channels, frames, height, width = clips.shape
    pixels = clips.permute(0, 2, 3, 4, 1).reshape(
        batch * frames, height // BLOCK, BLOCK, width // BLOCK, BLOCK, channels
    )
    blocks = pixels.permute(0, 1, 3, 2, 4, 5).flatten(3)
    around = (0, CHANNELS - blocks.shape[3], _BEFORE, _AFTER, _BEFORE, _AFTER)
    return functional.pad(blocks, around).permute(0, 3, 1, 2)


def block_weight(weight: Tensor) -> Tensor:
    """Weight ``(K O, 16, 4, 4)`` over blocks of one ``(O, C, K, 7, 7)`` over pixels: an output for each frame of it."""
    outputs, channels, taps, *_ = weight.shape
    # The first row and column of the 8x8 kernel are zeros: 2 o + k - 3 is pixel k + 1 of the blocks from o - 2 on.
    even = functional.pad(weight.detach(), (1, 0, 1, 0)).reshape(outputs, channels, taps, 4, BLOCK, 4, BLOCK)
    by_block = even.permute(2, 0, 4, 6, 1, 3, 5).flatten(2, 4).flatten(0, 1)
    filled = functional.pad(by_block, (0, 0, 0, 0, 0, CHANNELS - channels * BLOCK**2))
    assert filled.shape == (taps * outputs, CHANNELS, 4, 4)
    return filled.contiguous(memory_format=torch.channels_last)


def _once(bias: Tensor, taps: int) -> Tensor:
    """The bias at the middle frame of the kernel, zeros at the others."""
    spread = torch.zeros(taps, len(bias), dtype=bias.dtype)
    spread[taps // 2] = bias.detach()
    return spread


def _sum_over_time(by_tap: Tensor, taps: int) -> Tensor:
    """Frame t of the result ``(B, T, H, W, O)`` is the sum of tap k of frame ``t + k - K // 2``, over k."""
    middle = taps // 2
    summed = by_tap[..., middle, :]
    if taps == 1:
        return summed
    summed = summed.clone(memory_format=torch.contiguous_format)
    for tap in range(taps):
        ahead = tap - middle
        if ahead > 0:
            summed[:, :-ahead] += by_tap[:, ahead:, ..., tap, :]
        elif ahead < 0:
            summed[:, -ahead:] += by_tap[:, :ahead, ..., tap, :]
    return summed
