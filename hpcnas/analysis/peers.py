"""Programs of others that search, by their own code, as strategies of ours: for the arena alone.

    Asked.ask    tell the peer what was evaluated since ──► ask it for digits ──► Proposal

    optuna-tpe       Optuna's tree-structured Parzen estimator
    optuna-nsga2     Optuna's genetic algorithm
    neps-evolution   NePS' regularised evolution, as it comes
    smac             SMAC's random forest with expected improvement (its facade for hyperparameters), as it comes

Who they are and how they choose is theirs; the loop, the workers and the first networks are those of everybody in the
arena. Each digit of an architecture is one categorical parameter. SMAC is told that trainings do not differ, since it
would train the same network again otherwise, which the arena counts as another one.

None of them is needed by anything else: `hpcnas[peers]` installs them. What they choose depends on their own state, so
that no run of theirs could be replayed or continued; what SMAC chooses also on PYTHONHASHSEED.
"""

from __future__ import annotations

import logging
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from hpcnas.analysis.benchmark_tables import Benchmark, Layout
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture.mutation import NothingAllowed
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Breeding, Proposal, Strategy

_MOST_REFUSED = 10_000


class Peer(Protocol):
    """What a program of others is asked and told. Fitness is from 0 to 1."""

    def ask(self) -> tuple[Any, list[int]]:
        """What it calls its question, and the digits of the architecture that it wants evaluated. Raises
        NothingAllowed where it has none left."""
        ...

    def tell(self, question: Any, fitness: float) -> None:
        """The answer to a question of its own."""
        ...

    def add(self, digits: Sequence[int], fitness: float) -> None:
        """The fitness of an architecture that it has not asked for."""
        ...


class Asked:
    """The strategy that lets a peer choose."""

    def __init__(self, peer: Peer, benchmark: Benchmark, breeding: Breeding) -> None:
        self._peer, self._benchmark, self._breeding = peer, benchmark, breeding
        self._questions: dict[int, Any] = {}  # of individuals that are being trained
        self._told = 0  # evaluations

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        """What the peer asks for. A cell without a network is told to it at once, with the table's accuracy, at no
        cost. Raises NothingAllowed."""
        for known in population.evaluated[self._told : view].tolist():
            self._tell(population, known)
        self._told = view
        for refused in range(_MOST_REFUSED):
            question, digits = self._peer.ask()
            genotype = self._benchmark.genotype(digits)
            if self._breeding.allowed(genotype):
                self._questions[id] = question
                return Proposal(genotype, Birth.RANDOM, None, refused)
            self._peer.tell(question, float(self._benchmark.truth[self._benchmark.row(genotype)]))
        raise NothingAllowed(f"expected a genotype that is valid, but none of {_MOST_REFUSED} asked for was")

    def _tell(self, population: Population, id: int) -> None:
        fitness = float(population.column("fitness")[id])
        if id in self._questions:
            self._peer.tell(self._questions.pop(id), fitness)
        else:
            self._peer.add(self._benchmark.digits(population.individual(id).genotype), fitness)

    def bar(self, population: Population, view: int) -> float | None:
        """The best fitness."""
        return population.best_fitness(view) if view else None


def demand(name: str) -> None:
    """Raises AnalysisError where the package of the peer of that name is missing."""
    package = name.partition("-")[0]
    with _installed(package):
        match package:
            case "optuna":
                import optuna  # noqa: F401
            case "neps":
                import neps  # noqa: F401
            case "smac":
                import smac  # noqa: F401


