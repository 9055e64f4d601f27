"""What one step of a retraining adds up, over micro-batches and over ranks, in one tensor that is reduced at once.

    flat:  gradients of all parameters │ statistics of all batch normalisations │ figures
             (views: .grad)               (means and variances, each a mean over the micro-batches)

A step's batch is cut into micro-batches of a fixed size, whichever rank computes them. Each is normalised by statistics
of its own ("ghost batches": Hoffer et al., *Train longer, generalize better*, NeurIPS 2017, §4), and its mean gradient
and its statistics count one share of all micro-batches. So a step computes the same for any number of ranks, up to the
order of additions. The running statistics are the moving average, over steps, of the mean over a step's micro-batches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hpcnas.retrain.process_group import Group

MOMENTUM = 0.1  # share of a step in the running statistics, as PyTorch's batch normalisation has it


class Sums:
    """One step's sums for a module. Its parameters' `.grad` and its batch normalisations' buffers become views here,
    but for those that get no gradients."""

    def __init__(self, module: nn.Module, micro_batches: int, figures: int, device: torch.device) -> None:
        """`micro_batches` of a step, over all ranks; `figures`: how many numbers are added up beside."""
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        normalisations = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d) and _learns(part)]
        weights = sum(parameter.numel() for parameter in parameters)
        statistics = 2 * sum(part.num_features for part in normalisations)
        self._micro_batches = micro_batches
        number = parameters[0].dtype
        self._flat = torch.zeros(weights + statistics + figures, device=device, dtype=number)
        gradients, self._statistics, self.figures = self._flat.split([weights, statistics, figures])
        for parameter, part in zip(parameters, gradients.split([each.numel() for each in parameters]), strict=True):
            parameter.grad = part.as_strided(parameter.shape, parameter.stride())  # channels-last where it is so
        self._latest = torch.zeros(statistics, device=device, dtype=number)  # of the last micro-batch
        self.running = torch.zeros(statistics, device=device, dtype=number)  # what evaluation uses
        position = 0
        for part in normalisations:
            count = part.num_features
            part.momentum = 1.0  # buffers hold one micro-batch; averaging is done here
            for name, first in (("running_mean", 0.0), ("running_var", 1.0)):
                setattr(part, name, self._latest[position : position + count])
                self.running[position : position + count] = first
                position += count

    def begin(self) -> None:
        """Sets all sums to 0, for a step that begins."""
        self._flat.zero_()

    def loss(self, mean: Tensor) -> Tensor:
        """The scalar to differentiate for a micro-batch of that mean loss (a scalar), so that the gradients of all
        micro-batches add up to the step's."""
        return mean / self._micro_batches

    def add_batch_statistics(self) -> None:
        """Adds the batch statistics of the micro-batch that has just been run forward."""
        self._statistics.add_(self._latest, alpha=1 / self._micro_batches)

    def add_up(self, group: Group) -> None:
        """Adds all sums over all ranks, in place, and moves the running statistics on. Raises PeerLost."""
        group.add_up(self._flat)
        self.running.lerp_(self._statistics, MOMENTUM)

    def begin_with_loaded(self) -> None:
        """Takes the running statistics that the module was given for `running`, after `use_in_evaluation`."""
        self.running.copy_(self._latest)

    def use_in_evaluation(self, statistics: Tensor) -> None:
        """Makes the module's evaluation use these statistics, shaped like `running`, until the next training step."""
        self._latest.copy_(statistics)


def _learns(part: nn.Module) -> bool:
    return all(parameter.requires_grad for parameter in part.parameters())


def synchronised(module: nn.Module, group: Group) -> nn.Module:
    """The module with batch normalisations that are over the micro-batches of all ranks together."""
    return module if group.size == 1 else _replaced(module, group)


def _replaced(module: nn.Module, group: Group) -> nn.Module:
    for name, part in module.named_children():
        if isinstance(part, nn.BatchNorm2d):
            setattr(module, name, AcrossRanks(part, group))
        else:
            _replaced(part, group)
    return module


class AcrossRanks(nn.BatchNorm2d):
    """Batch normalisation over the images of all ranks, equally many on each: two sums over ranks forwards and two
    backwards."""

    def __init__(self, plain: nn.BatchNorm2d, group: Group) -> None:
        super().__init__(plain.num_features, eps=plain.eps)
        self.load_state_dict(plain.state_dict())
        self._group = group

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            values = input.to(self.weight.dtype)
            mean = _Mean.apply(values.mean(dim=(0, 2, 3)), self._group)
            centred = values - mean[:, None, None]
            variance = _Mean.apply(centred.square().mean(dim=(0, 2, 3)), self._group)
            count = values.numel() // values.shape[1] * self._group.size
            with torch.no_grad():
                self.running_mean.copy_(mean)  # type: ignore[union-attr]
                self.running_var.copy_(variance * (count / max(1, count - 1)))  # type: ignore[union-attr]
            factor = self.weight * torch.rsqrt(variance + self.eps)
            return torch.addcmul(self.bias[:, None, None], centred, factor[:, None, None]).to(input.dtype)


class _Mean(torch.autograd.Function):
    """The mean over ranks, differentiable: what flows back is the mean over ranks too."""

    @staticmethod
    def forward(context: object, values: Tensor, group: Group) -> Tensor:
        context.group = group  # type: ignore[attr-defined]
        return _mean(values, group)

    @staticmethod
    def backward(context: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return _mean(gradients[0], context.group), None  # type: ignore[attr-defined]


def _mean(values: Tensor, group: Group) -> Tensor:
    summed = values.contiguous().clone()
    group.add_up(summed)
    return summed / group.size
