"""Batch normalisation over the images of all ranks together, however many each of them has.

Each rank's mean and variance of every channel go to all others in one sum, in which each rank has a place of its own,
and are joined as Chan, Golub & LeVeque, *Updating Formulae and a Pairwise Algorithm for Computing Sample Variances*
(1979), have it: no small difference of large sums. One more sum brings back what all images add to the gradient. On
GPUs torch's own `SyncBatchNorm` does the same by kernels made for it. A rank that is alone needs neither.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from hpcnas.retrain.process_group import Group

_OVER = (0, 2, 3)  # what a channel's statistics are over: images, rows, columns


def synchronised(module: nn.Module, group: Group, images: Sequence[int], device: torch.device) -> nn.Module:
    """The module with batch normalisations over the images of all ranks, of which each has as many as `images` says."""
    if group.size == 1:
        return module
    if device.type == "cuda":
        return _replaced(module, AcrossGpus)
    shares = torch.tensor(images, dtype=torch.float64) / sum(images)
    return _replaced(module, lambda part: AcrossRanks(part, group, shares))


@contextlib.contextmanager
def apart(module: nn.Module) -> Iterator[None]:
    """Within it, batch normalisations that `synchronised` has made are over this rank's images alone: ranks tell each
    other nothing."""
    found = [part for part in module.modules() if isinstance(part, AcrossRanks | AcrossGpus)]
    for part in found:
        part.apart = True
    try:
        yield
    finally:
        for part in found:
            part.apart = False


def _replaced(module: nn.Module, instead: Callable[[nn.BatchNorm2d], nn.Module]) -> nn.Module:
    for name, part in module.named_children():
        if isinstance(part, nn.BatchNorm2d):
            setattr(module, name, instead(part))
        else:
            _replaced(part, instead)
    return module


class AcrossGpus(nn.SyncBatchNorm):
    """Batch normalisation over all ranks, by torch's kernels."""

    def __init__(self, plain: nn.BatchNorm2d) -> None:
        super().__init__(plain.num_features, eps=plain.eps, affine=plain.affine)
        self.load_state_dict(plain.state_dict())
        self.apart = False  # whether it is over this rank's images alone

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # so that what is compiled is the same in a rehearsal
    def forward(self, input: Tensor) -> Tensor:
        found: Tensor = _BatchNorm.forward(self, input) if self.apart else super().forward(input)
        return found


class AcrossRanks(nn.BatchNorm2d):
    """Batch normalisation over all ranks. Its buffers hold the statistics of the last batch alone: `Sums` averages."""

    def __init__(self, plain: nn.BatchNorm2d, group: Group, shares: Tensor) -> None:
        """`shares` of the images that ranks have, float64 (ranks,), add up to 1."""
        super().__init__(plain.num_features, eps=plain.eps, affine=plain.affine)
        self.load_state_dict(plain.state_dict())
        self.group, self.shares = group, shares
        self.share = float(shares[group.rank])  # of this rank
        self.apart = False  # whether it is over this rank's images alone

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # what ranks tell each other is no part of a graph
    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.apart:
            return super().forward(input)
        means = self.running_mean
        assert means is not None, "they are tracked"
        parts = (self.weight, self.bias) if self.affine else (torch.ones_like(means), torch.zeros_like(means))
        output, mean, variance = _Normalised.apply(input, *parts, self)
        count = input.numel() / input.shape[1] / self.share
        with torch.no_grad():
            means.copy_(mean)
            self.running_var.copy_(variance * (count / max(1, count - 1)))  # type: ignore[union-attr]
        return output


def over_ranks(own: Tensor, normalisation: AcrossRanks) -> Tensor:
    """Means and variances (2, C) over the images of all ranks, of those of this rank's."""
    group, shares = normalisation.group, normalisation.shares.to(own.dtype)[:, None]
    each = own.new_zeros(group.size, *own.shape)
    each[group.rank] = own
    group.add_up(each)
    mean = (shares * each[:, 0]).sum(dim=0)  # a matrix product would be of bfloat16 under autocast
    return torch.stack([mean, (shares * (each[:, 1] + (each[:, 0] - mean).square())).sum(dim=0)])


class _Normalised(torch.autograd.Function):
    """Feature maps (B, C, H, W), normalised over those of all ranks, with the mean and the variance (C,) of all."""

    @staticmethod
    def forward(
        context: Any, maps: Tensor, weight: Tensor, bias: Tensor, of: AcrossRanks
    ) -> tuple[Tensor, Tensor, Tensor]:
        variance, mean = torch.var_mean(maps.to(weight.dtype), dim=_OVER, correction=0)
        mean, variance = over_ranks(torch.stack([mean, variance]), of)
        output = functional.batch_norm(maps, mean, variance, weight, bias, eps=of.eps)
        context.save_for_backward(maps, weight, mean, torch.rsqrt(variance + of.eps))
        context.group, context.share = of.group, of.share
        context.mark_non_differentiable(mean, variance)
        return output, mean, variance

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, mean, factor = context.saved_tensors
        gradient, centred = gradients[0].to(weight.dtype), maps.to(weight.dtype) - mean[:, None, None]
        own = torch.stack([gradient.sum(dim=_OVER), (gradient * centred).sum(dim=_OVER)])
        of_all = own.clone()
        context.group.add_up(of_all)
        of_all *= context.share * maps.shape[1] / maps.numel()  # the means over the images of all ranks
        slope = of_all[1] * factor.square()
        result = torch.addcmul(gradient - of_all[0][:, None, None], centred, slope[:, None, None], value=-1)
        result *= (weight * factor)[:, None, None]
        return result.to(maps.dtype), own[1] * factor, own[0], None
