"""How busy this host is: its GPUs as nvidia-smi has them, its cores and memory as psutil has them. Changes nothing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass

import psutil

_QUERY = "index,uuid,name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw"


@dataclass(frozen=True)
class Gpu:
    """One GPU. What nvidia-smi does not tell is None. Memory is in MiB, temperature in °C, power in W."""

    index: str
    uuid: str
    name: str
    use: float | None  # percent of the time in which a kernel ran
    memory: float | None
    memory_total: float | None
    temperature: float | None
    power: float | None

    def is_device(self, device: str) -> bool:
        """Whether a worker's device, such as `cuda:GPU-…` or `cuda:0`, is this one."""
        return device in (f"cuda:{self.uuid}", f"cuda:{self.index}")


@dataclass(frozen=True)
class Host:
    """A host at one moment. `use` is in percent of all cores, memory in GiB."""

    name: str
    cores: int
    use: float
    memory: float
    memory_total: float
    gpus: tuple[Gpu, ...]


def here(interval: float | None) -> Host:
    """This host now. The use of its cores is measured for `interval` seconds; None: since the last call."""
    memory = psutil.virtual_memory()
    return Host(
        name=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        cores=psutil.cpu_count() or 1,
        use=psutil.cpu_percent(interval),
        memory=(memory.total - memory.available) / 2**30,
        memory_total=memory.total / 2**30,
        gpus=_gpus(),
    )


def _gpus() -> tuple[Gpu, ...]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    query = [command, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[field.strip() for field in line.split(",")] for line in done.stdout.splitlines()]
    return tuple(_gpu(*row) for row in rows if len(row) == len(_QUERY.split(",")))


def _gpu(index: str, uuid: str, name: str, *quantities: str) -> Gpu:
    use, memory, memory_total, temperature, power = map(_number, quantities)
    return Gpu(index, uuid, name, use, memory, memory_total, temperature, power)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # [N/A], [Not Supported]
        return None
