#!/usr/bin/env python3
"""How fast one training is, against an ordinary PyTorch program for the same network (make bench).

The ordinary program: plain modules, eager float32, torchvision's crop, flip and normalisation in a DataLoader with
two workers. Both train the same random genotypes on the same made-up images, each in a process of its own, by turns.
Medians and ratios are printed, and beside them what the memory alone would take. --parity N compares what the two
kinds of training of this program reach on the digits, seed by seed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

import numpy as np
import toolkit
import torch

from hpcnas import canonical, config, counting, mutation, seeds
from hpcnas.canonical import CellGraph, expand
from hpcnas.data import DataSet, load_training
from hpcnas.genotype import Genotype, named
from hpcnas.network import Network
from hpcnas.planned import PlannedTraining, fastest_training
from hpcnas.skeleton import Skeleton
from hpcnas.space import HIERARCHICAL
from hpcnas.training import Training, TrainingData

IMAGES = 2500  # of 32×32 pixels in three channels; a fifth of them for validation


def main() -> int:
    """Runs the comparison, or, as one of its processes, one part of it."""
    parser = toolkit.parser(__doc__, runs="")
    parser.add_argument("--genotypes", type=int, default=10, metavar="N", help="random genotypes (default: 10)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="seed of the genotypes (default: 1)")
    parser.add_argument("--channels", type=int, default=16, metavar="C0", help="c0 (default: 16)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="B", help="images a step (default: 64)")
    parser.add_argument("--steps", type=int, default=12, metavar="S", help="timed steps of each (default: 12)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="threads of each (default: 1)")
    parser.add_argument("--parity", type=int, default=0, metavar="N", help="compare accuracies of N genotypes instead")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # naive:N or ours:N, in a process of its own
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.part:
        kind, _, number = options.part.partition(":")
        toolkit.print_json((_naive if kind == "naive" else _ours)(_genotype(options.seed, int(number)), options))
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
    return mutation.redraw_until(lambda: mutation.diversified(HIERARCHICAL, 1000, generator), canonical.is_valid)[0]


def _settings(options: argparse.Namespace) -> config.Training:
    return config.Training(replicates=1, steps=options.steps + 2, batch_size=options.batch_size)


def _skeleton(options: argparse.Namespace) -> Skeleton:
    return Skeleton(3, 32, 32, 10, options.channels, 1, 3)


# ── the two programs ────────────────────────────────────────────────────────────────────────────────────────────────
def _naive(genotype: Genotype, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of set-up, of a step (median) and of validation, of an ordinary program."""
    from hpcnas.torchvision_shim import import_torchvision

    import_torchvision()
    from torchvision import transforms

    device, settings = torch.device(options.device), _settings(options)
    data = TrainingData.prepare(load_training(f"synthetic:{IMAGES}"), config.Data(), torch.device("cpu"))
    started = time.perf_counter()
    normalise = transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    augmented = transforms.Compose(
        [transforms.ToPILImage(), transforms.RandomCrop(24), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
         normalise]
    )  # fmt: skip
    plain = transforms.Compose([transforms.ToPILImage(), transforms.ToTensor(), normalise])
    training = _Images(data.pixels.numpy(), data.labels, augmented)
    validation = _Images(data.validation_pixels.numpy(), data.validation_labels, plain)
    loader = torch.utils.data.DataLoader(training, options.batch_size, shuffle=True, num_workers=2, drop_last=True)
    network = Network(expand(genotype), _skeleton(options)).to(device)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    setup, times = time.perf_counter() - started, []
    network.train()
    before = time.perf_counter()
    while len(times) < settings.steps:
        for images, labels in loader:
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(images.to(device)), labels.to(device))
            loss.backward()
            optimiser.step()
            _wait(device)
            times.append(time.perf_counter() - before)
            before = time.perf_counter()
            if len(times) == settings.steps:
                break
    started = time.perf_counter()
    network.eval()
    with torch.no_grad():
        for images, _ in torch.utils.data.DataLoader(validation, 250, num_workers=2):
            network(images.to(device)).argmax(1).cpu()
    return _figures(setup, times, time.perf_counter() - started)


class _Images(torch.utils.data.Dataset):
    """Images with a transform, as an ordinary program has them."""

    def __init__(self, pixels: np.ndarray, labels: torch.Tensor, transform: object) -> None:
        self._pixels, self._labels, self._transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._transform(self._pixels[index]), self._labels[index]


def _ours(genotype: Genotype, options: argparse.Namespace) -> dict[str, float]:
    """The same of this program's training."""
    device = torch.device(options.device)
    dataset: DataSet = load_training(f"synthetic:{IMAGES}")
    data = TrainingData.prepare(dataset, config.Data(), device)
    started = time.perf_counter()
    kind = fastest_training(device, options.threads)
    training = kind(genotype, _skeleton(options), data, _settings(options), seed=1)
    setup, times = time.perf_counter() - started, []
    before = time.perf_counter()

    def beat() -> None:
        nonlocal before
        _wait(device)
        times.append(time.perf_counter() - before)
        before = time.perf_counter()

    training.run(beat)
    started = time.perf_counter()
    training.validate(lambda: None)
    return _figures(setup, times, time.perf_counter() - started)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _figures(setup: float, times: list[float], validation: float) -> dict[str, float]:
    """The first two steps warm up; all in seconds. `total` is an evaluation of 100 steps and one validation."""
    step = statistics.median(times[2:])
    return {"setup": setup, "step": step, "validation": validation, "total": setup + 100 * step + validation}


