#!/usr/bin/env python3
"""How fast a retraining is, against an ordinary PyTorch program for the same network (make bench).

The ordinary program: the same modules, eager float32, channels first, in DistributedDataParallel; torchvision's
transforms in a DataLoader; SGD. Both train the paper's cell on made-up images with batch statistics of whole batches,
each in a process of its own, a few steps by turns: the other one waits meanwhile. Printed are images/s of each, the
median ratio of the turns with its interval, and the most memory. --stream makes JPEG files, which both decode.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpcnas.analysis.policies import interval_place
from hpcnas.architecture.expansion import CellGraph, expand
from hpcnas.architecture.genotype import named
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.command import common
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.data.torchvision_shim import import_torchvision
from hpcnas.training.network import Network

_CPU = {"channels": 16, "cells": [1, 1, 1], "batch_size": 256, "steps": 1, "turns": 9}
_CUDA = {"channels": 64, "cells": [2, 2, 2], "batch_size": 256, "steps": 20, "turns": 9}
_IMAGES = 2048
_LOADERS = max(1, (os.cpu_count() or 1) - 1)
_PROGRAMS = ("ordinary", "ours")


def main() -> int:
    """Runs the comparison, or, as one of its processes, one program."""
    parser = common.parser(__doc__, runs="")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--channels", type=int, metavar="C0", help="c0 (default: 16; on CUDA 64)")
    parser.add_argument("--cells", type=int, nargs="+", metavar="N", help="cells of groups (default: 1 1 1; 2 2 2)")
    parser.add_argument("--batch-size", type=int, metavar="B", help="images a step (default: 256)")
    parser.add_argument("--steps", type=int, metavar="S", help="steps of a turn (default: 1; on CUDA 20)")
    parser.add_argument("--turns", type=int, metavar="N", help="turns of each (default: 9)")
    parser.add_argument("--threads", type=int, default=2, metavar="T", help="CPU threads of each (default: 2)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="of ours (default: fp32; on CUDA bf16)")
    parser.add_argument("--compile", action="store_true", help="ours compiles its network")
    parser.add_argument("--recompute", action="store_true", help="ours computes feature maps again")
    parser.add_argument("--stream", action="store_true", help="the ImageNet kind: JPEG files of 299×299 from 400×350")
    parser.add_argument("--program", choices=_PROGRAMS, help=argparse.SUPPRESS)  # one of the processes
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name, value in (_CUDA if options.device == "cuda" else _CPU).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.precision = options.precision or ("bf16" if options.device == "cuda" else "fp32")
    if options.program:
        torch.set_num_threads(options.threads)
        _work(options)
    else:
        _compare(options)
    return 0


def _recipe(options: argparse.Namespace) -> RetrainingConfig:
    source, loading, stem = "synthetic:2048:3x32x32", "resident", "plain"
    if options.stream:
        source, loading, stem = f"imagefolder:{options.folder}", "stream", "strided"
    return SCHEME.build({
        "network": {"channels": options.channels, "cells": tuple(options.cells), "stem": stem},
        "training": {"batch_size": options.batch_size, "steps": 10**6, "precision": options.precision},
        "data": {"source": source, "loading": loading},
        "run": {"compile": options.compile},
    })  # fmt: skip


def _network(options: argparse.Namespace) -> tuple[CellGraph, Skeleton]:
    side = 299 if options.stream else 32
    stem = "strided" if options.stream else "plain"
    return expand(named("paper")), Skeleton(3, side, side, 10, options.channels, tuple(options.cells), stem)


# ── the two programs ────────────────────────────────────────────────────────────────────────────────────────────────
def _work(options: argparse.Namespace) -> None:
    """Trains in turns of some steps: a line comes in for each, and the seconds that it took go out."""
    device = torch.device(options.device)
    began = time.perf_counter()

    def made_steps() -> None:
        nonlocal began
        if device.type == "cuda":
            torch.cuda.synchronize()
        memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else _resident_peak()
        print(time.perf_counter() - began, memory, flush=True)
        if not sys.stdin.readline():
            sys.exit()
        began = time.perf_counter()

    counted = itertools.count(1)

    def made_step() -> None:
        if next(counted) % options.steps == 0:
            made_steps()

    (_ordinary if options.program == "ordinary" else _ours)(options, device, made_step)


def _resident_peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _ordinary(options: argparse.Namespace, device: torch.device, made_step: Callable[[], None]) -> None:
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    network = nn.parallel.DistributedDataParallel(Network(*_network(options)).to(device))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=3e-4)
    for images, labels in _batches(options):
        optimiser.zero_grad()
        scores = network(images.to(device, non_blocking=True))
        nn.functional.cross_entropy(scores, labels.to(device, non_blocking=True)).backward()
        optimiser.step()
        made_step()


def _batches(options: argparse.Namespace) -> Iterator[tuple[Tensor, Tensor]]:
    import_torchvision()
    from torchvision import datasets, transforms

    normalise = transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    images: Any
    if options.stream:
        chain = [transforms.RandomResizedCrop(299), transforms.RandomHorizontalFlip(),
                 transforms.ColorJitter(brightness=0.4, contrast=0.4), transforms.ToTensor(), normalise]  # fmt: skip
        images = datasets.ImageFolder(str(options.folder / "train"), transforms.Compose(chain))
    else:
        chain = [transforms.ToPILImage(), transforms.RandomCrop(24), transforms.RandomHorizontalFlip(),
                 transforms.ToTensor(), normalise]  # fmt: skip
        images = _MadeUp(transforms.Compose(chain))
    loader = torch.utils.data.DataLoader(
        images, options.batch_size, shuffle=True, drop_last=True, num_workers=_LOADERS,
        pin_memory=options.device == "cuda", persistent_workers=True,
    )  # fmt: skip
    while True:
        yield from loader


class _MadeUp(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images of noise, with a transform, as an ordinary program has them."""

    def __init__(self, transform: Callable[[Any], Tensor]) -> None:
        self._pixels = np.random.default_rng(0).integers(0, 256, (_IMAGES, 32, 32, 3), dtype=np.uint8)
        self._transform = transform

    def __len__(self) -> int:
        return _IMAGES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._pixels[index]), index % 10


