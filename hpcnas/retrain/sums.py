"""What one step of a retraining adds up, over pieces of its batch and over ranks, in one tensor, reduced at once.

    flat:  gradients of all parameters │ statistics of all batch normalisations │ figures
             (views: .grad)               (means and variances, each a mean over the pieces)

Batch statistics are those of all images of the step (`batch_statistics`), or of micro-batches of a fixed size,
whichever rank computes them, each normalised by its own ("ghost batches": Hoffer et al., *Train longer, generalize
better*, NeurIPS 2017, §4). A piece's mean loss counts by its share of the step's images. So a step computes the same
for any number of ranks, up to the order of additions. The running statistics are the moving average, over steps, of a
step's mean.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hpcnas.retrain.process_group import Group

MOMENTUM = 0.1  # share of a step in the running statistics, as PyTorch's batch normalisation has it


class Sums:
    """One step's sums for a module. Its parameters' `.grad` and its batch normalisations' buffers become views here,
    but for those that get no gradients."""

    def __init__(self, module: nn.Module, figures: int, device: torch.device) -> None:
        """`figures`: how many numbers are added up beside."""
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        normalisations = [part for part in module.modules() if isinstance(part, _BatchNorm) and _learns(part)]
        weights = sum(parameter.numel() for parameter in parameters)
        statistics = 2 * sum(part.num_features for part in normalisations)
        number = parameters[0].dtype
        self._flat = torch.zeros(weights + statistics + figures, device=device, dtype=number)
        gradients, self._statistics, self.figures = self._flat.split([weights, statistics, figures])
        for parameter, part in zip(parameters, gradients.split([each.numel() for each in parameters]), strict=True):
            parameter.grad = part.as_strided(parameter.shape, parameter.stride())  # channels-last where it is so
        self._latest = torch.zeros(statistics, device=device, dtype=number)  # of the last piece
        self.running = torch.zeros(statistics, device=device, dtype=number)  # what evaluation uses
        position = 0
        for part in normalisations:
            count = part.num_features
            part.momentum = 1.0  # buffers hold one piece's; averaging is done here
            for name, first in (("running_mean", 0.0), ("running_var", 1.0)):
                setattr(part, name, self._latest[position : position + count])
                self.running[position : position + count] = first
                position += count

    def begin(self) -> None:
        """Sets all sums to 0, for a step that begins."""
        self._flat.zero_()

    def add_batch_statistics(self, share: float) -> None:
        """Adds a share of the batch statistics of the piece that has just been run forward; those of a step, on all
        ranks, add up to 1."""
        self._statistics.add_(self._latest, alpha=share)

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
