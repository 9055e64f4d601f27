#!/usr/bin/env python3
"""How fast trainings are, against an ordinary PyTorch program for the same networks (make bench).

The ordinary program: plain modules, eager float32, torchvision's crop, flip and normalisation in a DataLoader with
two workers. Both train the same random genotypes on the same made-up images, by turns; on CPUs each in a process of its
own. Medians and ratios are printed, and beside them what the memory alone would take. --whole trains one whole fitness
of the paper's cell; --parity N compares what the plain network and the plan reach on the digits, seed by seed.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

from hpcnas import seeds
from hpcnas.architecture import expansion, mutation, sizes
from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.architecture.space import HIERARCHICAL
from hpcnas.command import common
from hpcnas.config.search import DataSettings, NetworkSettings, SearchConfig, TrainingSettings
from hpcnas.data.datasets import load_training
from hpcnas.training.choice import fastest_method
from hpcnas.training.cuda import block_graph
from hpcnas.training.cuda.block_graph import CudaGraph, CudaKind
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.method import TrainingData
from hpcnas.training.network import Network
from hpcnas.training.plain import PlainTraining

_WARMING_UP = 5  # steps that are not timed
_CPU = {"batch_size": 64, "steps": 12, "replicates": 1, "evaluation_steps": 100, "images": 2500}
_CUDA = {"batch_size": 256, "steps": 95, "replicates": 4, "evaluation_steps": 5000, "images": 50_000}


def main() -> int:
    """Runs the comparison, or, as one of its processes, one part of it."""
    parser = common.parser(__doc__, runs="")
    parser.add_argument("--genotypes", type=int, default=10, metavar="N", help="random genotypes (default: 10)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="seed of the genotypes (default: 1)")
    parser.add_argument("--channels", type=int, default=16, metavar="C0", help="c0 (default: 16)")
    parser.add_argument("--batch-size", type=int, metavar="B", help="images a step (default: 64; on CUDA 256)")
    parser.add_argument("--steps", type=int, metavar="S", help="timed steps of each (default: 12; on CUDA 95)")
    parser.add_argument("--replicates", type=int, metavar="R", help="trainings of a fitness (default: 1; on CUDA 4)")
    parser.add_argument(
        "--evaluation-steps", type=int, metavar="S", help="steps of a training in `ratio of all` (default: 100; 5000)"
    )
    parser.add_argument("--images", type=int, metavar="N", help="made-up images (default: 2500; on CUDA 50000)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="CPU threads of each (default: 1)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--whole", action="store_true", help="train one whole fitness of the paper's cell instead")
    parser.add_argument("--data", default="synthetic:50000", metavar="DATA", help="what --whole trains on")
    parser.add_argument("--parity", type=int, default=0, metavar="N", help="compare accuracies of N genotypes instead")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # naive:N or ours:N, in a process of its own
    options = parser.parse_args()
    for name, value in (_CUDA if options.device == "cuda" else _CPU).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    torch.set_num_threads(options.threads)
    if options.part:
        kind, _, number = options.part.partition(":")
        common.print_json(_measured(kind, int(number), options))
    elif options.whole:
        _whole(options)
    elif options.parity:
        _parity(options)
    else:
        _compare(options)
    return 0


def _genotype(seed: int, number: int) -> Genotype:
    """Genotype number 0 is the paper's cell, the others are random."""
    if number == 0:
        return named("paper")
    generator = seeds.birth_generator(seed, number)
    return mutation.redraw_until(lambda: mutation.diversified(HIERARCHICAL, 1000, generator), expansion.is_valid)[0]


def _settings(options: argparse.Namespace) -> TrainingSettings:
    """What is timed: the steps to warm up included."""
    steps = options.steps + _WARMING_UP
    return TrainingSettings(
        replicates=options.replicates, steps=steps, batch_size=options.batch_size, precision=options.precision
    )


@functools.cache
def _data(images: int, device: torch.device) -> TrainingData:
    return TrainingData.prepare(load_training(f"synthetic:{images}"), DataSettings(), device)


def _skeleton(options: argparse.Namespace) -> Skeleton:
    return Skeleton(3, 32, 32, 10, options.channels, (1, 1, 1))


