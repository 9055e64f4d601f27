"""The machine that a rank finds itself on, and which device and how many CPU threads each worker gets.

Every rank describes itself (`Seat`), all descriptions are gathered, and `bind` decides for all of them alike, from host
names rather than from launchers' local ranks, which lie (the controller is not counted). Needs neither torch nor MPI.
"""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpcnas.errors import Error


class DeviceError(Error):
    """The device that was asked for is not there: one line."""


@dataclass(frozen=True)
class Seat:
    """What one rank sees. `gpus` are names that CUDA_VISIBLE_DEVICES takes; `cores` those it may run on."""

    host: str
    gpus: tuple[str, ...]
    cores: frozenset[int]
    quota: int  # whole cores that the control group allows
    cards: tuple[str, ...] = ()  # UUIDs of the `gpus`, in their order; empty where they cannot be had
    machine: str = ""  # what the machine calls itself, where the batch system calls it otherwise

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Seat:
        """This process's seat."""
        gpus, own = visible_gpus(environment), socket.gethostname()
        host = environment.get("SLURMD_NODENAME") or own
        return cls(
            host=host,
            gpus=gpus,
            cores=frozenset(os.sched_getaffinity(0)),
            quota=cgroup_quota(),
            cards=uuids(gpus, environment),
            machine="" if host.partition(".")[0] == own.partition(".")[0] else own,
        )


def told_apart(seats: Sequence[Seat]) -> list[Seat]:
    """The seats of a job with hosts that tell machines apart.

    A batch system's name goes first: it tells nodes apart that are one machine (several slurmd). But MPICH's launcher
    hands on SLURMD_NODENAME of the node that it runs on to all others: where machines that call themselves otherwise
    have one such name, each has its own name.
    """
    machines: dict[str, set[str]] = {}
    for seat in seats:
        machines.setdefault(seat.host, set()).add(seat.machine)
    return [replace(seat, host=seat.machine or seat.host) if len(machines[seat.host]) > 1 else seat for seat in seats]


@dataclass(frozen=True)
class Binding:
    """What one worker uses: a GPU by its CUDA name, or None for the CPU; and its share of the cores."""

    gpu: str | None
    threads: int
    card: str | None = None  # the GPU's UUID, where it is known
    sharing: int = 1  # workers that use this GPU, as far as UUIDs are known

    @property
    def device(self) -> str:
        """The device as it is recorded: `cpu`, or `cuda:` and the GPU's UUID, else its CUDA name."""
        return "cpu" if self.gpu is None else f"cuda:{self.card or self.gpu}"


_NVIDIA, _HIP, _ROCR = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"


def visible_gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs as the scheduler or the person has listed them, else all that are there; empty without a GPU.

    NVIDIA's by CUDA_VISIBLE_DEVICES, else UUIDs as nvidia-smi lists them: those of MIG slices in place of the card that
    is cut into them. AMD's by HIP_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES, else numbers; these count what
    ROCR_VISIBLE_DEVICES leaves, which SLURM may set to the same as CUDA_VISIBLE_DEVICES.
    """
    if _ROCR in environment:
        left = _listed(environment[_ROCR])
        if _HIP in environment:
            return _listed(environment[_HIP])
        if _NVIDIA not in environment or (_listed(environment[_NVIDIA]) == left and not _nvidia_cards()):
            return _numbers(len(left))
    for variable in (_NVIDIA, _HIP):
        if variable in environment:
            return _listed(environment[variable])
    slices = tuple(name for card in _nvidia_cards() for name in (card.slices or (card.uuid,)))
    return slices or _numbers(len(_amd_cards()))


def device_variables(gpu: str | None, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that leave a process this GPU alone, or none."""
    variables = {_NVIDIA: gpu or ""}
    if _HIP in environment or _ROCR in environment:  # which go before the other one
        variables[_HIP] = gpu or ""
    return variables


def uuids(gpus: tuple[str, ...], environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The UUIDs behind names that CUDA or HIP takes; empty where they cannot be had.

    Numbers count what this process may use, and so does nvidia-smi: in control groups of their own (`srun
    --gpus-per-task=1`) every rank calls its card 0. Of a card that is cut into slices CUDA takes the first.
    """
    if all(name.startswith(("GPU-", "MIG-")) for name in gpus):
        return gpus
    present = [(card.slices or (card.uuid,))[0] for card in _nvidia_cards()]
    if not present:
        present = list(_amd_cards())
        if _ROCR in environment:  # the numbers count these
            known = dict(zip(_numbers(len(present)), present, strict=True))
            left = _listed(environment[_ROCR])
            present = [known.get(name, name) for name in left]
    return tuple(present[int(name)] for name in gpus) if all(_is_place(name, present) for name in gpus) else ()


def _is_place(name: str, present: Sequence[str]) -> bool:
    return name.isdecimal() and int(name) < len(present)


def _listed(value: str) -> tuple[str, ...]:
    """The names of such a variable. All from the first invalid one on are ignored, as CUDA and HIP do."""
    names = []
    for name in (part.strip() for part in value.split(",")):
        if name in ("", "-1", "NoDevFiles"):
            break
        names.append(name)
    return tuple(names)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


@dataclass(frozen=True)
class _Card:
    """One of NVIDIA's, and the MIG slices that it is cut into."""

    uuid: str
    slices: tuple[str, ...]


def _nvidia_cards() -> list[_Card]:
    """What nvidia-smi lists; empty without a GPU."""
    cards: list[_Card] = []
    for name in re.findall(r"\b(?:GPU|MIG)-[\w./-]+", _printed("nvidia-smi", "-L")):
        if name.startswith("GPU-"):
            cards.append(_Card(name, ()))
        elif cards:
            cards[-1] = _Card(cards[-1].uuid, (*cards[-1].slices, name))
    return cards


def _amd_cards() -> tuple[str, ...]:
    """What identifies AMD's GPUs, in the order of their numbers, as amd-smi or else rocm-smi lists them."""
    listed = _printed("amd-smi", "list", "--csv")  # gpu,gpu_bdf,gpu_uuid,…
    found = re.findall(r"^\d+,[\w:.]+,([\w-]+)", listed, re.MULTILINE)
    if not found:
        listed = _printed("rocm-smi", "--showuniqueid", "--csv")  # device,Unique ID
        found = re.findall(r"^card\d+,\s*(\w+)", listed, re.MULTILINE)
    return tuple(found)


def _printed(name: str, *arguments: str) -> str:
    """What a command of a driver prints; empty where there is none, or it fails."""
    places = (os.path.join(folder, name) for folder in os.get_exec_path())
    command = next((place for place in places if os.access(place, os.X_OK)), None)
    if command is None:
        return ""
    import subprocess  # seldom needed, and every rank is here

    try:
        done = subprocess.run(
            [command, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


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
    users = Counter(binding.card for binding in bindings)
    return [replace(one, sharing=users[one.card]) if one.card else one for one in bindings]
