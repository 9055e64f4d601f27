"""Programs of others that search, by their own code, as strategies of ours: for the arena alone.

    ask    tell the peer what was evaluated since ──► ask it for digits ──► Proposal

Who they are and how they choose is theirs; the loop, the workers and the first networks are those of everybody in the
arena. None of them is needed by anything else: `hpcnas[peers]` installs them. What they choose depends on their own
state, so that no run of theirs could be replayed or continued.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpcnas.analysis.benchmark_tables import Benchmark
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture.mutation import NothingAllowed
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Breeding, Proposal, Strategy

_MOST_REFUSED = 10_000


def optuna_package() -> Any:
    """The package of Optuna, silent. Raises AnalysisError where it is missing."""
    try:
        import optuna
    except ImportError as error:
        raise AnalysisError(f"expected optuna for this peer, but {error}: pip install 'hpcnas[peers]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class OptunaStudy:
    """A study of Optuna with one categorical parameter a digit."""

    def __init__(self, benchmark: Benchmark, breeding: Breeding, sampler: Callable[[Any], Any]) -> None:
        optuna = optuna_package()
        self._optuna, self._benchmark, self._breeding = optuna, benchmark, breeding
        self._study = optuna.create_study(direction="maximize", sampler=sampler(optuna.samplers))
        self._choices = {
            f"digit {number}": optuna.distributions.CategoricalDistribution(range(len(benchmark.layout.codes)))
            for number in range(len(benchmark.layout.places))
        }
        self._asked: dict[int, Any] = {}  # individual → its trial
        self._told = 0  # evaluations

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """What the study asks for. A cell without a network is told to it at once, with the table's accuracy, at no
        cost. Raises NothingAllowed."""
        for known in population.evaluated[self._told : view].tolist():
            self._tell(population, known)
        self._told = view
        for refused in range(_MOST_REFUSED):
            trial = self._study.ask(self._choices)
            genotype = self._benchmark.genotype([trial.params[name] for name in self._choices])
            if self._breeding.allowed(genotype):
                self._asked[id] = trial
                return Proposal(genotype, Birth.RANDOM, None, refused)
            self._study.tell(trial, float(self._benchmark.truth[self._benchmark.row(genotype)]))
        raise NothingAllowed(f"expected a genotype that is valid, but none of {_MOST_REFUSED} asked for was")

    def _tell(self, population: Population, id: int) -> None:
        fitness = float(population.column("fitness")[id])
        trial = self._asked.pop(id, None)
        if trial is not None:
            self._study.tell(trial, fitness)
            return
        digits = self._benchmark.digits(population.individual(id).genotype)
        params = dict(zip(self._choices, digits, strict=True))
        create = self._optuna.trial.create_trial
        self._study.add_trial(create(params=params, distributions=self._choices, value=fitness))

    def bar(self, population: Population, view: int) -> float | None:
        """The best fitness."""
        return population.best_fitness(view) if view else None


def _tpe(initial: int, seed: int) -> Callable[[Any], Any]:
    return lambda samplers: samplers.TPESampler(n_startup_trials=initial, seed=seed)


def _nsga2(initial: int, seed: int) -> Callable[[Any], Any]:
    return lambda samplers: samplers.NSGAIISampler(population_size=initial, seed=seed)


SAMPLERS: dict[str, Callable[[int, int], Callable[[Any], Any]]] = {"optuna-tpe": _tpe, "optuna-nsga2": _nsga2}
"""Peers by name: of the number of initial networks and a seed, what makes the sampler of a study."""


def make(name: str, benchmark: Benchmark, breeding: Breeding, initial: int) -> Strategy:
    """The peer of that name, which knows nothing yet. Raises AnalysisError where its package is missing."""
    return OptunaStudy(benchmark, breeding, SAMPLERS[name](initial, breeding.seed))
