"""What a search will cost, by a few steps of training on the devices that a job has (--dry-run --measure).

    every worker: a small, a typical and a large network, some steps each, all workers at once ─► WorkerCosts
    rank 0:       the search with these durations and these workers, by the virtual clock      ─► hours, disk

What is measured is what a search does, by its own trainer child: set-up, steps, validations at rungs and at the end.
How large the networks will be that a search comes to is not known before it; the simulated one makes up its fitness.
"""

from __future__ import annotations

import contextlib
import itertools
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hpcnas.architecture import sizes
from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig, TrainingSettings
from hpcnas.errors import Error
from hpcnas.job.devices import Binding
from hpcnas.job.log import duration, many
from hpcnas.messages import Evaluation, Failure, Task
from hpcnas.search import durations, simulation
from hpcnas.search.simulation import Site
from hpcnas.search.synthetic import Foresight
from hpcnas.training.trainer_process import TrainerEvaluator

_FIRST_STEPS = 2  # of a typical network, by which it is found out how many fill _LONG_ENOUGH
_LONG_ENOUGH = 3.0  # seconds of training
_LEAST_STEPS, _MOST_STEPS = 4, 500
_MOST_SIMULATED = 10_000  # evaluations; of a longer search, the rest is taken to go on like these
_COPIES = 3  # numbers that a checkpoint has for each parameter: weights, momentum, averages
_HOUR, _MIB, _GIB = 3600.0, 2**20, 2**30


class NotMeasured(Error):
    """Nothing could be measured: one sentence. `passes`: another try may."""

    def __init__(self, reason: str, passes: bool = False) -> None:
        super().__init__(reason)
        self.passes = passes


@dataclass(frozen=True)
class TimedTask:
    """What one task took: `seeds` trainings of `steps` steps, side by side as far as the method can. In seconds;
    `waiting` of them for images that stay on the host, and `device_memory` in bytes, where there is such."""

    network: str
    parameters: int
    flops: int
    seeds: int
    steps: int
    setup: float
    training: float
    validation: float
    waiting: float = 0.0
    device_memory: int | None = None

    def whole(self, steps: int) -> float:
        """Seconds of a task of so many steps."""
        return self.setup + self.training / self.steps * steps + self.validation


@dataclass(frozen=True)
class WorkerCosts:
    """What one worker has found: its device by name, how it trains, the seconds until it was ready, the most bytes of
    host memory that its trainer took, its tasks, and how many bytes of memory its device has, if that has its own."""

    device: str
    trains: str
    ready: float
    memory: int
    timed: tuple[TimedTask, ...]
    device_total: int | None = None