@contextmanager
def _installed(package: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise AnalysisError(f"expected {package} for this peer, but {error}: pip install 'hpcnas[peers]'") from error


class OptunaStudy:
    """A study of Optuna, silent."""

    def __init__(self, layout: Layout, sampler: Callable[[Any], Any]) -> None:
        with _installed("optuna"):
            import optuna
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._create_trial = optuna.trial.create_trial
        self._study = optuna.create_study(direction="maximize", sampler=sampler(optuna.samplers))
        self._choices: dict[str, Any] = {
            f"digit {number}": optuna.distributions.CategoricalDistribution(range(len(layout.codes)))
            for number in range(len(layout.places))
        }

    def ask(self) -> tuple[Any, list[int]]:
        """A trial and its digits."""
        trial = self._study.ask(self._choices)
        return trial, [trial.params[name] for name in self._choices]

    def tell(self, question: Any, fitness: float) -> None:
        """The value of a trial."""
        self._study.tell(question, fitness)

    def add(self, digits: Sequence[int], fitness: float) -> None:
        """As a trial that is complete."""
        params = dict(zip(self._choices, digits, strict=True))
        self._study.add_trial(self._create_trial(params=params, distributions=self._choices, value=fitness))


class NepsTrials:
    """The trials of an optimizer of NePS. It draws from the random numbers of the whole process: here from its own.

    What it draws it gives to others under longer names than it knows them by itself. NePS 0.17 does not take these off
    the trials that it mutates and crosses, finds nothing there, and draws anew: random search. So trials have the short
    names here."""

    def __init__(self, layout: Layout, optimizer: Callable[[Any, Any], Any], seed: int) -> None:
        with _installed("neps"):
            import neps
            from neps.space.neps_spaces.neps_space import NepsCompatConverter
        digits = {f"digit_{place}": neps.Categorical(tuple(range(len(layout.codes)))) for place in layout.places}
        space = type("Digits", (neps.PipelineSpace,), digits)()
        self._random = random.Random(seed).getstate()
        self._trials = neps.AskAndTell(optimizer(neps.algorithms, space))
        self._prefix = NepsCompatConverter._SAMPLING_PREFIX
        with self._own_random():
            drawn = self._trials.optimizer({}, None).config
        self._names = [name.removeprefix(self._prefix) for name in drawn]  # of the digits
        self._told = 0

    def ask(self) -> tuple[Any, list[int]]:
        """A trial and its digits."""
        with self._own_random():
            trial = self._trials.ask()
        trial.config = {name.removeprefix(self._prefix): value for name, value in trial.config.items()}
        return trial, [trial.config[name] for name in self._names]

    def tell(self, question: Any, fitness: float) -> None:
        """The error of a trial. Which are the latest, NePS sees by the time: here, their order."""
        self._told += 1
        self._trials.tell(question, 1.0 - fitness, time_end=float(self._told))

    def add(self, digits: Sequence[int], fitness: float) -> None:
        """As a trial that is complete."""
        self._told += 1
        config = dict(zip(self._names, digits, strict=True))
        id, end = f"given {self._told}", float(self._told)
        self._trials.tell_custom(config_id=id, config=config, result=1.0 - fitness, time_end=end)

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        others = random.getstate()
        random.setstate(self._random)
        try:
            yield
        finally:
            self._random = random.getstate()
            random.setstate(others)


class SmacFacade:
    """A facade of SMAC, silent, without first configurations of its own."""

    def __init__(self, layout: Layout, seed: int) -> None:
        with _installed("smac"):
            import ConfigSpace
            import smac
            from smac import runhistory
            from smac.main.exceptions import ConfigurationSpaceExhaustedException
        self._spaces, self._history = ConfigSpace, runhistory
        logging.getLogger("smac").setLevel(logging.CRITICAL)
        self._space = ConfigSpace.ConfigurationSpace(seed=seed)
        self._names = [f"digit {number}" for number in range(len(layout.places))]
        for name in self._names:
            self._space.add(ConfigSpace.CategoricalHyperparameter(name, list(range(len(layout.codes)))))
        self._folder = tempfile.TemporaryDirectory()  # empty: else SMAC goes on with what lies in the current one
        scenario = smac.Scenario(
            self._space, output_directory=Path(self._folder.name), deterministic=True, n_trials=1_000_000, seed=seed
        )
        facade = smac.HyperparameterOptimizationFacade
        design = facade.get_initial_design(scenario, n_configs=0)
        once = facade.get_intensifier(scenario, max_config_calls=1)  # a training each
        self._facade = facade(scenario, initial_design=design, intensifier=once, logging_level=False)
        self._exhausted = (ConfigurationSpaceExhaustedException, StopIteration)
        self._seed: int | None = 0  # of all trials: SMAC draws one where it is asked before it is told any

    def ask(self) -> tuple[Any, list[int]]:
        """A trial and its digits."""
        try:
            trial = self._facade.ask()
        except self._exhausted as error:
            raise NothingAllowed("expected a network that SMAC has not asked for before, but it finds none") from error
        self._seed = trial.seed
        return trial, [int(trial.config[name]) for name in self._names]

    def tell(self, question: Any, fitness: float) -> None:
        """The cost of a trial."""
        self._facade.tell(question, self._history.TrialValue(cost=1.0 - fitness), save=False)

    def add(self, digits: Sequence[int], fitness: float) -> None:
        """As a trial that is complete; one of the same digits before it is forgotten."""
        values = dict(zip(self._names, digits, strict=True))
        config = self._spaces.Configuration(self._space, values=values)
        self.tell(self._history.TrialInfo(config, seed=self._seed), fitness)


PEERS: dict[str, Callable[[Layout, int, int], Peer]] = {
    "optuna-tpe": lambda layout, initial, seed: OptunaStudy(
        layout, lambda samplers: samplers.TPESampler(n_startup_trials=initial, seed=seed)
    ),
    "optuna-nsga2": lambda layout, initial, seed: OptunaStudy(
        layout, lambda samplers: samplers.NSGAIISampler(population_size=initial, seed=seed)
    ),
    "neps-evolution": lambda layout, initial, seed: NepsTrials(
        layout, lambda algorithms, space: algorithms.neps_regularized_evolution(space), seed
    ),
    "smac": lambda layout, initial, seed: SmacFacade(layout, seed),
}
"""Peers by name: of a table's layout, the number of initial networks and a seed, what makes one that knows nothing."""


def make(name: str, benchmark: Benchmark, breeding: Breeding, initial: int) -> Strategy:
    """The strategy that lets the peer of that name choose. Raises AnalysisError where its package is missing."""
    return Asked(PEERS[name](benchmark.layout, initial, breeding.seed), benchmark, breeding)
