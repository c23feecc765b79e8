"""A backbone rewritten for inference: norms folded into convolutions, and 3-D layers as 2-D ones of the same values.

A channels-last clip is, without a copy, a batch of images ``(B T, C, H, W)`` as well as one of series
``(B, C, T, H W)``, and libraries are faster at those than at volumes. All layers of SlowFast have a kernel that is 1 in
time or 1 in space, but the fast stem; :mod:`model.engines.stems` has both stems.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.backbones import Backbone
from model.engines.stems import BlockStem

_PAIRS = (
    ("conv", "norm"),
    ("conv_a", "norm_a"),
    ("conv_b", "norm_b"),
    ("conv_c", "norm_c"),
    ("branch1_conv", "branch1_norm"),
    ("conv_fast_to_slow", "norm"),
)
"""A convolution and the norm that follows it, as pytorchvideo's blocks name them."""


def folded(backbone: Backbone) -> Backbone:
    """A copy in evaluation mode in which each convolution carries the scale and shift of the norm behind it."""
    copied = copy.deepcopy(backbone).eval().requires_grad_(False)
    for module in copied.modules():
        for conv_name, norm_name in _PAIRS:
            conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
            if isinstance(conv, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return copied


def in_planes(backbone: Backbone) -> Backbone:
    """Replace, in place, each 3-D layer that a 2-D one can stand for."""
    for module in list(backbone.modules()):
        for name, child in list(module.named_children()):
            replaced = _in_planes(child)
            if replaced is not None:
                setattr(module, name, replaced)
    return backbone


def _in_planes(layer: nn.Module) -> nn.Module | None:
    if isinstance(layer, nn.MaxPool3d) and PlanePool.can_be(layer):
        return PlanePool(layer)
    if not isinstance(layer, nn.Conv3d):
        return None
    if BlockStem.can_be(layer):
        return BlockStem(layer)
    return PlaneConv(layer) if PlaneConv.can_be(layer) else None


class PlaneConv(nn.Module):
    """A 3-D convolution whose kernel is 1 in time or 1 in space, as a 2-D one or a matrix product."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        # pytorchvideo's are numpy's, which torch.compile does not understand.
        self._kernel, self._stride, self._padding, self._dilation = (
            tuple(int(size) for size in sizes)
            for sizes in (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        )

    @staticmethod
    def can_be(conv: nn.Conv3d) -> bool:
        """Whether its kernel and stride leave time, or space, alone."""
        in_time = conv.kernel_size[0] == conv.stride[0] == 1
        in_space = set(conv.kernel_size[1:]) == set(conv.stride[1:]) == {1}
        return conv.groups == 1 and not isinstance(conv.padding, str) and (in_time or in_space)

    def forward(self, clips: Tensor) -> Tensor:
        """As the ``nn.Conv3d`` that it was made from, for ``(B, C, T, H, W)`` in channels-last order."""
        if self._kernel == self._stride == (1, 1, 1):
            return self._as_product(clips)
        if self._kernel[0] == self._stride[0] == 1:
            return self._as_images(clips)
        return self._as_series(clips)

    def _as_product(self, clips: Tensor) -> Tensor:
        product = functional.linear(clips.permute(0, 2, 3, 4, 1), self.weight.flatten(1), self.bias)
        return product.permute(0, 4, 1, 2, 3)

    def _as_images(self, clips: Tensor) -> Tensor:
        images = clips.permute(0, 2, 1, 3, 4).flatten(0, 1)
        found = functional.conv2d(
            images, self.weight[:, :, 0], self.bias, self._stride[1:], self._padding[1:], self._dilation[1:]
        )
        return torch.unflatten(found, 0, (clips.shape[0], clips.shape[2])).permute(0, 2, 1, 3, 4)

    def _as_series(self, clips: Tensor) -> Tensor:
        in_time = (self._stride[0], 1), (self._padding[0], 0), (self._dilation[0], 1)
        found = functional.conv2d(clips.flatten(3), self.weight[:, :, :, 0], self.bias, *in_time)
        return torch.unflatten(found, 3, clips.shape[3:])


class PlanePool(nn.Module):
    """A 3-D maximum whose kernel is 1 in time, as a 2-D one: that of torch leaves the channels-last order."""

    def __init__(self, pool: nn.MaxPool3d) -> None:
        super().__init__()
        self._kernel, self._stride, self._padding = (sizes[1:] for sizes in _sizes(pool))

    @staticmethod
    def can_be(pool: nn.MaxPool3d) -> bool:
        """Whether it leaves time alone."""
        plain = pool.dilation == 1 and not pool.ceil_mode and not pool.return_indices
        return plain and [sizes[0] for sizes in _sizes(pool)] == [1, 1, 0]

    def forward(self, clips: Tensor) -> Tensor:
        """As the ``nn.MaxPool3d`` that it was made from, for ``(B, C, T, H, W)`` in channels-last order."""
        images = clips.permute(0, 2, 1, 3, 4).flatten(0, 1)
        found = functional.max_pool2d(images, self._kernel, self._stride, self._padding)
        return torch.unflatten(found, 0, (clips.shape[0], clips.shape[2])).permute(0, 2, 1, 3, 4)


def _sizes(pool: nn.MaxPool3d) -> list[tuple[int, ...]]:
    """Kernel, stride and padding, each for time, height and width."""
    given: tuple[Any, ...] = (pool.kernel_size, pool.stride, pool.padding)
    return [(size,) * 3 if isinstance(size, int) else tuple(int(one) for one in size) for size in given]
