#!/usr/bin/env python3
"""What one controller can do: evaluations a second, memory, start-up, and opening of big runs (make bench, make
bench-scale).

    throughput   population × workers × durability: the real controller and store, workers that answer in no time
    asks         strategy × population: milliseconds until a strategy has said who is born next, of births in a row
    growth       from 0 to N individuals in one go, on the disk: is it flat, and what does an individual take?
    opening      the run that has grown, for analysis and for resuming
    ranks        real jobs under mpirun with --evaluator synthetic: start-up, memory, evaluations a second
    simulation   python -m hpcnas simulate

Every measurement is a process of its own. `durable` writes to the disk of --folder, `memory` nowhere. An evaluation a
second is one result in, recorded, and one task out. Times of a busy machine are no one's: the load is printed beside.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import itertools
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from hpcnas.architecture.expansion import expand, is_valid
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.mutation import mutate
from hpcnas.architecture.space import Space
from hpcnas.command import common
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig, Settings
from hpcnas.evolution.individuals import Birth, State, recorded_columns
from hpcnas.evolution.population import Population
from hpcnas.evolution.registry import STRATEGIES, make_strategy
from hpcnas.job.session import Session
from hpcnas.messages import Evaluation, FromWorker, Left, Place, Ready, Result, Stop, ToWorker
from hpcnas.search import landscape, run_file
from hpcnas.search.controller import Controller
from hpcnas.search.file_store import FileStore
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.run_file import StoredRun
from hpcnas.search.synthetic import FACTS

PARTS = ("throughput", "asks", "growth", "opening", "ranks", "simulation")
MARK = "HPCNAS_BENCH_JOB"
Row = dict[str, Any]


def main() -> int:
    """Runs the parts that were asked for, or, as one of their processes, one measurement."""
    parser = common.parser(__doc__, runs="")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["throughput", "ranks"], metavar="PART",
                        help=f"what to measure: {', '.join(PARTS)} (default: throughput, ranks)")  # fmt: skip
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 10_000, 100_000], metavar="N",
                        help="individuals that there are already (default: 0 10000 100000)")  # fmt: skip
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 200], metavar="W", help="default: 2 200")
    parser.add_argument("--strategies", choices=STRATEGIES, nargs="+", default=["tournament"], metavar="NAME",
                        help="of throughput and asks (default: tournament)")  # fmt: skip
    parser.add_argument("--evaluations", type=int, default=4000, metavar="N", help="timed, of each (default: 4000)")
    parser.add_argument("--grow-to", type=int, default=1_000_000, metavar="N", help="default: 1000000")
    parser.add_argument("--ranks", type=int, nargs="+", default=[3], metavar="R", help="default: 3")
    parser.add_argument("--steps", type=int, nargs=2, action="append", metavar=("W", "N"),
                        help="simulate W workers and N evaluations (default: 200 7000)")  # fmt: skip
    parser.add_argument("--mpirun", type=Path, metavar="PATH", help="default: .venv's MPICH, else the PATH's")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR",
                        help="where runs are written: the disk that is measured")  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the JSON there as well")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # JSON: one measurement, in a process of its own
    options = parser.parse_args()
    if options.one:
        order = json.loads(options.one)
        common.print_json(MEASUREMENTS[order.pop("kind")](**order))
        return 0
    if "opening" in options.parts and "growth" not in options.parts:
        common.fail("--parts opening: expected growth beside it, which makes the run that is opened")
    if options.output:
        try:
            options.output.touch()  # not to find out after half an hour
        except OSError as error:
            common.fail(f"--output {options.output}: expected a file that can be written: {error.strerror}")
    found: Row = {"machine": machine(), "command": " ".join(sys.argv)}
    with tempfile.TemporaryDirectory(prefix="hpcnas-bench-", dir=options.folder) as folder:
        for part in PARTS:
            if part in options.parts:
                rows = [_one(order) for order in _orders(part, options, folder)]
                found[part] = rows
                if not options.json:
                    _show(part, rows)
    if options.output:
        options.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.json:
        common.print_json(found)
    return 0


def machine() -> Row:
    """What the figures were measured on, and what else it was doing."""
    models = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").open() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "load": os.getloadavg(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _orders(part: str, options: argparse.Namespace, folder: str) -> list[Row]:
    """The measurements of a part."""
    run = f"{folder}/run"
    if part == "throughput":
        return [
            {"kind": part, "size": size, "workers": workers, "durable": durable, "evaluations": options.evaluations,
             "folder": run, "strategy": strategy}
            for strategy in options.strategies for size in options.sizes for workers in options.workers
            for durable in (True, False)
        ]  # fmt: skip
    if part == "asks":
        return [{"kind": part, "size": size, "strategy": strategy, "asks": min(size // 2, options.evaluations)}
                for strategy in options.strategies for size in options.sizes if size >= 4]  # fmt: skip
    if part == "growth":
        return [{"kind": part, "size": options.grow_to, "workers": max(options.workers), "folder": f"{folder}/grown"}]
    if part == "opening":
        return [{"kind": "opening", "folder": f"{folder}/grown", "size": options.grow_to, "resume": resume}
                for resume in (False, True)]  # fmt: skip
    if part == "ranks":
        mpirun = str(options.mpirun or _mpirun())
        return [{"kind": part, "mpirun": mpirun, "ranks": ranks, "seconds": seconds, "folder": run}
                for ranks in options.ranks for seconds in (0.0, 2.0)]  # fmt: skip
    return [{"kind": part, "workers": workers, "steps": steps, "folder": run}
            for workers, steps in options.steps or [(200, 7000)]]  # fmt: skip


def _one(order: Row) -> Row:
    """One measurement, in a fresh process; its folder is left for the next part only where that needs it."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", json.dumps(order)], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        common.fail(f"the measurement {order} has failed: see above")
    if order.get("folder", "").endswith("/run"):
        shutil.rmtree(order["folder"], ignore_errors=True)
    found: Row = json.loads(done.stdout)
    return found | {"load": round(os.getloadavg()[0], 1)}


