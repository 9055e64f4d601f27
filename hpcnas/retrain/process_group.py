"""The ranks of a job as a process group of torch, which adds tensors up: NCCL between GPUs, gloo between CPUs.

MPI starts the ranks and tells them where to meet, and a key; no other launcher is needed. A job of one rank meets no
other. What is added up, and why, is not decided here.

    tell, called ─► words in the meeting point ─► whoever waits for others hears of them (`hearing`)

So a rank that waits hears that another one has failed, or is to leave, also where the other cannot come; and a job that
is to leave waits for no rank that is stopped.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from hpcnas.errors import first_line
from hpcnas.retrain import hearing
from hpcnas.retrain.hearing import FAILED, LOOK, Hearing
from hpcnas.training import causes

_PATIENCE = datetime.timedelta(minutes=15)  # for ranks that decode, save or have died where MPI does not notice
_MEETING = datetime.timedelta(minutes=1)  # for a connection to rank 0, which is there
_HEARING = datetime.timedelta(seconds=30)  # for rank 0 to hear that another rank has failed
_VOTE = 1 << 32  # in a sum of votes, each of which may hold or not
_HEARD = "heard"
_logger = logging.getLogger("hpcnas")
Found = TypeVar("Found")


class PeerLost(Exception):
    """Another rank is gone, or cannot be reached: one line."""


class PeerFailed(Exception):
    """Some rank has failed, and all of them leave: its line, the same on every rank."""


class AddressError(Exception):
    """Ranks do not reach rank 0's host under its address: one line."""


class World(Protocol):
    """All ranks of the job, which can tell each other small things: what is needed of those of `job.world`."""

    @property
    def rank(self) -> int: ...

    waits: bool
    hears: Callable[[], object]

    @property
    def size(self) -> int: ...

    def broadcast(self, value: Any) -> Any: ...

    def gather(self, value: Any) -> list[Any]: ...


