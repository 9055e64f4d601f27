"""What is compiled of a network, that it goes on where that fails, and that ranks agree on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from rank_threads import ThreadGroup, on_ranks
from small_retraining import assert_close, made, recipe
from test_expansion import build
from torch import Tensor

from hpcnas.architecture.expansion import expand
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.retrain import loop
from hpcnas.retrain.compiling import Compiler
from hpcnas.retrain.draws import ImageDraws
from hpcnas.retrain.process_group import PeerFailed
from hpcnas.retrain.recomputing import recompute
from hpcnas.training.network import Network

GRAPH = expand(build("1x3", ["1-2 sep, 2-3 dw, 1-3 max"]))
IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network() -> Network:
    torch.manual_seed(0)
    return Network(GRAPH, Skeleton(3, 8, 8, 10, 2, (2, 2)))


def test_cells_of_one_shape_are_compiled_once_and_for_the_training_alone() -> None:
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        compiled.append(sum(node.op == "call_function" for node in graph.graph.nodes))
        return graph.forward

    torch._dynamo.reset()
    plain, ours = network(), network()
    Compiler(ours, pytest.fail, backend)
    assert torch.equal(ours.eval()(IMAGES), plain.eval()(IMAGES)) and compiled == []
    for one in (plain.train(), ours.train()):
        one(IMAGES).sum().backward()
        one(IMAGES[:1])
    assert len([size for size in compiled if size > 5]) == 2 * 2  # cells of two shapes, with two images and with one
    for one, two in zip(plain.parameters(), ours.parameters(), strict=True):
        assert one.grad is not None and two.grad is not None
        torch.testing.assert_close(one.grad, two.grad)


def test_where_compiling_fails_it_trains_as_it_is_and_says_so_once() -> None:
    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        raise RuntimeError("no compiler\nis here")

    torch._dynamo.reset()
    told: list[str] = []
    plain, ours = network().train(), network().train()
    Compiler(ours, told.append, backend)
    assert torch.equal(ours(IMAGES), plain(IMAGES))
    (line,) = told
    assert line.startswith("torch.compile fails here, going on without: ") and "\n" not in line


def test_what_is_compiled_is_computed_again_on_the_way_back() -> None:
    torch._dynamo.reset()
    plain, ours = network().train(), network().train()
    Compiler(ours, pytest.fail, "eager")
    recompute(ours, ImageDraws(torch.device("cpu")))
    for one in (plain, ours):
        one(IMAGES).sum().backward()
    for one, two in zip(plain.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


def test_what_another_rank_meets_is_no_fault_of_the_compiler() -> None:
    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        def run(*values: Any) -> Any:
            raise PeerFailed("rank 1 is out of memory")

        return run

    torch._dynamo.reset()
    ours = network().train()
    Compiler(ours, pytest.fail, backend)
    with pytest.raises(PeerFailed, match="rank 1 is out of memory"):
        ours(IMAGES)


@pytest.mark.parametrize("fails", ["forwards", "on the way back", None])
def test_where_the_compiler_of_one_rank_fails_all_go_on_without_it(
    fails: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On that rank a block fails when its sums over ranks are made, as it would half-way through."""
    told: list[str] = []
    monkeypatch.setattr(loop, "leave_apart", lambda network: None)  # as where it compiles

    def train(group: ThreadGroup, compiles: bool) -> tuple[dict[str, Tensor], float]:
        passes: list[Callable[..., Any]] = []

        def compile(plain: Callable[[Tensor], Tensor], **options: object) -> Callable[[Tensor], Tensor]:
            def forward(maps: Tensor) -> Tensor:
                found = plain(maps)
                passes.append(plain)
                if group.rank == 1 and fails == "forwards":
                    raise RuntimeError("no compiler\nis here")
                return _Failing.apply(found) if group.rank == 1 and fails else found  # type: ignore[no-any-return]

            return forward

        training = made(recipe(steps=2), group)
        for rank in range(2 * compiles):  # one after another, since there is one torch
            if rank == group.rank:
                monkeypatch.setattr(torch, "compile", compile)
                training._compiler = Compiler(training.network, told.append)
            group.gather(None)
        assert training.run(lambda: False, lambda: False, lambda: None, lambda: None)
        return training.weights(), len(passes) / len(training.network.blocks)

    (plain, _), _ = on_ranks(2, lambda group: train(group, compiles=False))
    found = on_ranks(2, lambda group: train(group, compiles=True))
    for weights, _ in found:
        assert_close(plain, weights)
    assert [passes for _, passes in found] == {"forwards": [1, 0.25], "on the way back": [1, 1], None: [3, 3]}[fails]
    assert told == (["torch.compile fails on rank 1, all ranks go on without: no compiler"] if fails else [])


class _Failing(torch.autograd.Function):
    """Nothing, but that the way back fails."""

    @staticmethod
    def forward(context: Any, maps: Tensor) -> Tensor:
        return maps.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        raise RuntimeError("no compiler\nis here")