# ── on a worker ─────────────────────────────────────────────────────────────────────────────────────────────────────
def measure(
    config: SearchConfig, binding: Binding, networks: Mapping[str, Genotype], signal: Callable[[], str | None]
) -> WorkerCosts:
    """Trains every network for a few steps, alone and with all replicates of a fitness. `signal`: the one that this
    process is asked to leave by, if any. Raises NotMeasured, and EvaluatorRefused."""
    with tempfile.TemporaryDirectory() as folder:
        config = replace(config, run=replace(config.run, run=folder, profile=False, download=False))
        typical, counts = list(networks)[len(networks) // 2], sorted({1, config.training.replicates})
        trainer = _Trainer(config, binding, fitting_steps(config.training, _FIRST_STEPS), signal)
        with contextlib.closing(trainer.evaluator):
            first = trainer.timed(typical, networks[typical], counts[-1])
        steps = round(_LONG_ENOUGH * first.steps / max(first.training, 1e-9))
        steps = fitting_steps(config.training, min(max(steps, _LEAST_STEPS), _MOST_STEPS))
        trainer = _Trainer(config, binding, steps, signal)
        with contextlib.closing(trainer.evaluator):
            timed = [trainer.timed(name, one, count) for name, one in networks.items() for count in counts]
            memory, of_device = trainer.evaluator.memory_peak(), trainer.evaluator.device_memory
            total = None if of_device is None else of_device.total
            return WorkerCosts(trainer.device, trainer.trains, trainer.ready, memory, tuple(timed), total)


def fitting_steps(training: TrainingSettings, least: int) -> int:
    """So many steps, or the fewest above that in which every rung has a step of its own; never more than configured."""
    for steps in range(least, training.steps):
        rungs = (0, *replace(training, steps=steps).rung_steps, steps)
        if all(before < after for before, after in itertools.pairwise(rungs)):
            return steps
    return training.steps


class _Trainer:
    """A trainer child, ready, for trainings of so many steps. Raises EvaluatorRefused and NotMeasured."""

    def __init__(
        self, config: SearchConfig, binding: Binding, steps: int, signal: Callable[[], str | None]
    ) -> None:
        self._signal = signal
        self._config = replace(config, training=replace(config.training, steps=steps))
        self._tasks, began = 0, time.monotonic()
        self.evaluator = TrainerEvaluator(self._config, binding)
        try:
            while (loaded := self.evaluator.ready(timeout=1.0)) is None:
                self._leave_if_asked()
        except BaseException:
            self.evaluator.close()
            raise
        self.ready = time.monotonic() - began
        self._skeleton = config.skeleton(loaded.facts)
        self.trains = loaded.software["training"]
        self.device = loaded.software.get("gpu") or f"{_processor()}, {many(binding.threads, 'thread')}"

    def timed(self, name: str, network: Genotype, count: int) -> TimedTask:
        """So many trainings of a network. Raises NotMeasured, and EvaluatorRefused."""
        self._tasks += 1
        seeds, training = tuple(range(1, count + 1)), self._config.training
        self.evaluator.start(Task(self._tasks, 1, network, seeds, rungs=len(training.rungs)))
        while (outcome := self.evaluator.poll(timeout=1.0)) is None:
            self._leave_if_asked()
        if not isinstance(outcome, Evaluation):
            told = outcome.summary if isinstance(outcome, Failure) else "it was stopped"
            raise NotMeasured(f"the {name} network cannot be trained: {told}")
        size = sizes.size(expand(network), self._skeleton)
        spent = outcome.setup_seconds, outcome.training_seconds, outcome.validation_seconds
        of_device = self.evaluator.device_memory
        return TimedTask(
            name, size.parameters, size.flops, count, training.steps, *spent, outcome.waiting_seconds or 0.0,
            None if of_device is None else of_device.taken,
        )  # fmt: skip

    def _leave_if_asked(self) -> None:
        """Raises NotMeasured."""
        if (signal := self._signal()) is not None:
            raise NotMeasured(f"{signal} came before all was measured", passes=True)


def _processor() -> str:
    """The name of this host's CPU."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


# ── on rank 0 ───────────────────────────────────────────────────────────────────────────────────────────────────────
def forecast(config: SearchConfig, facts: DataFacts, found: Sequence[WorkerCosts]) -> list[str]:
    """Lines about what a search costs with these workers. Raises ConfigError where no job would get anywhere."""
    kinds = {one.device: [other for other in found if other.device == one.device] for one in found}
    steps, counts = config.training.steps, sorted({one.seeds for one in found[0].timed})
    lines = []
    for device, workers in kinds.items():
        memory, ready = max(one.memory for one in workers), statistics.median(one.ready for one in workers)
        lines.append(
            f"{device}: {many(len(workers), 'worker')}, {workers[0].trains}; ready after "
            f"{duration(ready)}, {memory / _GIB:.2f} GiB of host memory each"
        )
        lines += _device_lines(workers)
        lines += _table(workers, steps)
    base = {device: _durations(config, facts, workers, counts) for device, workers in kinds.items()}
    first = base[found[0].device]
    middle, most = float(np.median(first.flops)), counts[-1]
    paces = tuple(base[one.device].of(middle, most) / first.of(middle, most) for one in found)
    site = Site(len(found), max(one.ready for one in found), 0.0, simulation.HANDLING, paces)
    return [*lines, *_search(config, site, first), _checkpoints(config, found)]


def _device_lines(workers: Sequence[WorkerCosts]) -> list[str]:
    """Lines about the memory of the device, where it has its own, and about images that did not fit there."""
    lines, timed = [], [one for worker in workers for one in worker.timed]
    taken = max((one.device_memory for one in timed if one.device_memory is not None), default=0)
    totals = [worker.device_total for worker in workers if worker.device_total is not None]
    if taken and totals:
        total = min(totals)
        lines.append(
            f"  device memory: at the most {taken / _GIB:.2f} of {total / _GIB:.2f} GiB, images included: by that, "
            f"{many(total // taken, 'such worker')} can share a device (drivers and libraries take some more each)"
        )
    waited, spent = sum(one.waiting for one in timed), sum(one.training + one.validation for one in timed)
    if waited and spent:
        share = f"{min(1.0, waited / spent):.1%} of training and validation"
        lines.append(f"  images stay on the host: {share} is spent waiting for them")
    return lines


def _table(workers: Sequence[WorkerCosts], steps: int) -> list[str]:
    """What every network took, as several workers have timed it: their median. A line each, below a head."""
    of_device = any(one.device_memory is not None for worker in workers for one in worker.timed)
    head = ("network", "parameters", "MFLOPs", "trainings", "ms a step", "validation", "all steps")
    rows: list[tuple[str, ...]] = [(*head, "device memory") if of_device else head]
    for several in zip(*(one.timed for one in workers), strict=True):
        one = several[0]
        step = statistics.median(each.training / each.steps for each in several)
        validation = statistics.median(each.validation for each in several)
        whole = statistics.median(each.whole(steps) for each in several)
        rows.append((
            one.network, f"{one.parameters:,}", f"{one.flops / 1e6:,.1f}", str(one.seeds), f"{1e3 * step:,.1f}",
            f"{validation:.3g} s", duration(whole), *([_most_memory(several)] if of_device else []),
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        return "  ".join(("", row[0].ljust(widths[0]), *numbers))

    return [line(row) for row in rows]


def _most_memory(several: Sequence[TimedTask]) -> str:
    """The most that any worker's device was taken for by one network."""
    known = [one.device_memory for one in several if one.device_memory is not None]
    return f"{max(known) / _GIB:.2f} GiB" if known else "-"


def _durations(
    config: SearchConfig, facts: DataFacts, workers: Sequence[WorkerCosts], counts: Sequence[int]
) -> durations.MeasuredDurations:
    """The median of several workers with one kind of device, for trainings as long as the search's."""
    flops = sorted({one.flops for one in workers[0].timed})
    seconds = [
        [
            statistics.median(
                one.whole(config.training.steps)
                for worker in workers for one in worker.timed if (one.flops, one.seeds) == (size, count)
            )
            for count in counts
        ]
        for size in flops
    ]  # fmt: skip
    skeleton, known = config.skeleton(facts), np.array(flops, dtype=float)
    return durations.MeasuredDurations(skeleton, known, tuple(counts), np.array(seconds))


def _search(config: SearchConfig, site: Site, took: durations.MeasuredDurations) -> list[str]:
    """The lines about the whole search, and its file. Raises ConfigError."""
    budget = config.search.budget
    simulated = min(budget, max(_MOST_SIMULATED, config.search.initial_population))
    longer = budget / simulated
    still = replace(
        config.evaluation, evaluator="synthetic", synthetic_spread=0.0, synthetic_crashes=0.0, synthetic_hangs=0.0,
        synthetic_nans=0.0,
    )  # fmt: skip
    made_up = replace(config.training, fitness="accuracy", class_weights=None)  # the landscape has nothing else
    search = replace(config.search, budget=simulated)
    if config.measured_objective:
        search = replace(search, objective="parameters")  # likewise
    settings = replace(config, evaluation=still, training=made_up, search=search)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        report = simulation.simulate(settings, site, run, Foresight(settings, took))
        size = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
    jobs = "one job" if report.jobs == 1 else f"{round(report.jobs * longer):,} jobs"
    stopped = f", {round(report.stopped * longer):,} of them stopped early," if report.stopped else ""
    return [
        f"the search: {budget:,} evaluations{stopped} by {report.trainings * longer:,.0f} trainings: "
        f"{duration(report.wall_clock * longer)} with {many(site.workers, 'worker')}, "
        f"{report.worker_seconds * longer / _HOUR:,.3g} worker hours ({jobs}; without time in the queue)",
        "  simulated with these durations; the networks that a search comes to may be larger or smaller",
        f"disk: {size * longer / _MIB:,.1f} MiB for the run",
    ]


def _checkpoints(config: SearchConfig, found: Sequence[WorkerCosts]) -> str:
    """The line about checkpoints: as many as there are workers, of a large network."""
    largest = max(one.parameters for worker in found for one in worker.timed)
    size = len(found) * config.training.replicates * largest * 4 * _COPIES
    return f"and at the most {size / _MIB:,.1f} MiB for checkpoints, while it goes on"