class Group:
    """All ranks, on one device each. Every method but `called` and `tell` is called by all of them alike, in the same
    order. Raises PeerLost where another one is not there, PeerFailed where one has told that it failed."""

    def __init__(
        self, world: World, device: torch.device, address: str | None, leave: Callable[[], bool] = lambda: False
    ) -> None:
        """Meets the others. `address` is that of rank 0's host; by default its name, or the loopback if all are there.
        `leave` says whether this rank is to leave.

        Raises AddressError, on all ranks alike, where one of them does not reach that host.
        """
        self.rank, self.size = world.rank, world.size
        self._world, self._leave = world, leave
        self._counts = 0
        if self.size == 1:
            return
        point = _Meeting(world, address)
        self._words, self._votes = point.words, point.votes
        self._hearing = Hearing(point.heard, self.rank, self.size)
        cuda = device.type == "cuda"
        with _together():
            torch.distributed.init_process_group(
                "nccl" if cuda else "gloo",
                store=point.store,
                rank=self.rank,
                world_size=self.size,
                timeout=_PATIENCE,
                device_id=device if cuda else None,
            )
        self._hearing.begin()
        self._heard_before, world.hears = world.hears, self.called

    def add_up(self, tensor: Tensor) -> None:
        """Replaces the tensor, of one shape and number type on all ranks, by its sum over all ranks: the same bits on
        each. Raises PeerLost, PeerFailed."""
        if self.size > 1:
            with _together():
                self._wait(torch.distributed.all_reduce(tensor, async_op=True), tensor.device)

    def count(self, held: bool) -> int:
        """On how many ranks that holds. The hosts agree on it, whatever their devices are doing. Raises PeerLost,
        PeerFailed."""
        if self.size == 1:
            return int(held)
        self._counts += 1
        votes, result = f"votes-{self._counts}", f"result-{self._counts}"
        with _together():
            found = self._votes.add(votes, _VOTE + held)
            if found // _VOTE == self.size:  # this rank is the last one, and all are done with the count before
                self._votes.set(result, str(found % _VOTE))
                for key in (f"votes-{self._counts - 1}", f"result-{self._counts - 1}"):
                    self._votes.delete_key(key)
            elif not self._votes.check([result]):
                self._wait_in_thread(lambda: self._votes.wait([result], _PATIENCE))
            return int(self._votes.get(result))

    @torch.no_grad()
    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Replaces the tensors, pairwise of one shape on all ranks, by rank 0's. Raises PeerLost, PeerFailed."""
        if self.size > 1:
            for tensor in tensors:
                dense = tensor.contiguous()
                with _together():
                    self._wait(torch.distributed.broadcast(dense, src=0, async_op=True), dense.device)
                tensor.copy_(dense)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in rank order, on every rank: something small, now and then. Raises PeerLost,
        PeerFailed, as all that waits for others over MPI does while there is this group."""
        return self._world.gather(value)

    def close(self) -> None:
        """Leaves the group, after its last use."""
        if self.size > 1:
            torch.distributed.destroy_process_group()

    def stop_listening(self) -> None:
        """Hears nothing more of others; to be called before this process ends, however it does."""
        if self.size > 1:
            self._world.hears = self._heard_before
            if not self._hearing.end():
                self._world.waits = True

    # ── words of others, while this rank waits ──────────────────────────────────────────────────────────────────────
    def _wait(self, work: Any, device: torch.device) -> None:
        """Returns when the host's part is done; a GPU's stream waits by itself for the rest."""
        if device.type == "cpu":
            done = threading.Event()
            work.get_future().add_done_callback(lambda future: done.set())
            while not done.wait(LOOK):  # unlike torch's own waiting, this one lets signals be handled
                self.called()
        work.wait()

    def _wait_in_thread(self, action: Callable[[], object]) -> None:
        """Likewise for what can only block."""
        done, problems = threading.Event(), []

        def work() -> None:
            try:
                action()
            except Exception as error:
                problems.append(error)
            done.set()

        threading.Thread(target=work, daemon=True).start()
        while not done.wait(LOOK):
            self.called()
        if problems:
            raise problems[0]

    def called(self) -> bool:
        """Whether this rank is to leave, which it then tells the others, or another one has told so. To be asked while
        this rank waits. Raises PeerFailed, and PeerLost: also where the job is to leave, and some rank is stopped."""
        if self.size == 1:
            return self._leave()
        heard = self._hearing
        if heard.failed is not None:
            if self.rank == 0:
                self._words.set(_HEARD, "")
            raise PeerFailed(heard.failed)
        if heard.problem is not None:
            raise _lost(heard.problem)
        if self._leave():
            heard.wish_to_leave()
        if (rank := heard.silent()) is not None:
            raise PeerLost(
                f"this job is to leave, and rank {rank} has not answered for {hearing.LIFE:.0f} s (stopped, or cut "
                "off?), so that what is under way is not saved"
            )
        return heard.leaving

    def tell(self, problem: str) -> str | None:
        """Tells the others that this rank has failed, after which no method may be called. What all ranks are told: the
        line of the first one that has failed; None where rank 0 does not hear it."""
        if self.size == 1:
            return problem
        try:
            told: str = self._words.compare_set(FAILED, "", problem).decode()
            if self.rank == 0:
                self._words.set(_HEARD, "")
            self._words.wait([_HEARD], _HEARING)
        except RuntimeError:  # torch's, of several kinds
            return None
        return told


class _Meeting:
    """Where ranks exchange what their process group needs: a server of torch on rank 0's host, which listens on one
    address alone, under names that begin with a key that came over MPI. Raises AddressError on all ranks alike."""

    def __init__(self, world: World, address: str | None) -> None:
        hosts = world.gather(socket.gethostname())
        one_host = len(set(hosts)) == 1
        if one_host:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host's own name need not have an address
        self._world = world
        self._address = address or ("127.0.0.1" if one_host else hosts[0])
        found = self._on_all(lambda: _numeric(self._address))  # torch would try for long
        others = {place for place, host in zip(world.gather(found), hosts, strict=True) if host != hosts[0] or one_host}
        server = self._on_all(lambda: _Server(others) if world.rank == 0 else None)
        port, at, key = world.broadcast(server and (server.port, server.address, secrets.token_hex(16)))
        if server is not None and at is None:
            _logger.warning(
                "the meeting point of this job's ranks listens on all addresses of this host, port %d: other hosts "
                "know it as %s, which is not one address of its own; --address may name one", port,
                ", ".join(sorted(others)),
            )  # fmt: skip
        host = at or ("localhost" if server is not None else found)
        store = self._on_all(lambda: _connected(host, port) if server is None else server.store)
        votes = self._on_all(lambda: _connected(host, port))  # one waits in them at a time
        words = self._on_all(lambda: _connected(host, port))
        heard = self._on_all(lambda: _connected(host, port))
        store.set_timeout(_PATIENCE)
        self.store = PrefixStore(key, store)
        self.votes = PrefixStore(f"{key}-votes", votes)
        self.words, self.heard = (PrefixStore(f"{key}-words", way) for way in (words, heard))

    def _on_all(self, attempt: Callable[[], Found]) -> Found:
        problem = None
        try:
            found = attempt()
        except (OSError, UnicodeError, RuntimeError) as error:  # the last is torch's
            problem = f"{socket.gethostname()} does not: {first_line(error)}"
        for each in self._world.gather(problem):
            if each is not None:
                raise AddressError(
                    f"expected all ranks to reach rank 0's host as {self._address}, but {each}; give --address another "
                    "one"
                )
        return found


class _Server:
    """The store on rank 0's host, at any free port."""

    def __init__(self, addresses: set[str]) -> None:
        """`addresses`: those by which other ranks know this host. Listens on the only one, else on all that this host
        has, and `address` is None. Raises OSError, RuntimeError."""
        self.address: str | None = None
        if len(addresses) == 1:
            with contextlib.suppress(OSError):  # not this host's own: behind a translation of addresses
                (address,) = addresses
                listening = _listening(address)
                self.address = address
        if self.address is None:
            listening = _listening("")
        self.port: int = listening.getsockname()[1]
        self.store = TCPStore(
            self.address or "localhost",
            self.port,
            is_master=True,
            timeout=_MEETING,
            wait_for_workers=False,
            master_listen_fd=listening.detach(),
        )


def _listening(address: str) -> socket.socket:
    """A socket that listens there, at any free port; on all addresses for an empty one. Raises OSError."""
    if address == "":
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) if (
            socket.has_dualstack_ipv6()
        ) else socket.create_server(("", 0))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family)


def _numeric(address: str) -> str:
    """The first address that a name has here. Raises OSError, UnicodeError."""
    return str(socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][4][0])


def _connected(host: str, port: int) -> TCPStore:
    """A way to rank 0's store. Raises RuntimeError."""
    return TCPStore(host, port, is_master=False, timeout=_MEETING, wait_for_workers=False)


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Makes PeerLost of what torch raises where ranks do not get together, of gloo's plain RuntimeError too."""
    try:
        yield
    except RuntimeError as error:
        if causes.is_out_of_memory(error) or causes.is_of_own_device(error):
            raise
        raise _lost(first_line(error)) from None


def _lost(reason: str) -> PeerLost:
    return PeerLost(f"another rank is gone or cannot be reached: {reason}")