class _Alone:
    """A job of one rank."""

    rank, size = 0, 1

    def broadcast(self, value: Any) -> Any:
        return value

    def gather(self, value: Any) -> list[Any]:
        return [value]


def _ours(options: argparse.Namespace, device: torch.device, made_step: Callable[[], None]) -> None:
    from hpcnas.retrain.feed import Feed, Resident
    from hpcnas.retrain.image_stream import Stream, list_all
    from hpcnas.retrain.loop import DistributedTraining
    from hpcnas.retrain.process_group import Group

    recipe = _recipe(options)
    feed: Feed
    if options.stream:
        feed = Stream(recipe, 0, 1, device, _LOADERS, *list_all(recipe))
    else:
        feed = Resident(recipe, 0, 1, device)
    group = Group(_Alone(), device, None)
    training = DistributedTraining(
        *_network(options), recipe, 0, feed, group, device, lambda text: print(text, file=sys.stderr), options.recompute
    )
    try:
        training.run(leave=lambda: False, save_due=lambda: False, save=lambda: None, made_step=made_step)
    finally:
        feed.close()


# ── comparing ───────────────────────────────────────────────────────────────────────────────────────────────────────
class _Program:
    """One program in a process of its own, which waits but for its turns."""

    def __init__(self, name: str, folder: str) -> None:
        command = [sys.executable, __file__, *sys.argv[1:], "--program", name, "--folder", folder]
        environment = dict(os.environ)
        if name == "ours":  # what its job sets for itself (`retrain.job`)
            environment |= {"MALLOC_MMAP_THRESHOLD_": str(2**31 - 1), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        self._first = True
        self.seconds: list[float] = []
        self.memory = 0

    def turn(self) -> None:
        """Makes the steps of a turn; the first time what comes before them too, which is not counted."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if not self._first:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the process has ended with {self._process.wait()}")
        seconds, memory = line.split()
        if not self._first:
            self.seconds.append(float(seconds))
        self._first, self.memory = False, int(memory)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _compare(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if options.stream:
            _make_photographs(Path(folder))
        programs = [_Program(name, folder) for name in _PROGRAMS]
        try:
            for _ in range(options.turns + 1):
                for program in programs:
                    program.turn()
        finally:
            for program in programs:
                program.close()
    ordinary, ours = programs
    ratios = sorted(one / other for one, other in zip(ordinary.seconds, ours.seconds, strict=True))
    ratio, place = statistics.median(ratios), interval_place(len(ratios))
    interval = ratios[place], ratios[-1 - place]
    images = options.steps * options.batch_size
    speeds = [images / statistics.median(one.seconds) for one in programs]
    machine = _machine(options)
    if options.json:
        common.print_json({
            "machine": machine, "threads": options.threads, "channels": options.channels, "cells": options.cells,
            "batch_size": options.batch_size, "images_per_second": dict(zip(_PROGRAMS, speeds, strict=True)),
            "memory": {name: one.memory for name, one in zip(_PROGRAMS, programs, strict=True)},
            "ratio": ratio, "interval": interval, "turns": options.turns,
        })  # fmt: skip
        return
    memory = [round(one.memory / 2**30, 2) for one in programs]
    rows = list(zip(_PROGRAMS, (round(speed, 1) for speed in speeds), memory, strict=True))
    print(common.table(("program", "images/s", "GiB"), rows))
    shape = f"c0 {options.channels}, cells {' '.join(map(str, options.cells))}, batch {options.batch_size}"
    print(f"\n{machine}; {options.device}, {options.threads} threads; {shape}, {options.precision}")
    print(f"ours is {ratio:.2f} ({interval[0]:.2f} to {interval[1]:.2f}) times as fast, by {options.turns} turns of "
          f"{options.steps} steps")  # fmt: skip


def _make_photographs(folder: Path) -> None:
    """JPEG files, of noise that is smooth, as many for the training as a few batches have."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for split, count in (("train", _IMAGES), ("val", 10)):
        for number in range(count):
            small = generator.integers(0, 256, (35, 40, 3), dtype=np.uint8)
            path = folder / split / f"class-{number % 10}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(small).resize((400, 350)).save(path)


def _machine(options: argparse.Namespace) -> str:
    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
