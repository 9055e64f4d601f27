"""torch.compile by blocks: cells of one shape are compiled once, however many of them a network has.

A block is a cell or what follows it. It is compiled for its training alone, with the sizes that it is given there.
Ranks agree on whether they go by it before their first step, since a rank whose compiler fails within a block would
repeat the sums over ranks that it has made there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hpcnas.errors import first_line
from hpcnas.retrain.process_group import Group, PeerFailed, PeerLost
from hpcnas.training import causes
from hpcnas.training.network import Network


class Compiler:
    """Whoever compiles the blocks of a network, until that fails."""

    def __init__(
        self, network: Network, warn: Callable[[str], None], backend: str | Callable[..., Any] = "inductor"
    ) -> None:
        """From now on the blocks are compiled when they are first trained. Where that fails, all of them go on as they
        are, and `warn` is told."""
        self._warn, self._backend = warn, backend
        self._works = True
        self._may_fail = True
        for block in network.blocks:
            self._take(block)

    def _take(self, block: nn.Module) -> None:
        plain = block.forward
        compiled: Callable[[Tensor], Tensor] = torch.compile(plain, backend=self._backend, dynamic=False)

        def forward(maps: Tensor) -> Tensor:
            if not (self._works and block.training):
                found: Tensor = plain(maps)
                return found
            try:
                return compiled(maps)
            except Exception as error:  # compilers raise all sorts of things
                if not self._may_fail or _is_of_others(error):
                    raise
                self._works = False
                self._say("here", first_line(error), "going on")
                return forward(maps)

        block.forward = forward

    def agree(self, group: Group, rehearse: Callable[[], None]) -> None:
        """Has all ranks compile, by a pass forwards and back in which they tell each other nothing; where one of them
        cannot, none goes by its compiler, and rank 0 warns. What fails later is an error."""
        self._may_fail = False
        problem: Exception | None = None
        try:
            rehearse()
        except Exception as error:
            if _is_of_others(error):
                raise
            problem = error
        if not group.count(problem is not None):  # unlike MPI, whoever waits here hears of a rank that is gone
            return
        told = group.gather(None if problem is None else first_line(problem))
        rank = next(rank for rank, text in enumerate(told) if text is not None)
        self._works = False
        if group.rank == 0:
            self._say(f"on rank {rank}", told[rank], "all ranks go on")

    def _say(self, where: str, reason: str, going_on: str) -> None:
        self._warn(f"torch.compile fails {where}, {going_on} without: {reason}")


def _is_of_others(error: Exception) -> bool:
    """Whether an exception in a block is none of the compiler's: normalisation meets other ranks in it."""
    return causes.is_out_of_memory(error) or isinstance(error, PeerFailed | PeerLost)