def _show(part: str, rows: list[Row]) -> None:
    print(f"\n{part}")
    print(common.table(list(rows[0]), [[_short(value) for value in row.values()] for row in rows]), flush=True)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


# ── the controller by itself ────────────────────────────────────────────────────────────────────────────────────────
class Crew:
    """ControllerEnd whose workers answer each task at once, with made-up accuracies; or with those of the landscape, of
    which a strategy can learn."""

    def __init__(self, workers: int, learnable: bool) -> None:
        self._learnable = learnable
        self._places = {rank: Place(rank, f"node-{rank % 50}", "cuda:0") for rank in range(1, workers + 1)}
        self._inbox: collections.deque[tuple[int, FromWorker]] = collections.deque(
            (rank, Ready(place, FACTS, {})) for rank, place in self._places.items()
        )
        self._accuracies = (0.87 + 0.01 * np.random.default_rng(0).standard_normal((4096, 4))).tolist()

    def send(self, worker: int, message: ToWorker) -> None:
        if isinstance(message, Stop):
            self._inbox.append((worker, Left()))
            return
        now, accuracies = time.time(), self._accuracies[message.individual % 4096]
        if self._learnable:
            true = landscape.true_fitness(expand(message.genotype))
            accuracies = [true + accuracy / 10 for accuracy in accuracies]
        evaluation = Evaluation(tuple(accuracies), 500_000, 0.0, 0.0, 0.0)
        result = Result(message.individual, message.attempt, self._places[worker], now, now, evaluation)
        self._inbox.append((worker, result))

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        arrived = list(self._inbox)
        self._inbox.clear()
        return arrived


class Killed(Exception):
    """The controller has died."""


