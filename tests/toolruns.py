"""Runs made by hand, in literal numbers, for the tests of the tools.

`eventful`: two sessions, retries, failures and mutations, in 9-edge genotypes. Times in seconds since 1970:

    session 1   1000 ─────────── 1100 ─────────── 1200        2 workers
    rank 1      0: evaluated     1: again, evaluated
    rank 2      1: oom  2: evaluated   3: nan  4: …            (until 1050, 1150, 1160)
    session 2   2000   4: 2020 to 2100, evaluated              1 worker
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from examples import SESSION, SPACE, WORKER

from hpcnas.architecture import genotype
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config import retraining
from hpcnas.config import search as search_config
from hpcnas.config.data_spec import DataFacts
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.messages import Evaluation, Failure, FailureKind, Place, Result, Stopped
from hpcnas.retrain import record_file
from hpcnas.retrain.record import Inputs, Origin, Record, RetrainingSession, State, Trained
from hpcnas.search import run_file
from hpcnas.search.file_store import FileStore

# Level 2: M1 and M2, then the cell; of each the edges 1-2, 1-3, 2-3. Primitives: 3 sep, 4 max, 6 id.
CHAIN = Genotype(SPACE, bytes([6, 0, 6, 3, 0, 3, 1, 0, 1]))
SHORTCUT = Genotype(SPACE, bytes([6, 0, 6, 3, 0, 3, 1, 2, 1]))  # cell 1-3: none → M2
POOLING = Genotype(SPACE, bytes([6, 0, 6, 3, 4, 3, 1, 2, 1]))  # M2 1-3: none → max
UNUSED = Genotype(SPACE, bytes([6, 0, 6, 3, 0, 1, 1, 0, 1]))  # of CHAIN: M2 2-3: sep → 1x1, and M2 is not in use


def created(folder: Path, **search: object) -> FileStore:
    """An empty run of 2 replicates."""
    settings = search_config.build(
        {"search": {"space": "2x3/1x3", "budget": 6, **search}, "training": {"replicates": 2}}
    )
    return FileStore.create(folder, settings)


def empty(folder: Path) -> Path:
    """A run in which nothing has happened yet."""
    created(folder).close()
    return folder


def _place(rank: int) -> Place:
    return Place(rank, "node-1", f"cuda:{rank - 1}")


def evaluation(accuracies: tuple[float, float], parameters: int) -> Evaluation:
    return Evaluation(accuracies, parameters, 1.0, 2.0, 3.0)


def eventful(folder: Path) -> Path:
    """See above. Budget 6; evaluated are 0, 2, 1, 4 in this order, failed is 3, nobody is in flight."""
    store = created(folder)
    store.begin(replace(SESSION, started=1000.0))
    store.birth(Individual(0, CHAIN, Birth.INITIAL, None, 0, 0, 1000.0))
    store.birth(Individual(1, SHORTCUT, Birth.INITIAL, None, 0, 3, 1000.0))
    failure = Failure(FailureKind.OOM, "Traceback\n  line\ntorch.OutOfMemoryError: 1 GiB too much")
    store.retry(Result(1, 1, _place(2), 1000.0, 1050.0, failure))
    store.birth(Individual(2, UNUSED, Birth.MUTATION, 0, 0, 0, 1050.0))
    store.settle(Result(0, 1, _place(1), 1000.0, 1100.0, evaluation((0.5, 0.625), 1000)))
    store.settle(Result(2, 1, _place(2), 1050.0, 1150.0, evaluation((0.625, 0.625), 2000)))
    store.birth(Individual(3, CHAIN, Birth.MUTATION, 2, 2, 0, 1150.0))
    store.settle(Result(3, 1, _place(2), 1150.0, 1160.0, Failure(FailureKind.NAN, "the loss was not finite")))
    store.birth(Individual(4, POOLING, Birth.MUTATION, 1, 2, 0, 1160.0))
    store.settle(Result(1, 2, _place(1), 1100.0, 1200.0, evaluation((0.75, 0.75), 3000)))
    store.begin(replace(SESSION, started=2000.0, ranks=2))
    store.join(replace(WORKER, session=1))
    store.settle(Result(4, 1, _place(1), 2020.0, 2100.0, evaluation((0.75, 0.875), 2500)))
    store.compact()
    store.close()
    return folder


def steady(folder: Path, fitness: Sequence[float], seconds: float, **search: object) -> Path:
    """One worker, one individual after the other, each evaluated in the same time."""
    store = created(folder, **search)
    store.begin(replace(SESSION, started=0.0, ranks=2))
    for id, value in enumerate(fitness):
        start = id * seconds
        store.birth(Individual(id, CHAIN, Birth.INITIAL, None, id, 0, start))
        store.settle(Result(id, 1, _place(1), start, start + seconds, evaluation((value, value), 1000)))
    store.compact()
    store.close()
    return folder


def curved(folder: Path) -> Path:
    """A search that stops early, with the rungs 0.25 and 0.5 and budget 8: 0 and 2 are evaluated, 1 was stopped at the
    second rung, 3 at the first, and 4 is in flight. Two workers; times are seconds since 1970."""
    settings = search_config.build(
        {"search": {"space": "2x3/1x3", "budget": 8, "early_stopping": True}},
        {"training": {"replicates": 2, "rungs": (0.25, 0.5)}},
    )
    store = FileStore.create(folder, settings)
    store.begin(replace(SESSION, started=0.0))
    store.birth(Individual(0, CHAIN, Birth.INITIAL, None, 0, 0, 0.0))
    store.birth(Individual(1, SHORTCUT, Birth.INITIAL, None, 0, 0, 0.0))
    stopped = Stopped(((0.125, 0.25), (0.125, 0.25)), 3000, 1.0, 2.0, 3.0)
    store.settle(Result(1, 1, _place(2), 0.0, 50.0, stopped))
    evaluated = Evaluation((0.5, 0.625), 1000, 1.0, 2.0, 3.0, ((0.25, 0.375), (0.25, 0.5)), 2)
    store.settle(Result(0, 1, _place(1), 0.0, 100.0, evaluated))
    store.birth(Individual(2, POOLING, Birth.MUTATION, 0, 0, 0, 50.0))
    store.birth(Individual(3, UNUSED, Birth.MUTATION, 0, 1, 0, 100.0))
    store.settle(Result(3, 1, _place(1), 100.0, 125.0, Stopped(((0.0625,), (0.1875,)), 2000, 1.0, 2.0, 3.0)))
    evaluated = Evaluation((0.75, 0.75), 2500, 1.0, 2.0, 3.0, ((0.375, 0.5), (0.5, 0.625)), 2)
    store.settle(Result(2, 1, _place(2), 50.0, 150.0, evaluated))
    store.birth(Individual(4, CHAIN, Birth.MUTATION, 2, 2, 0, 150.0))
    store.compact()
    store.close()
    return folder


INPUTS = Inputs(Skeleton(3, 8, 8, 4, 4, (1, 1), "plain"), ("cat", "dog", "owl", "emu"), (99.0, 50.5, 0.0),
                (60.0, 1.0, 255.0), resize=8)  # fmt: skip
OF_PAPER = Origin("paper", "hierarchical")
RETRAINED_ON = DataFacts(3, 32, 32, 10, 50_000, 0, "c1fa410000000000")


def retrained(
    folder: Path,
    accuracies: Sequence[float],
    origin: Origin = OF_PAPER,
    settings: Mapping[str, Mapping[str, object]] = {},
    inputs: Inputs = INPUTS,
    found: Genotype | None = None,
    facts: DataFacts = RETRAINED_ON,
    diverged: int = 0,
    numbers: str = "float32",
) -> Path:
    """A retraining of so many complete trainings, with these test accuracies, of some that diverged, and a last one
    that waits. No weights."""
    trainings = [
        Trained(seed, State.COMPLETE, 80_000, test_images=10_000, test_accuracy=accuracy, test_top5=(1 + accuracy) / 2)
        for seed, accuracy in enumerate(accuracies)
    ]
    trainings += [Trained(len(trainings) + more, State.DIVERGED, 70_000) for more in range(diverged)]
    trainings.append(Trained(len(trainings)))
    stored = Record(
        run="5" * 32, recipe=retraining.SCHEME.build(retraining.SCHEME.preset("cifar-large"), settings),
        genotype=found or genotype.named("paper"), origin=origin, inputs=inputs, parameters=15_727_306, flops=2,
        trainings=trainings,
        sessions=[RetrainingSession(1000.0, "node-1", 4321, 1, {"hpcnas": "0"}, facts, "cpu", numbers)],
    )  # fmt: skip
    folder.mkdir()
    record_file.write(folder, stored)
    return folder


def origin_of(run: Path, individual: int) -> Origin:
    """That of an individual of a run, retrained now."""
    stored = run_file.read(run)
    population, search = stored.population, stored.config.search
    evaluated = population.evaluated.tolist()
    return Origin(
        f"{run}:{individual}", str(stored.config.space), stored.run, individual, search.strategy,
        float(population.column("fitness")[individual]), evaluated.index(individual), len(evaluated),
        population.best == individual, search.max_parameters, "replicates 2, precision bf16, data digits",
        Birth(population.column("birth")[individual]),
    )  # fmt: skip
