"""Batch norm of a distributed training: statistics of all processes' clips together, or none that change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from model.reduction import Reduction

_DIMS = (0, 2, 3, 4)


class FrozenBatchNorm3d(nn.BatchNorm3d):
    """Normalises with its running statistics in training too, and leaves them alone; scale and shift learn."""

    def train(self, mode: bool = True) -> FrozenBatchNorm3d:
        """Stay in evaluation mode."""
        del mode
        super().train(False)
        return self


class SynchronisedBatchNorm3d(nn.BatchNorm3d):
    """Normalises with the statistics of all processes' samples, on any device, ``SyncBatchNorm``'s being CUDA only.

    Processes may hold different numbers of samples, but each takes part in every forward and backward pass.
    """

    reduction: Reduction

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(B, C, T, H, W)``."""
        if not self.training:
            return super().forward(input)
        normalised: Tensor
        normalised, mean, variance, count = _Normalise.apply(
            input, self.weight, self.bias, self.eps, self.reduction
        )
        if self.running_mean is not None and self.running_var is not None and self.momentum is not None:
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return normalised


class _Normalise(torch.autograd.Function):
    """Batch norm over the samples of all processes; its backward pass needs two more sums over them."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, reduction: Reduction
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x32 = x.float()
        local = x32.new_tensor([x.numel() / x.shape[1]])
        sums = reduction.sum_(torch.cat([x32.sum(_DIMS), local]))
        count = sums[-1]
        mean = sums[:-1] / count
        centred = x32 - _wide(mean)
        variance = reduction.sum_(centred.square().sum(_DIMS)) / count
        inverse_std = (variance + eps).rsqrt()
        standard = centred.mul_(_wide(inverse_std))
        ctx.save_for_backward(standard, weight, inverse_std, count)
        ctx.reduction = reduction
        ctx.mark_non_differentiable(mean, variance, count)
        scaled = torch.addcmul(_wide(bias), standard, _wide(weight))
        return scaled.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        standard, weight, inverse_std, count = ctx.saved_tensors
        gradient = gradients[0].float()
        d_bias = gradient.sum(_DIMS)
        d_weight = (gradient * standard).sum(_DIMS)
        mean_bias, mean_weight = ctx.reduction.sum_(torch.stack([d_bias, d_weight])) / count
        d_x = gradient - _wide(mean_bias) - standard * _wide(mean_weight)
        d_x = d_x.mul_(_wide(weight * inverse_std)).to(gradients[0].dtype)
        return d_x, d_weight, d_bias, None, None


def _wide(channels: Tensor) -> Tensor:
    return channels[:, None, None, None]


def freeze_batch_norm(network: nn.Module) -> None:
    """Keep the running statistics of every 3-D batch norm as they are, through training too."""
    _replace(network, FrozenBatchNorm3d)


def synchronise_batch_norm(network: nn.Module, reduction: Reduction) -> None:
    """Let every 3-D batch norm that is not frozen see the samples of all processes; names in the state stay."""

    def make(features: int) -> SynchronisedBatchNorm3d:
        made = SynchronisedBatchNorm3d(features)
        made.reduction = reduction
        return made

    _replace(network, make)


def _replace(network: nn.Module, make: Callable[[int], nn.BatchNorm3d]) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm3d) and not isinstance(child, FrozenBatchNorm3d):
                made = make(child.num_features)
                made.eps, made.momentum = child.eps, child.momentum
                made.weight, made.bias = child.weight, child.bias
                made.running_mean, made.running_var = child.running_mean, child.running_var
                made.num_batches_tracked = child.num_batches_tracked
                setattr(parent, name, made.train(child.training))