class Watch:
    """An observer that notes the time and the memory at every so many evaluations, and kills at so many."""

    def __init__(self, every: int, last: float = float("inf")) -> None:
        self._every = every
        self._last_of_all = last
        self._next = 0
        self.notes: list[tuple[int, float, int]] = []  # evaluations, seconds, bytes resident
        self.longest = 0.0  # seconds between two rounds
        self._last = time.perf_counter()

    def began(self, session: Session) -> None: ...

    def warned(self, text: str) -> None: ...

    def settled(self, result: Result, store: MemoryStore) -> None: ...

    def leaving(self, reason: str) -> None: ...

    def turned(self, store: MemoryStore, busy: int, workers: int) -> None:
        now, done = time.perf_counter(), len(store.population.evaluated)
        self.longest, self._last = max(self.longest, now - self._last), now
        if done >= self._next:
            self.notes.append((done, now, _resident()))
            self._next = (done // self._every + 1) * self._every
        if done >= self._last_of_all:
            raise Killed


def _resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def settings(budget: int, strategy: str = "tournament") -> SearchConfig:
    """The paper's search with that budget, by that strategy."""
    chosen: Settings = {
        "search": {"budget": budget, "strategy": strategy}, "evaluation": {"evaluator": "synthetic"},
    }  # fmt: skip
    return search_config.build(search_config.preset("paper"), chosen)


def search(store: MemoryStore, workers: int, watch: Watch) -> None:
    """Searches to the end of the store's budget."""
    chosen = store.config
    crew = Crew(workers, learnable=chosen.search.strategy == "guided")
    Controller(
        chosen, store, lambda facts: make_strategy(chosen, facts), crew, range(1, workers + 1), {}, watch
    ).run()


def filled(size: int, strategy: str = "tournament") -> StoredRun:
    """A run of so many evaluated individuals, made up; those of `guided` have genotypes and fitness to learn from."""
    chosen = settings(max(1, size), strategy)
    generator, rows = np.random.default_rng(0), np.arange(size)
    accuracies = 0.87 + 0.01 * generator.standard_normal((size, 4))
    genotypes = np.frombuffer(named("paper").codes, dtype=np.uint8)
    if strategy == "guided":
        drawn = list(itertools.islice(_random_walk(chosen.space, generator), size))
        accuracies = np.array([landscape.true_fitness(expand(one)) for one in drawn])[:, None] + accuracies / 10
        genotypes = np.array([list(one.codes) for one in drawn], dtype=np.uint8)
    given: Row = {
        "birth": Birth.MUTATION, "parent": np.maximum(-1, rows - 100), "view": np.maximum(0, rows - 50), "born": 1.7e9,
        "genotype": genotypes, "state": State.EVALUATED, "attempts": 1,
        "accuracies": accuracies, "replicates_trained": 4, "fitness": accuracies.mean(axis=1), "parameters": 500_000,
        "setup_seconds": 0.0, "training_seconds": 0.0, "validation_seconds": 0.0, "started": 1.7e9, "finished": 1.7e9,
        "rank": 1, "host": b"node-1", "device": b"cuda:0",
    }  # fmt: skip
    widths = {"": (), "edges": (chosen.space.edges,), "replicates": (4,), "hash": (16,)}
    columns = {}
    for column in recorded_columns(0):
        values = np.full((size, *widths[column.width]), column.missing, dtype=column.dtype)
        values[:] = given.get(column.name, column.missing)
        columns[column.name] = values
    population = Population.from_columns(chosen.space, 4, columns, rows, [])
    sessions = [Session(1.7e9, "node-0", 1, 2, {}, FACTS)] if size else []
    return StoredRun(uuid.uuid4().hex, 0, chosen, population, sessions)


def _random_walk(space: Space, generator: np.random.Generator) -> Iterator[Genotype]:
    """Valid genotypes, each some mutations away from the one before."""
    genotype = named("paper")
    while True:
        for _ in range(5):
            genotype = mutate(genotype, generator)
        if is_valid(genotype):
            yield genotype


def measure_throughput(size: int, workers: int, durable: bool, evaluations: int, folder: str, strategy: str) -> Row:
    """Evaluations a second on top of a population of that size; the first fifth is not timed."""
    start = filled(size, strategy)
    chosen = settings(size + evaluations + 200, strategy)
    if durable:
        FileStore.create(Path(folder), chosen).close()
        start.run = run_file.read(Path(folder)).run
        start.config = chosen
        run_file.write(Path(folder) / "population.h5", start)
        store: MemoryStore = FileStore.open(Path(folder))
    else:
        store = MemoryStore(chosen)
        store.population, store.sessions = start.population, start.sessions
    del start
    watch = Watch(every=max(1, evaluations // 100))
    search(store, workers, watch)
    store.close()
    begin = next(note for note in watch.notes if note[0] >= size + 200 + evaluations // 5)
    end = next(note for note in reversed(watch.notes) if note[0] <= size + 200 + evaluations)
    return {"strategy": strategy, "population": size, "workers": workers, "durable": durable,
            "evaluations": end[0] - begin[0], "per_second": (end[0] - begin[0]) / (end[1] - begin[1])}  # fmt: skip


def measure_asks(size: int, strategy: str, asks: int) -> Row:
    """Milliseconds of an ask in a population of that size, of which one more is known at each."""
    start = filled(size, strategy)
    made, took = make_strategy(start.config, FACTS), []
    for number in range(asks):
        began = time.perf_counter()
        made.ask(start.population, size + number, size - asks + number)
        took.append(1000.0 * (time.perf_counter() - began))
    return {"strategy": strategy, "population": size, "asks": asks, "mean_ms": float(np.mean(took[1:])),
            "median_ms": float(np.median(took[1:])), "longest_ms": max(took[1:])}  # fmt: skip


def measure_growth(size: int, workers: int, folder: str) -> Row:
    """From an empty population to that size, on the disk: rates of its tenths, memory, and the longest pause."""
    store = FileStore.create(Path(folder), settings(size))
    watch = Watch(every=max(1, size // 10))
    before = _resident()
    began = time.perf_counter()
    search(store, workers, watch)
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    store.close()
    found: Row = {"workers": workers, "seconds": took, "per_second": size / took}
    for number, (one, other) in enumerate(zip(watch.notes, watch.notes[1:], strict=False), start=1):
        found[f"tenth_{number}"] = (other[0] - one[0]) / (other[1] - one[1])
    return found | {
        "longest_pause_s": watch.longest,
        "bytes_each": (watch.notes[-1][2] - before) / size,
        "peak_bytes_each": (peak - before) / size,
    }


def measure_opening(size: int, folder: str, resume: bool) -> Row:
    """Seconds from the folder to a population with its ranking. For resuming, with a tail of a tenth in the journal,
    as a controller leaves it that is killed just before it renews the file."""
    path = Path(folder)
    if resume:
        store = FileStore.open(path)
        chosen = settings(2 * size)
        store.config = dataclasses.replace(chosen, run=dataclasses.replace(chosen.run, compact_interval=1e9))
        with contextlib.suppress(Killed):
            search(store, 200, Watch(every=size, last=size + size // 10))
        store.close()
    started = time.perf_counter()
    if resume:
        opened: FileStore | StoredRun = FileStore.open(path)
    else:
        opened = run_file.read(path)
    opened.population.ranking(len(opened.population.evaluated))
    took = time.perf_counter() - started
    return {"individuals": len(opened.population), "for": "resuming" if resume else "analysis", "seconds": took,
            "file_mb": (path / "population.h5").stat().st_size / 1e6,
            "journal_mb": (path / "journal").stat().st_size / 1e6}  # fmt: skip


# ── real jobs ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _mpirun() -> Path:
    """The environment's MPICH, else the PATH's launcher."""
    wheel = Path(sys.prefix, "mpi/mpich/bin/mpirun")
    found = wheel if wheel.exists() else shutil.which("mpirun")
    if found is None:
        common.fail("expected an mpirun: `make environment` brings one, --mpirun names another")
    return Path(found)


def measure_ranks(mpirun: str, ranks: int, seconds: float, folder: str) -> Row:
    """A job from start to end: ten evaluations a worker that take that long, or many that take no time."""
    budget = 10 * (ranks - 1) if seconds else 20_000
    mark = uuid.uuid4().hex
    library = Path(mpirun).parent.parent / "lib"
    environment = os.environ | {MARK: mark, "OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1",
                                "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PRTE_MCA_rmaps_default_mapping_policy":
                                ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1"}  # fmt: skip
    if library.is_dir() and not os.environ.get("MPI4PY_LIBMPI"):
        environment["MPI4PY_LIBMPI"] = str(library)
    command = [mpirun, "-np", str(ranks), sys.executable, "-m", "hpcnas", "--preset", "paper", "--evaluator",
               "synthetic", "--synthetic-seconds", str(seconds), "--budget", str(budget), "--run", folder,
               "--progress", "plain"]  # fmt: skip
    launched = time.time()
    pss, heavy = 0, 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as job:
        while job.poll() is None:
            time.sleep(1.0)
            if seconds and not pss and _evaluated(Path(folder)) > 0:
                time.sleep(3.0)
                pss, heavy = _memory(mark)
        ended = time.time()
    left = len(_processes(mark))
    if job.returncode:
        common.fail(f"{' '.join(command)} returned {job.returncode}")
    population = run_file.read(Path(folder)).population
    rank, started = population.column("rank"), population.column("started")
    finished = np.sort(population.column("finished")[population.evaluated])
    first = {int(number): float(started[rank == number].min()) - launched for number in np.unique(rank)}
    middle = finished[len(finished) // 10 : -len(finished) // 10]
    return {"ranks": ranks, "evaluation_s": seconds, "evaluated": len(finished), "workers_seen": len(first),
            "first_task_s": min(first.values()), "all_working_s": max(first.values()),
            "per_second": len(middle) / (middle[-1] - middle[0]), "ended_s": ended - launched,
            "pss_gb": pss / 1e9, "with_torch_or_hdf5": heavy, "left_running": left}  # fmt: skip


def _evaluated(folder: Path) -> int:
    """What RUN/status says."""
    try:
        lines = (folder / "status").read_text().splitlines()
        return int(dict(line.split("=", 1) for line in lines)["evaluated"])
    except (OSError, KeyError, ValueError):
        return 0


def _processes(mark: str) -> list[psutil.Process]:
    """The job's living processes."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return [process for process in found if process.pid != os.getpid()]


def _memory(mark: str) -> tuple[int, int]:
    """Proportional set sizes of the job's processes, in bytes in all, and how many have loaded torch or HDF5."""
    total = heavy = 0
    for process in _processes(mark):
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            maps = Path(f"/proc/{process.pid}/maps").read_text()
        except OSError:
            continue
        total += next(1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        heavy += "libtorch" in maps or "hdf5" in maps
    return total, heavy


def measure_simulation(workers: int, steps: int, folder: str) -> Row:
    """Time and memory of a simulation that keeps its run, so that the store is the real one."""
    command = [sys.executable, "-m", "hpcnas", "simulate", "--preset", "paper", "--workers", str(workers),
               "--budget", str(steps), "--json", "--keep", folder]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    took, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    report = json.loads(done.stdout)
    return {"workers": workers, "steps": steps, "seconds": took, "peak_gb": peak / 1e9,
            "virtual_hours": report["wall_clock"] / 3600, "idle_share": report["idle_share"],
            "best": report["best_fitness"]}  # fmt: skip


MEASUREMENTS: dict[str, Callable[..., Row]] = {
    "throughput": measure_throughput,
    "asks": measure_asks,
    "growth": measure_growth,
    "opening": measure_opening,
    "ranks": measure_ranks,
    "simulation": measure_simulation,
}


if __name__ == "__main__":
    sys.exit(common.run(main))
