"""The machine that a rank finds itself on, and which device and how many CPU threads each worker gets.

Every rank describes itself (`Seat`), all descriptions are gathered, and `bind` decides for all of them alike, from host
names rather than from launchers' local ranks, which lie (the controller is not counted). Needs neither torch nor MPI.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class DeviceError(Exception):
    """The device that was asked for is not there: one line."""


@dataclass(frozen=True)
class Seat:
    """What one rank sees. `gpus` are names that CUDA_VISIBLE_DEVICES takes; `cores` those it may run on."""

    host: str
    gpus: tuple[str, ...]
    cores: frozenset[int]
    quota: int  # whole cores that the control group allows
    cards: tuple[str, ...] = ()  # UUIDs of the `gpus`, in their order; empty where they cannot be had

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Seat:
        """This process's seat."""
        gpus = visible_gpus(environment)
        return cls(
            host=environment.get("SLURMD_NODENAME") or socket.gethostname(),
            gpus=gpus,
            cores=frozenset(os.sched_getaffinity(0)),
            quota=cgroup_quota(),
            cards=uuids(gpus),
        )


@dataclass(frozen=True)
class Binding:
    """What one worker uses: a GPU by its CUDA name, or None for the CPU; and its share of the cores."""

    gpu: str | None
    threads: int
    card: str | None = None  # the GPU's UUID, where it is known

    @property
    def device(self) -> str:
        """The device as it is recorded: `cpu`, or `cuda:` and the GPU's UUID, else its CUDA name."""
        return "cpu" if self.gpu is None else f"cuda:{self.card or self.gpu}"


def visible_gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """CUDA_VISIBLE_DEVICES where the scheduler set it, else what nvidia-smi lists, by UUID; empty without a GPU."""
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        names = []
        for name in (part.strip() for part in listed.split(",")):
            if name in ("", "-1", "NoDevFiles"):  # CUDA ignores everything from the first invalid name on
                break
            names.append(name)
        return tuple(names)
    return _present_gpus()


def uuids(gpus: tuple[str, ...]) -> tuple[str, ...]:
    """The UUIDs behind names that CUDA takes; empty where they cannot be had.

    Numbers count what this process may use, and so does nvidia-smi: in control groups of their own (`srun
    --gpus-per-task=1`) every rank calls its card 0.
    """
    if all(name.startswith(("GPU-", "MIG-")) for name in gpus):
        return gpus
    present = _present_gpus()
    if all(name.isdecimal() and int(name) < len(present) for name in gpus):
        return tuple(present[int(name)] for name in gpus)
    return ()


def _present_gpus() -> tuple[str, ...]:
    """UUIDs of what nvidia-smi lists; empty without a GPU."""
    places = (os.path.join(folder, "nvidia-smi") for folder in os.get_exec_path())
    command = next((place for place in places if os.access(place, os.X_OK)), None)
    if command is None:
        return ()
    import subprocess  # seldom needed, and every rank is here

    try:
        query = [command, "--query-gpu=uuid", "--format=csv,noheader"]
        found = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in found.stdout.splitlines() if line.strip().startswith("GPU-"))


def cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Whole cores that the control group's CPU quota allows, at least 1; the number of cores where there is none."""
    cores = os.cpu_count() or 1
    readings = []
    try:
        quota, period = (root / "cpu.max").read_text().split()  # version 2
        readings.append((quota, period))
    except (OSError, ValueError):
        pass
    try:
        cpu = root / "cpu"  # version 1
        readings.append(((cpu / "cpu.cfs_quota_us").read_text(), (cpu / "cpu.cfs_period_us").read_text()))
    except OSError:
        pass
    for quota, period in readings:
        try:
            if int(quota) > 0:
                cores = min(cores, max(1, int(quota) // int(period)))
        except ValueError:  # "max": no quota
            continue
    return cores


def bind(seats: Sequence[Seat], device: str, threads: int | None) -> list[Binding]:
    """The binding of every worker, first worker first. `seats` are the ranks' in rank order; where there are several,
    the first is the controller's and gets none. Otherwise as `bind_all`."""
    return bind_all(seats[1:] if len(seats) > 1 else seats, device, threads)


def bind_all(workers: Sequence[Seat], device: str, threads: int | None) -> list[Binding]:
    """The binding of every one of these ranks.

    GPUs: the workers of one host that see the same GPUs (not others of the same names) take them in turn. Threads:
    usable cores of one host, shared by the workers that may run on the same ones. Raises DeviceError where `device` is
    cuda and a worker sees none.
    """
    bindings = []
    for number, seat in enumerate(workers):
        gpu = card = None
        if device != "cpu" and seat.gpus:
            view = seat.host, seat.gpus, seat.cards
            before = sum((other.host, other.gpus, other.cards) == view for other in workers[:number])
            gpu = seat.gpus[before % len(seat.gpus)]
            card = seat.cards[before % len(seat.gpus)] if seat.cards else None
        elif device == "cuda":
            raise DeviceError(
                f"expected a GPU for every worker (--device cuda), but a worker on {seat.host} sees none; "
                "check CUDA_VISIBLE_DEVICES and nvidia-smi there, or use --device cpu"
            )
        beside = [other for other in workers if other.host == seat.host]
        sharing = sum(bool(other.cores & seat.cores) for other in beside)
        share = min(len(seat.cores) // max(1, sharing), seat.quota // len(beside))
        bindings.append(Binding(gpu, threads or max(1, share), card))
    return bindings
