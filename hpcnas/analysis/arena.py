"""The arena: how soon strategies find the best networks of published tables, by whole simulated searches.

    first networks ──► strategy ──► controller ──► workers by the virtual clock ──► accuracies of the table,
    the same for all   ours, or a peer's own code       │                           with their noise
                           ▲                            ▼                                 │
                           └──────────────────── population ◄─────────────────────────────┘

The loop is that of every search (`simulation`): asynchronous, with trainings whose durations are spread. What counts is
the *true* fitness of the individual that the search would return after each evaluation (`Population.best`). An
evaluation is a training unless options say otherwise; cost is worker time, in full trainings of mean duration. Where
the best are confirmed, the trainings that this takes at the most are taken off the search's budget.

Intervals are of 95 % confidence: for medians over the seeds from their order alone (`policies`), for shares of the
seeds Wilson's. A seed that never comes as far counts as later than all others. Draws nothing.
"""

from __future__ import annotations

import concurrent.futures
import functools
import math
import multiprocessing
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcnas.analysis import benchmark_tables, peers
from hpcnas.analysis.benchmark_tables import Benchmark, TableForesight
from hpcnas.analysis.policies import interval_place
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.mutation import NothingAllowed, redraw_until
from hpcnas.config import options
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig, SearchSettings, Settings
from hpcnas.config.settings import ConfigError
from hpcnas.evolution import initial
from hpcnas.evolution.confirmation import EACH
from hpcnas.evolution.registry import STRATEGIES, with_breeding
from hpcnas.evolution.strategy import Breeding, Strategy
from hpcnas.search import simulation
from hpcnas.search.controller import SearchStopped

SHARES = (0.01, 0.001)  # of all architectures, the best ones: the goals
OURS = tuple(name for name in STRATEGIES if name != "nsga2")  # nsga2 weighs fitness against a cost
_TRAINING = 3600.0  # mean seconds of a training


@dataclass(frozen=True)
class Terms:
    """What is the same for all contenders."""

    evaluations: int = 500
    workers: int = 100
    initial: int = 50  # networks that every search begins with, or all of its evaluations where these are fewer
    spread: float = 0.2  # standard deviation of the durations, as a share of their mean


@dataclass(frozen=True)
class Contender:
    """A way to search: options of a search, or the name of a peer."""

    name: str
    options: str
    peer: bool = False


@dataclass(frozen=True)
class Race:
    """One search: after each of its evaluations, the true fitness of what it would return, and the cost so far."""

    fitness: list[float]
    cost: list[float]  # in full trainings

    def reached(self, goal: float) -> int | None:
        """The number of the evaluation, from 1, after which it first returns one as good as the goal; None without."""
        return next((number for number, found in enumerate(self.fitness, start=1) if found >= goal), None)


def contender(text: str) -> Contender:
    """That of a name: a strategy, a peer, or NAME=OPTIONS. Raises AnalysisError for another name, and for a peer that
    is not installed: before searches of minutes."""
    name, _, how = text.partition("=")
    if how:
        return Contender(name, how)
    if name in peers.PEERS:
        peers.demand(name)
        return Contender(name, "", peer=True)
    if name not in STRATEGIES:
        known = ", ".join([*STRATEGIES, *peers.PEERS])
        raise AnalysisError(f"expected a contender ({known}) or NAME='OPTIONS OF A SEARCH', got {text!r:.100}")
    return Contender(name, f"--strategy {name}")


