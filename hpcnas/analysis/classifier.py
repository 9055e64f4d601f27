"""A retrained network that takes pixels, with the weights that it has learnt. Imports torch; writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from hpcnas.analysis.learnt import Learnt
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture import expansion
from hpcnas.errors import first_line
from hpcnas.retrain.record import Inputs, Record
from hpcnas.storage import sealed
from hpcnas.training import checkpoints
from hpcnas.training.network import Network


class Classifier(nn.Module):
    """Pixels float (N, C, H, W), as the data have them → class scores (N, classes) before the softmax."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(inputs.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(inputs.std).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels are normalised first: (pixel − mean) / std, channel by channel."""
        scores: Tensor = self.network((pixels - self.mean) / self.std)
        return scores


def load(retraining: Record, weights: Path) -> Classifier:
    """The network that a retraining has trained, in evaluation mode. Raises AnalysisError where its weights cannot be
    read."""
    network = Network(expansion.expand(retraining.genotype), retraining.inputs.skeleton)
    load_weights(network, weights)
    return Classifier(network, retraining.inputs).eval()


def of_weights(retraining: Record, weights: Mapping[str, Tensor]) -> Classifier:
    """Likewise with the weights of a state_dict of that network."""
    network = Network(expansion.expand(retraining.genotype), retraining.inputs.skeleton)
    network.load_state_dict(weights)
    return Classifier(network, retraining.inputs).eval()


def of_learnt(one: Learnt) -> Classifier:
    """Likewise with what a training has learnt by now. Raises AnalysisError where its weights cannot be read."""
    if one.unfinished is None:
        return load(one.found.stored, one.found.weights(one.training))
    return of_weights(one.found.stored, one.unfinished.weights)


def load_weights(network: Network, weights: Path) -> None:
    """Gives a network the weights of a file. Raises AnalysisError where that is not a state_dict of it."""
    try:
        network.load_state_dict(checkpoints.load_unsealed_too(weights))
    except sealed.Damaged as error:
        raise AnalysisError(f"{weights} is damaged: {error}") from error
    except (OSError, RuntimeError, TypeError, ValueError, EOFError) as error:
        raise AnalysisError(f"{weights}: expected a state_dict of this network: {first_line(error)}") from error
    except Exception as error:  # what unpickling makes of bytes that are no such file
        raise AnalysisError(f"{weights}: expected a file of torch.save: {first_line(error)}") from error
