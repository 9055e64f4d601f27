"""torch.compile by blocks: cells of one shape are compiled once, however many of them a network has.

A block is a cell or what follows it. It is compiled for its training alone, with the sizes that it is given there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hpcnas.retrain.process_group import PeerFailed, PeerLost
from hpcnas.training import causes
from hpcnas.training.network import Network


def compile_blocks(
    network: Network, warn: Callable[[str], None], backend: str | Callable[..., Any] = "inductor"
) -> None:
    """From now on the blocks of the network are compiled when they are first trained. Where that fails, all of them go
    on as they are, and `warn` is told."""
    compiler = _Compiler(warn, backend)
    for block in network.blocks:
        compiler.take(block)


class _Compiler:
    def __init__(self, warn: Callable[[str], None], backend: str | Callable[..., Any]) -> None:
        self._warn, self._backend = warn, backend
        self._works = True

    def take(self, block: nn.Module) -> None:
        plain = block.forward
        compiled: Callable[[Tensor], Tensor] = torch.compile(plain, backend=self._backend, dynamic=False)

        def forward(maps: Tensor) -> Tensor:
            if not (self._works and block.training):
                found: Tensor = plain(maps)
                return found
            try:
                return compiled(maps)
            except Exception as error:  # compilers raise all sorts of things
                if causes.is_out_of_memory(error) or isinstance(error, (PeerFailed, PeerLost)):  # in normalisation
                    raise
                self._works = False
                self._warn(f"torch.compile fails here, going on without: {(str(error).splitlines() or [''])[0]}")
                return forward(maps)

        block.forward = forward