def settings(benchmark: Benchmark, how: str, seed: int, terms: Terms) -> SearchConfig:
    """The configuration of a search of that table with these options. Raises AnalysisError where they are wrong."""
    ours: Settings = {
        "search": {"aging_population": 100, "aging_sample": 25, "tournament_fraction": 0.05},
        "training": {"replicates": 1},
        "evaluation": {"synthetic_spread": terms.spread},
    }
    first = min(terms.initial, terms.evaluations)
    fixed: Settings = {
        "search": {"space": str(benchmark.layout.space), "seed": seed, "budget": terms.evaluations,
                   "initial_population": first},
        "evaluation": {"evaluator": "synthetic", "synthetic_seconds": _TRAINING},
    }  # fmt: skip
    try:
        request = options.parse(shlex.split(how))
        chosen = search_config.build(*request.base, ours, *request.layers, fixed)
        seconds = _TRAINING * chosen.training.replicates
        networks = initial.written(_first_networks(benchmark, chosen, first))
        budget = terms.evaluations - _confirmations(chosen.search)
        if budget < 1:
            raise ConfigError(
                f"expected more evaluations than the {_confirmations(chosen.search)} that confirming may take, got "
                f"{terms.evaluations}"
            )
        limits: dict[str, object] = {"budget": budget}
        if chosen.search.early_stopping:  # as much training, of more individuals
            trainings = budget * chosen.training.replicates
            limits = {"budget": math.ceil(budget / chosen.training.rungs[0]), "trainings": trainings}
        more: Settings = {
            "search": {"initial": networks, **limits},
            "evaluation": {"synthetic_seconds": seconds},
        }
        return search_config.build(*request.base, ours, *request.layers, fixed, more)
    except (ConfigError, NothingAllowed, options.UsageError, options.HelpWanted, ValueError) as error:
        raise AnalysisError(f"{how}: {error}") from error


def _confirmations(search: SearchSettings) -> int:
    """The trainings that confirming takes at the most, which the search is to do without."""
    return (search.confirm_trainings or EACH * search.confirm) if search.confirm else 0


def _first_networks(benchmark: Benchmark, config: SearchConfig, count: int) -> list[Genotype]:
    """The genotypes that every contender begins with; they depend on the seed alone."""
    breeding = benchmark_tables.breeding(benchmark, config)
    found = []
    for id in range(count):
        generator = breeding.generator(id)
        found.append(redraw_until(functools.partial(breeding.draw_initial, generator), breeding.allowed)[0])
    return found


def race(benchmark: Benchmark, who: Contender, seed: int, terms: Terms) -> Race:
    """One search by the virtual clock. Raises AnalysisError where it would stop before its evaluations are made."""
    config = settings(benchmark, who.options, seed, terms)
    breeding = benchmark_tables.breeding(benchmark, config)
    try:
        store = simulation.Noting(config)
        simulation.searched(
            config,
            simulation.Site(terms.workers, startup=0.0, queue=0.0, handling=simulation.HANDLING),
            foresight=TableForesight(config, benchmark),
            strategy=lambda facts: _strategy(benchmark, who, config, breeding),
            store=store,
        )
    except (ConfigError, SearchStopped) as error:
        raise AnalysisError(f"{who.name}: expected a search that makes its evaluations, but: {error}") from error
    population = store.population
    rows = [benchmark.row(population.individual(id).genotype) for id in store.results]
    seconds = population.column("worker_seconds")
    cost = (np.cumsum(seconds[population.evaluated]) + population.sums_of_stopped(seconds)) / _TRAINING
    return Race(benchmark.truth[rows].tolist(), cost.tolist())


def _strategy(benchmark: Benchmark, who: Contender, config: SearchConfig, breeding: Breeding) -> Strategy:
    """That of a contender, after the first networks."""
    if not who.peer:
        return with_breeding(config, breeding)
    first = initial.kept(config.space, config.search.initial)
    return initial.GivenFirst(first, breeding, peers.make(who.name, benchmark, breeding, len(first)))


