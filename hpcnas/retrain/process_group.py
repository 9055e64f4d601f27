"""The ranks of a job as a process group of torch, which adds tensors up: NCCL between GPUs, gloo between CPUs.

MPI starts the ranks and tells them where to meet; no other launcher is needed. A job of one rank meets no other.
What is added up, and why, is not decided here.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from hpcnas.training import causes

_PATIENCE = datetime.timedelta(minutes=15)  # for ranks that decode, save or have died where MPI does not notice
_MEETING = datetime.timedelta(minutes=1)  # for a connection to rank 0, which is there
Found = TypeVar("Found")


class PeerLost(Exception):
    """Another rank is gone, or cannot be reached: one line."""


class AddressError(Exception):
    """Ranks do not reach rank 0's host under its address: one line."""


class World(Protocol):
    """All ranks of the job, which can tell each other small things: what is needed of those of `job.world`."""

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

        Raises AddressError, on all ranks alike, where one of them does not reach that host.
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
        store = _meeting(world, address)
        cuda = device.type == "cuda"
        with _together():
            torch.distributed.init_process_group(
                "nccl" if cuda else "gloo",
                store=store,
                rank=self.rank,
                world_size=self.size,
                timeout=_PATIENCE,
                device_id=device if cuda else None,
            )

    def add_up(self, tensor: Tensor) -> None:
        """Replaces the tensor, of one shape and number type on all ranks, by its sum over all ranks: the same bits on
        each. Raises PeerLost."""
        if self.size > 1:
            with _together():
                torch.distributed.all_reduce(tensor)

    @torch.no_grad()
    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Replaces the tensors, pairwise of one shape on all ranks, by rank 0's. Raises PeerLost."""
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
        """Leaves the group, after its last use."""
        if self.size > 1:
            torch.distributed.destroy_process_group()


def _meeting(world: World, address: str) -> TCPStore:
    """Where ranks exchange what their process group needs. Raises AddressError on all of them alike."""

    def on_all(attempt: Callable[[], Found]) -> Found:
        problem = None
        try:
            found = attempt()
        except (OSError, UnicodeError, RuntimeError) as error:  # the last is torch's
            problem = f"{socket.gethostname()} does not: {_first_line(error)}"
        for each in world.gather(problem):
            if each is not None:
                raise AddressError(
                    f"expected all ranks to reach rank 0's host as {address}, but {each}; give --address another one"
                )
        return found

    on_all(lambda: socket.getaddrinfo(address, None))  # torch would try for long
    first = on_all(lambda: _store(address, 0) if world.rank == 0 else None)
    port = world.broadcast(first.port if first is not None else 0)
    store = on_all(lambda: first if first is not None else _store(address, port))
    store.set_timeout(_PATIENCE)
    return store


def _store(address: str, port: int) -> TCPStore:
    """Rank 0's, at any free port, where that is 0; else a way to it."""
    return TCPStore(address, port, is_master=port == 0, timeout=_MEETING, wait_for_workers=False)


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Makes PeerLost of what torch raises where ranks do not get together, of gloo's plain RuntimeError too."""
    try:
        yield
    except RuntimeError as error:
        if causes.is_out_of_memory(error) or causes.is_of_own_device(error):
            raise
        raise PeerLost(f"another rank is gone or cannot be reached: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