# ── comparing ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _compare(options: argparse.Namespace) -> None:
    rows, ratios, totals = [], [], []
    bandwidth = _copy_bandwidth()
    for number in range(options.genotypes + 1):
        naive, ours = _part("naive", number, options), _part("ours", number, options)
        graph = expand(_genotype(options.seed, number))
        flops = 3 * counting.size(graph, _skeleton(options)).flops * (24 / 32) ** 2 * options.batch_size
        floor = _bytes(graph, options) / bandwidth
        name = "paper" if number == 0 else str(number)
        ratio, total = naive["step"] / ours["step"], naive["total"] / ours["total"]
        rows.append(
            (name, naive["step"] * 1e3, ours["step"] * 1e3, ratio, total, floor * 1e3, flops / ours["step"] / 1e9)
        )
        if number > 0:
            ratios.append(ratio)
            totals.append(total)
    found = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "device": options.device,
        "threads": options.threads,
        "batch_size": options.batch_size,
        "channels": options.channels,
        "copy_bandwidth": bandwidth,
        "ratio_of_steps": statistics.median(ratios),
        "ratio_of_evaluations": statistics.median(totals),
        "genotypes": rows,
    }
    if options.json:
        toolkit.print_json(found)
        return
    header = ("genotype", "naive ms", "ours ms", "ratio", "ratio of all", "memory alone ms", "GFLOP/s")
    print(toolkit.table(header, [(name, *(round(value, 2) for value in values)) for name, *values in rows]))
    shape = f"{options.threads} thread, batch {options.batch_size}, c0 {options.channels}"
    print(f"\n{found['machine']}; {options.device}, {shape}")
    print(f"copy bandwidth {bandwidth / 1e9:.1f} GB/s (read and written)")
    print(f"median of {len(ratios)} random genotypes: steps {found['ratio_of_steps']:.2f} times as fast, "
          f"evaluations of 100 steps {found['ratio_of_evaluations']:.2f} times")  # fmt: skip


def _part(kind: str, number: int, options: argparse.Namespace) -> dict[str, float]:
    """One measurement in a process of its own, with the environment that a trainer gets."""
    command = [sys.executable, __file__, "--part", f"{kind}:{number}"]
    for name in ("seed", "channels", "batch_size", "steps", "device", "threads"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    if kind == "ours":
        environment |= {"MALLOC_MMAP_THRESHOLD_": str(8 << 30), "MALLOC_TRIM_THRESHOLD_": str(16 << 30)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _copy_bandwidth() -> float:
    """Bytes a second, read plus written, of a large copy by one thread."""
    source, target = np.ones(1 << 26, np.uint8), np.empty(1 << 26, np.uint8)
    np.copyto(target, source)
    times = []
    for _ in range(7):
        started = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - started)
    return 2 * len(source) / statistics.median(times)


def _bytes(graph: CellGraph, options: argparse.Namespace) -> float:
    """Bytes that a step of a plan moves at the least: a map is written, read on the way there and on the way back, its
    gradient written and read; what is normalised is written once and read three times."""
    total, side = 0.0, 24
    for stage in _skeleton(options).stages():
        width = counting.node_channels(graph, stage.channels)
        normalised = sum(
            counting.primitives.output_channels(edge.operation, width[edge.source], stage.channels)
            for edge in graph.edges
            if edge.operation in (1, 2, 3)
        )
        total += 4 * options.batch_size * side * side * (5 * sum(width) + 4 * normalised)
        side = -(-side // stage.stride)
    return total


def _parity(options: argparse.Namespace) -> None:
    """Accuracies of both kinds of training on the digits, the same seeds: mean difference and its standard error."""
    data = TrainingData.prepare(load_training("digits"), config.Data(), torch.device("cpu"))
    settings = config.Training(replicates=1, steps=150, batch_size=64, flip=False)
    skeleton, differences, means = Skeleton(1, 8, 8, 10, 8, 1, 3), [], []
    for number in range(1, options.parity + 1):
        reached = []
        for kind in (Training, PlannedTraining):
            training = kind(_genotype(options.seed, number), skeleton, data, settings, seed=number)
            training.run(lambda: None)
            reached.append(training.validate(lambda: None))
        differences.append(reached[1] - reached[0])
        means.append(reached)
    error = statistics.stdev(differences) / len(differences) ** 0.5
    found = {
        "genotypes": options.parity,
        "plain": statistics.fmean(plain for plain, _ in means),
        "plan": statistics.fmean(plan for _, plan in means),
        "difference": statistics.fmean(differences),
        "standard_error": error,
    }
    if options.json:
        toolkit.print_json(found)
    else:
        print(
            f"{options.parity} genotypes on the digits, 150 steps: plain {found['plain']:.4f}, plan {found['plan']:.4f}"
        )
        print(f"difference {found['difference']:+.4f} ± {error:.4f} (standard error)")


if __name__ == "__main__":
    sys.exit(main())