@dataclass(frozen=True)
class Standing:
    """How the searches of one contender went, one a seed."""

    who: Contender
    races: list[Race]

    def regret(self, best: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Median and both ends of its interval, float64, each of shape (evaluations,): how far below the best of all
        is the true fitness of what would be returned."""
        longest = max(len(one.fitness) for one in self.races)
        whole = [one.fitness + one.fitness[-1:] * (longest - len(one.fitness)) for one in self.races]
        return _band(best - np.array(whole))


def standings(
    benchmark: Benchmark,
    contenders: Sequence[Contender],
    seeds: int,
    terms: Terms,
    processes: int = 1,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Standing]:
    """Searches of all contenders with seeds 0, 1, … in so many processes; `tell` is told of each that is done.

    Raises AnalysisError."""
    jobs = [(who, seed) for who in contenders for seed in range(seeds)]
    found: dict[str, list[Race]] = {who.name: [] for who in contenders}
    if len(found) < len(contenders):
        raise AnalysisError(f"expected contenders of different names, got {', '.join(who.name for who in contenders)}")
    for (who, seed), result in zip(jobs, _raced(benchmark, jobs, terms, processes), strict=True):
        found[who.name].append(result)
        tell(f"{benchmark.layout.name}, {who.name}, seed {seed}: regret {benchmark.best - result.fitness[-1]:.3%}")
    return [Standing(who, found[who.name]) for who in contenders]


def _raced(
    benchmark: Benchmark, jobs: Sequence[tuple[Contender, int]], terms: Terms, processes: int
) -> Iterator[Race]:
    """The searches in the order of the jobs."""
    if processes == 1:
        yield from (race(benchmark, who, seed, terms) for who, seed in jobs)
        return
    fresh = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, fresh, _open_table, (benchmark,)) as pool:
        try:
            yield from pool.map(_raced_in_child, *zip(*jobs, strict=True), [terms] * len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_table: list[Benchmark] = []  # of a child process, which gets it once


def _open_table(benchmark: Benchmark) -> None:
    _table[:] = [benchmark]


def _raced_in_child(who: Contender, seed: int, terms: Terms) -> Race:
    return race(_table[0], who, seed, terms)


def _band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median over the rows and both ends of its interval, each of shape (columns,)."""
    ordered = np.sort(values, axis=0)
    place = interval_place(len(ordered))
    middle = ordered[[(len(ordered) - 1) // 2, len(ordered) // 2]]
    return middle.mean(axis=0), ordered[place], ordered[-1 - place]


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The interval of 95 % confidence of a share of which `count` draws gave `hits` (Wilson 1927)."""
    z = 1.959964
    share, weight = hits / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / count + weight / count / 4) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def numbers(benchmark: Benchmark, found: Sequence[Standing], terms: Terms) -> dict[str, Any]:
    """What the table and the picture show, as JSON has it. Fitness and regret from 0 to 1; None is never."""
    return {
        "table": benchmark.layout.name,
        "best": benchmark.best,
        "evaluations": terms.evaluations,
        "workers": terms.workers,
        "initial_networks": terms.initial,
        "contenders": [_numbers_of(benchmark, one) for one in found],
    }


def _numbers_of(benchmark: Benchmark, standing: Standing) -> dict[str, Any]:
    median, low, high = standing.regret(benchmark.best)
    last = [benchmark.best - one.fitness[-1] for one in standing.races]
    return {
        "name": standing.who.name,
        "options": standing.who.options,
        "seeds": len(standing.races),
        "goals": [_goal_numbers(benchmark, standing.races, share) for share in SHARES],
        "final_regret_mean": float(np.mean(last)),
        "regret": median,
        "regret_low": low,
        "regret_high": high,
    }


def _goal_numbers(benchmark: Benchmark, races: Sequence[Race], share: float) -> dict[str, Any]:
    goal = benchmark.goal(share)
    at = [one.reached(goal) for one in races]
    hits = sum(number is not None for number in at)
    evaluations = [math.inf if number is None else float(number) for number in at]
    cost = [math.inf if number is None else one.cost[number - 1] for one, number in zip(races, at, strict=True)]
    return {
        "best_share": share,
        "fitness": goal,
        "hits": hits / len(races),
        "hits_interval": wilson(hits, len(races)),
        "evaluations": _told(evaluations),
        "cost": _told(cost),
    }


def _told(values: Sequence[float]) -> list[float | None]:
    """Median and both ends of its interval."""
    ends = [float(end[0]) for end in _band(np.array(values)[:, None])]
    return [end if math.isfinite(end) else None for end in ends]
