"""Trained weights as a network takes them: read from a file, compared with the network, put into it; and a part of a
network that keeps what it has, for transfer to other data.

Nothing in a file is executed. A classifier of another number of classes stays as it is drawn; all else has to fit by
name and shape. Which operations without weights a file's network had (pooling, identity), its tensors do not tell.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.errors import Error, first_line
from hpcnas.storage import sealed
from hpcnas.training import checkpoints
from hpcnas.training.network import Network

_CLASSIFIER = ("classifier.weight", "classifier.bias")
_COUNTER = "num_batches_tracked"  # of steps, at the end of names: tells nothing that a training goes by


class UnusableWeights(Error):
    """Weights that a network cannot start from: one sentence."""


def read(file: Path, graph: CellGraph, skeleton: Skeleton) -> dict[str, Tensor]:
    """What a network of that graph and skeleton can take of a file: a state_dict on the CPU, without the classifier
    where that has another number of classes. Raises UnusableWeights."""
    try:
        found = checkpoints.load_unsealed_too(file)
    except sealed.Damaged as error:
        raise UnusableWeights(f"{file} is damaged: {error}") from None
    except Exception as error:  # a file of something else can raise anything
        reason = first_line(error)
        raise UnusableWeights(f"{file}: expected weights that torch.save has written: {reason:.200}") from None
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
    ):
        raise UnusableWeights(f"{file}: expected a state_dict, as `hpcnas export weights` writes it, got another thing")
    with torch.device("meta"):
        expected = Network(graph, skeleton).state_dict()
    given = {name: value for name, value in found.items() if not name.endswith(_COUNTER)}
    wanted = {name: value.shape for name, value in expected.items() if not name.endswith(_COUNTER)}
    if problem := _difference(wanted, given):
        raise UnusableWeights(f"{file}: {problem}")
    if given[_CLASSIFIER[1]].shape != wanted[_CLASSIFIER[1]]:
        for name in _CLASSIFIER:
            del given[name]
    return given


def _difference(wanted: dict[str, torch.Size], given: dict[str, Tensor]) -> str | None:
    """Why these are not the weights of a network of those names and shapes, but for its number of classes."""
    missing, others = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    if missing or others:
        told = [
            f"{what} are {len(names)}, such as {min(names):.100}; "
            for what, names in (("missing", missing), ("beside them", others))
            if names
        ]
        return (
            f"expected the {len(wanted)} tensors of this cell in this network; {''.join(told)}that is another cell, or "
            "other --cells or --stem"
        )
    for name, shape in wanted.items():
        tensor, free = given[name], name in _CLASSIFIER  # any number of classes
        if tuple(tensor.shape)[free:] != tuple(shape)[free:] or tensor.ndim != len(shape):
            return (
                f"expected {name} of shape {tuple(shape)}, got {tuple(tensor.shape)}; that is another cell, other "
                "--channels, or of images with other channels"
            )
        numbers = tensor.is_floating_point() and tensor.layout is torch.strided
        if not numbers or not bool(torch.isfinite(tensor).all()):
            return f"expected finite numbers in {name}, got others"
    weight, bias = (given[name] for name in _CLASSIFIER)
    if len(weight) != len(bias):
        return f"expected a classifier of as many weights as biases, got {len(weight)} and {len(bias)}"
    return None


def freeze(module: nn.Module) -> list[Tensor]:
    """Takes a module out of training, until somebody puts it back into training mode: its parameters get no gradients,
    and its batch normalisations go by the statistics that they have. What it keeps: parameters and statistics."""
    module.requires_grad_(False).eval()
    buffers = [value for name, value in module.named_buffers() if not name.endswith(_COUNTER)]
    return [*module.parameters(), *buffers]


def classes_differ(weights: dict[str, Tensor]) -> bool:
    """Whether `read` has left out the classifier."""
    return _CLASSIFIER[0] not in weights


def put_into(network: Network, weights: dict[str, Tensor]) -> None:
    """Gives a network what `read` has read for it, converted to its own type and device."""
    network.load_state_dict(weights, strict=False)
