"""Networks whose concatenations are not made: against the plain one, in float64, and where a training uses them."""

from __future__ import annotations

import pytest
import torch
from rank_threads import on_ranks
from small_retraining import assert_close, made, recipe, trained
from test_expansion import build
from test_sizes import TINY_SKELETONS, random_graphs
from torch import Tensor, nn

from hpcnas.architecture.expansion import CellGraph, expand
from hpcnas.architecture.genotype import named
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.architecture.space import FLAT, HIERARCHICAL
from hpcnas.retrain import loop, parts
from hpcnas.retrain.draws import ImageDraws
from hpcnas.retrain.parts import leave_apart
from hpcnas.retrain.recomputing import recompute
from hpcnas.training.network import Network

EVERY_PRIMITIVE = expand(  # of a node that has two inputs, and of one that has four
    build(
        "1x5",
        ["1-2 1x1, 1-3 id, 2-3 sep, 1-4 id, 2-4 max, 3-4 avg, 1-5 1x1, 2-5 sep, 3-5 dw, 4-5 id"],
    )
)


def pair(graph: CellGraph, skeleton: Skeleton) -> tuple[Network, Network, Tensor]:
    """The plain network, the other one, with the same weights, and images for them."""
    torch.manual_seed(0)
    plain, apart = (Network(graph, skeleton).double() for _ in range(2))
    apart.load_state_dict(plain.state_dict())
    leave_apart(apart)
    for network in (plain, apart):
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 1.0  # as in a training, which averages statistics by itself
    shape = (3, skeleton.image_channels, skeleton.height, skeleton.width)
    return plain, apart, torch.randn(shape, dtype=torch.float64)


def assert_equal(plain: Network, apart: Network, images: Tensor) -> None:
    """The same scores, gradients, those of the images included, and statistics, in training and in evaluation."""
    found = []
    for network in (plain.train(), apart.train()):
        seen = images.clone().requires_grad_()
        scores = network(seen)
        (scores.square().sum()).backward()
        assert seen.grad is not None
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        statistics = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        found.append([scores, seen.grad, *gradients, *statistics, network.eval()(images)])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("skeleton", TINY_SKELETONS[:3])
def test_they_compute_the_same_function(skeleton: Skeleton) -> None:
    for graph in [EVERY_PRIMITIVE, *random_graphs(FLAT, 1), *random_graphs(HIERARCHICAL, 1)]:
        assert_equal(*pair(graph, skeleton))


def test_many_parts_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_MOST", 2)
    assert_equal(*pair(EVERY_PRIMITIVE, TINY_SKELETONS[1]))


def test_they_are_computed_again_on_the_way_back() -> None:
    plain, apart, images = pair(EVERY_PRIMITIVE, TINY_SKELETONS[1])
    recompute(apart, ImageDraws(torch.device("cpu")))
    assert_equal(plain, apart, images)


def kept_by(network: Network, images: Tensor) -> int:
    """Bytes that autograd keeps for the way back."""
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = network(images)
    del scores
    return sum(found.values())


def test_they_keep_a_fifth_less_of_the_papers_cell() -> None:
    plain, apart, images = pair(expand(named("paper")), Skeleton(3, 16, 16, 10, 4, (1, 1)))
    assert kept_by(apart, images) < 0.8 * kept_by(plain, images)


@pytest.mark.parametrize(
    ("settings", "are"), [({}, True), ({"drop_path": 0.2}, False), ({"precision": "bf16"}, False)]
)
def test_a_training_uses_them_where_they_are_known_to_be_faster(settings: dict[str, object], are: bool) -> None:
    (training,) = on_ranks(1, lambda group: made(recipe(**settings), group))
    training.network.train()
    maps = training.network.blocks[0](training.network.stem(torch.zeros(2, 3, 6, 6, dtype=training._number)))
    assert isinstance(maps, list) == are


def test_a_training_with_a_second_classifier_comes_to_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = recipe(auxiliary_weight=0.4, weight_averaging=0.9)
    _, apart = trained(2, settings)
    monkeypatch.setattr(loop, "leave_apart", lambda network: None)
    _, plain = trained(1, settings)
    assert_close(plain, apart)