# ── the two programs ────────────────────────────────────────────────────────────────────────────────────────────────
def _measured(kind: str, number: int, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of one program for one genotype: set-up, one step of one training, validation of one training; `total`
    is a whole fitness, made of these."""
    return (_naive if kind == "naive" else _ours)(_genotype(options.seed, number), options)


def _naive(genotype: Genotype, options: argparse.Namespace) -> dict[str, float]:
    """An ordinary program: one training after the other."""
    from hpcnas.data.torchvision_shim import import_torchvision

    import_torchvision()
    from torchvision import transforms

    device, settings = torch.device(options.device), _settings(options)
    data = _data(options.images, torch.device("cpu"))
    started = time.perf_counter()
    normalise = transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    augmented = transforms.Compose(
        [transforms.ToPILImage(), transforms.RandomCrop(24), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
         normalise]
    )  # fmt: skip
    plain = transforms.Compose([transforms.ToPILImage(), transforms.ToTensor(), normalise])
    training = _Images(data.pixels.numpy(), data.labels, augmented)
    validation = _Images(data.validation_pixels.numpy(), data.validation_labels, plain)
    pinned = device.type == "cuda"
    loader = torch.utils.data.DataLoader(
        training, options.batch_size, shuffle=True, num_workers=2, drop_last=True, pin_memory=pinned
    )
    network = Network(expand(genotype), _skeleton(options)).to(device)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    network.train()
    _wait(device)
    clock, step = _Clock(device, time.perf_counter() - started), 0
    while step < settings.steps:
        for images, labels in loader:
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(images.to(device)), labels.to(device))
            loss.backward()
            optimiser.step()
            step += 1
            clock.stepped(step)
            if step == settings.steps:
                break
    clock.stop()
    started = time.perf_counter()
    network.eval()
    with torch.no_grad():
        for images, _ in torch.utils.data.DataLoader(validation, 250, num_workers=2, pin_memory=pinned):
            network(images.to(device)).argmax(1).cpu()
    validated = time.perf_counter() - started
    total = options.replicates * (clock.setup + options.evaluation_steps * clock.step + validated)
    return {"setup": clock.setup, "step": clock.step, "validation": validated, "total": total}


class _Images(torch.utils.data.Dataset):
    """Images with a transform, as an ordinary program has them."""

    def __init__(self, pixels: np.ndarray, labels: torch.Tensor, transform: object) -> None:
        self._pixels, self._labels, self._transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._transform(self._pixels[index]), self._labels[index]


def _ours(genotype: Genotype, options: argparse.Namespace) -> dict[str, float]:
    """The same of this program: all trainings of a fitness that it makes at the same time."""
    device, settings, skeleton = torch.device(options.device), _settings(options), _skeleton(options)
    data = _data(options.images, device)
    _wait(device)
    started = time.perf_counter()
    method = fastest_method(device, options.threads, settings, skeleton)
    together = min(options.replicates, method.side_by_side)
    trainings = method.of(genotype, skeleton, data, settings, tuple(range(1, together + 1)))
    _wait(device)
    clock = _Clock(device, time.perf_counter() - started)
    trainings.run(lambda: clock.stepped(trainings.step))
    clock.stop()
    started = time.perf_counter()
    trainings.accuracies(lambda: None)
    validated = time.perf_counter() - started
    turns, step = options.replicates / together, clock.step / together
    total = turns * (clock.setup + validated) + options.replicates * options.evaluation_steps * step
    return {"setup": clock.setup, "step": step, "validation": validated / together, "total": total}


class _Clock:
    """Times steps but for the first few: the median on a CPU; the mean on a GPU, which works on while the program does.

    What the first steps take longer than others counts as set-up."""

    def __init__(self, device: torch.device, setup: float) -> None:
        self._device = device
        self._setup = setup
        self._started = time.perf_counter()
        self._at: list[tuple[int, float]] = []  # (step, time)

    def stepped(self, step: int) -> None:
        """Called after steps."""
        self._last = step
        if step >= _WARMING_UP and (self._device.type == "cpu" or not self._at):
            self._mark()

    def stop(self) -> None:
        """Called after the last step."""
        if self._at[-1][0] != self._last:
            self._mark()

    def _mark(self) -> None:
        _wait(self._device)
        self._at.append((self._last, time.perf_counter()))

    @property
    def step(self) -> float:
        """Seconds a step."""
        if self._device.type == "cpu":
            return statistics.median(after[1] - before[1] for before, after in itertools.pairwise(self._at))
        (first, began), (last, ended) = self._at
        return (ended - began) / (last - first)

    @property
    def setup(self) -> float:
        """Seconds before, and of, what is done once."""
        first, began = self._at[0]
        return self._setup + max(0.0, began - self._started - first * self.step)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# ── comparing ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _compare(options: argparse.Namespace) -> None:
    rows, ratios, totals = [], [], []
    device = torch.device(options.device)
    bandwidth = _copy_bandwidth(device)
    if device.type == "cuda":
        started = time.perf_counter()
        _measured("ours", 0, options)
        print(
            f"first evaluation on this machine: {time.perf_counter() - started:.1f} s, kernels compiled",
            file=sys.stderr,
        )
    side, share = 24, (24 / 32) ** 2
    for number in range(options.genotypes + 1):
        naive, ours = _part("naive", number, options), _part("ours", number, options)
        graph = expand(_genotype(options.seed, number))
        flops = 3 * sizes.size(graph, _skeleton(options)).flops * share * options.batch_size
        of_blocks = block_graph.build(graph, _skeleton(options))
        moved = (_block_bytes if device.type == "cuda" else _bytes)(of_blocks, options.batch_size, side)
        name = "paper" if number == 0 else str(number)
        ratio, total = naive["step"] / ours["step"], naive["total"] / ours["total"]
        milliseconds = [1e3 * value for value in (naive["step"], ours["step"], moved / bandwidth)]
        rows.append((name, *milliseconds, flops / ours["step"] / 1e9, ratio, naive["total"], ours["total"], total))
        if number > 0:
            ratios.append(ratio)
            totals.append(total)
    found = {
        "machine": _machine(device),
        "device": options.device,
        "threads": options.threads,
        "batch_size": options.batch_size,
        "channels": options.channels,
        "replicates": options.replicates,
        "evaluation_steps": options.evaluation_steps,
        "copy_bandwidth": bandwidth,
        "ratio_of_steps": statistics.median(ratios),
        "ratio_of_evaluations": statistics.median(totals),
        "genotypes": rows,
    }
    if options.json:
        common.print_json(found)
        return
    header = (
        "genotype",
        "naive ms",
        "ours ms",
        "memory alone ms",
        "GFLOP/s",
        "ratio",
        "naive s",
        "ours s",
        "ratio of all",
    )
    print(common.table(header, [(name, *(round(value, 2) for value in values)) for name, *values in rows]))
    shape = f"{options.threads} thread, batch {options.batch_size}, c0 {options.channels}"
    print(f"\n{found['machine']}; {options.device}, {shape}")
    print(f"ms: one step of one training; s: a fitness of {options.replicates} × {options.evaluation_steps} steps with "
          f"set-up and validation, from {options.steps} timed steps")  # fmt: skip
    print(f"copy bandwidth {bandwidth / 1e9:.1f} GB/s (read and written)")
    print(f"median of {len(ratios)} random genotypes: steps {found['ratio_of_steps']:.2f} times as fast, "
          f"a fitness {found['ratio_of_evaluations']:.2f} times")  # fmt: skip


def _machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}"


def _part(kind: str, number: int, options: argparse.Namespace) -> dict[str, float]:
    """One measurement; on a CPU in a process of its own, with the environment that a trainer gets."""
    if options.device == "cuda":
        return _measured(kind, number, options)
    command = [sys.executable, __file__, "--part", f"{kind}:{number}"]
    given = ("seed", "channels", "batch_size", "steps", "replicates", "evaluation_steps", "images", "device", "threads",
             "precision")  # fmt: skip
    for name in given:
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    if kind == "ours":
        environment |= {"MALLOC_MMAP_THRESHOLD_": str(8 << 30), "MALLOC_TRIM_THRESHOLD_": str(16 << 30)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read plus written, of a large copy; by one thread on a CPU."""
    size = 1 << (32 if device.type == "cuda" else 26)
    source, target = (
        torch.ones(size, dtype=torch.uint8, device=device),
        torch.empty(size, dtype=torch.uint8, device=device),
    )
    target.copy_(source)
    times = []
    for _ in range(7):
        _wait(device)
        started = time.perf_counter()
        target.copy_(source)
        _wait(device)
        times.append(time.perf_counter() - started)
    return 2 * size / statistics.median(times)


def _bytes(graph: CudaGraph, batch: int, side: int) -> float:
    """Bytes that a step of the C plan moves at the least: a normalised block six times, a pooled one five times; what
    separable convolutions have in their middle is not kept."""
    kinds = (CudaKind.MAXIMUM, CudaKind.AVERAGE)
    pooled = {operation.output for operation in graph.operations if operation.kind in kinds}
    total = 0.0
    for number, block in enumerate(graph.blocks):
        times = 6 if block.normalisation is not None else 5 if number in pooled else 0
        total += 4.0 * times * batch * (side / 2**block.shape.halvings) ** 2 * block.shape.channels
    return total


def _block_bytes(graph: CudaGraph, batch: int, side: int) -> float:
    """Bytes that a step of a block plan moves, had every kernel to fetch what it reads: forward, a block is written and
    read by each of its readers; backward, it is read, its gradient written, and once more passed through the
    normalisation; each reader's gradient is read for each of its inputs."""

    def size(number: int) -> float:
        shape = graph.blocks[number].shape
        return 2.0 * batch * (side / 2**shape.halvings) ** 2 * shape.channels

    total = 0.0
    for number, block in enumerate(graph.blocks):
        total += size(number) * (3 if block.normalisation is None else 6)
    for operation in graph.operations:
        total += sum(size(number) for number in operation.inputs) + size(operation.output) * len(operation.inputs)
    return total


def _whole(options: argparse.Namespace) -> None:
    """One fitness of the paper's cell, trained to its end, as a worker does."""
    device = torch.device(options.device)
    settings = TrainingSettings(
        replicates=options.replicates, steps=options.evaluation_steps, batch_size=options.batch_size,
        precision=options.precision,
    )  # fmt: skip
    data = TrainingData.prepare(load_training(options.data), DataSettings(), device)
    skeleton = SearchConfig(network=NetworkSettings(channels=options.channels)).skeleton(data.facts)
    method = fastest_method(device, options.threads, settings, skeleton)
    started = time.perf_counter()
    fitness = FitnessInProgress(
        named("paper"), tuple(range(1, settings.replicates + 1)), skeleton, data, settings, method
    ).run(lambda: None, lambda: None)
    found = {
        "machine": _machine(device),
        "training": method.stored_name,
        "seconds": time.perf_counter() - started,
        "setup": fitness.setup_seconds,
        "trainings": fitness.training_seconds,
        "validation": fitness.validation_seconds,
        "accuracies": fitness.accuracies,
        "memory": torch.cuda.max_memory_allocated() if device.type == "cuda" else 0,
    }
    if options.json:
        common.print_json(found)
        return
    print(
        f"{found['machine']}: the paper's cell, {settings.replicates} × {settings.steps} steps of {settings.batch_size}"
    )
    print(f"{found['seconds']:.1f} s: set-up {fitness.setup_seconds:.1f}, trainings {fitness.training_seconds:.1f}, "
          f"validation {fitness.validation_seconds:.1f}; {found['memory'] / 1e9:.1f} GB on the device")  # fmt: skip
    print(f"fitness {fitness.fitness:.4f}:", *(f"{accuracy:.4f}" for accuracy in fitness.accuracies))


def _parity(options: argparse.Namespace) -> None:
    """Accuracies of the plain network and of the fastest method on the digits, the same seeds: mean difference and its
    standard error."""
    device = torch.device(options.device)
    data = TrainingData.prepare(load_training("digits"), DataSettings(), device)
    plain, fast = (
        TrainingSettings(replicates=1, steps=150, batch_size=64, flip=False, precision=precision)
        for precision in ("fp32", options.precision)
    )
    skeleton, differences, means = Skeleton(1, 8, 8, 10, 8, (1, 1, 1)), [], []
    methods = ((PlainTraining, plain), (fastest_method(device, 1, fast, skeleton), fast))
    for number in range(1, options.parity + 1):
        reached = []
        for method, settings in methods:
            training = method.of(_genotype(options.seed, number), skeleton, data, settings, (number,))
            training.run(lambda: None)
            reached += training.accuracies(lambda: None)
        differences.append(reached[1] - reached[0])
        means.append(reached)
    error = statistics.stdev(differences) / len(differences) ** 0.5
    found = {
        "genotypes": options.parity,
        "method": methods[1][0].stored_name,
        "plain": statistics.fmean(plain for plain, _ in means),
        "plan": statistics.fmean(plan for _, plan in means),
        "difference": statistics.fmean(differences),
        "standard_error": error,
    }
    if options.json:
        common.print_json(found)
    else:
        print(f"{options.parity} genotypes on the digits, 150 steps: plain {found['plain']:.4f}, "
              f"{found['method']} {found['plan']:.4f}")  # fmt: skip
        print(f"difference {found['difference']:+.4f} ± {error:.4f} (standard error)")


if __name__ == "__main__":
    sys.exit(common.run(main))
