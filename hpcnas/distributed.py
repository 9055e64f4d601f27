"""The ranks of a job as a process group of torch, which adds tensors up: NCCL between GPUs, gloo between CPUs.

MPI starts the ranks and tells them where to meet; no other launcher is needed. A job of one rank has nobody to meet.
What is added up, and why, is not decided here.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.distributed
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

_PATIENCE = datetime.timedelta(minutes=15)  # for ranks that decode, save or have died where MPI does not notice


class PeerLost(Exception):
    """Another rank is gone, or cannot be reached: one line."""


class World(Protocol):
    """What `transport` gives: all ranks of the job, able to tell each other small things."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def broadcast(self, value: Any) -> Any: ...

    def gather(self, value: Any) -> list[Any]: ...


class Group:
    """All ranks, on one device each. Every method is called by all of them alike, in the same order. Raises PeerLost
    where another one is not there."""

    def __init__(self, world: World, device: torch.device, address: str | None) -> None:
        """Meets the others. `address` is that of rank 0's host; by default its name, or the loopback if all are there.

        Raises RuntimeError (torch's) when they cannot meet.
        """
        self.rank, self.size = world.rank, world.size
        self._world = world
        if self.size == 1:
            return
        hosts = world.gather(socket.gethostname())
        if len(set(hosts)) == 1:
            address = address or "127.0.0.1"
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host's own name need not have an address
        address = address or hosts[0]
        port = 0  # any free one; the others are told which
        if self.rank == 0:
            store = TCPStore(
                address, 0, is_master=True, timeout=_PATIENCE, wait_for_workers=False
            )
            port = store.port
        port = world.broadcast(port)
        if self.rank > 0:
            store = TCPStore(address, port, is_master=False, timeout=_PATIENCE)
        cuda = device.type == "cuda"
        torch.distributed.init_process_group(
            "nccl" if cuda else "gloo",
            store=store,
            rank=self.rank,
            world_size=self.size,
            timeout=_PATIENCE,
            device_id=device if cuda else None,
        )

    def add_up(self, tensor: Tensor) -> None:
        """Gives every rank the sum over all ranks, in place; the same bits everywhere."""
        if self.size > 1:
            with _together():
                torch.distributed.all_reduce(tensor)

    @torch.no_grad()
    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Gives every rank rank 0's values, in place."""
        if self.size > 1:
            for tensor in tensors:
                dense = tensor.contiguous()
                with _together():
                    torch.distributed.broadcast(dense, src=0)
                tensor.copy_(dense)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in rank order, on every rank: something small, now and then."""
        return self._world.gather(value)

    def close(self) -> None:
        """Parts with the others, when all is said."""
        if self.size > 1:
            torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Makes PeerLost of what torch raises where ranks do not get together, of gloo's plain RuntimeError too."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "CUDA error" in str(error):  # this rank's own device
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PeerLost(f"another rank is gone or cannot be reached: {reason}") from None
