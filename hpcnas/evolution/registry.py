"""The strategies by name, and how the configured one is made.

A new strategy is a file with a class like `tournament.TournamentEvolution`, a line in `STRATEGIES` here, and its name
in `STRATEGIES` of `config.search`; or a plugin brings it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hpcnas import answers, plugins
from hpcnas.architecture import expansion, sizes
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.mutation import DrawingStopped, NothingAllowed
from hpcnas.architecture.network_hash import HASH_BYTES
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig, SearchSettings
from hpcnas.evolution import objectives
from hpcnas.evolution.aging import AgingEvolution
from hpcnas.evolution.duplicates import DUPLICATES
from hpcnas.evolution.guided import Guided, told_prediction
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.initial import GivenFirst, kept
from hpcnas.evolution.nsga2 import Nsga2
from hpcnas.evolution.population import NOTHING, Population
from hpcnas.evolution.random_search import RandomSearch
from hpcnas.evolution.strategy import Allowed, Breeding, Expecting, Proposal, Strategy, StrategyRefused
from hpcnas.evolution.tournament import TournamentEvolution

MakeStrategy = Callable[[SearchSettings, Breeding], Strategy]

STRATEGIES: dict[str, MakeStrategy] = {
    "tournament": TournamentEvolution.of,
    "random": RandomSearch.of,
    "aging": AgingEvolution.of,
    "nsga2": Nsga2.of,
    "guided": Guided.of,
}


_MOST = 2**31  # counts below it fit into files


class StrategyMissing(StrategyRefused):
    """The strategy is a plugin's, and the run is read without that plugin."""


@dataclass(frozen=True)
class PluggedStrategy:
    """A plugin's strategy whose answers are checked: raises PluginFault where it raises or answers what it may not.

    Numbers of other types, such as numpy's, become Python's."""

    whose: str
    inner: Strategy

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        whose = f"{self.whose}: `ask`"
        may_pass = NothingAllowed, DrawingStopped
        found: object = plugins.answer(whose, self.inner.ask, population, id, view, but=may_pass)
        if not isinstance(found, Proposal):
            raise _unexpected(whose, f"a Proposal of space {population.space}", found)
        genotype: object = found.genotype
        if not isinstance(genotype, Genotype) or genotype.space != population.space:
            raise _unexpected(whose, f"a Proposal with a genotype of space {population.space}", genotype)
        numbers: dict[str, Any] = {}
        for name in ("parent", "redrawn", "known", "repeats"):
            value: object = getattr(found, name)
            number = numbers[name] = answers.whole(value)
            if number is None and (value is not None or name in ("redrawn", "known")):
                raise _unexpected(whose, f"a whole number for {name}", value)
            if number is not None and number >= _MOST:
                raise _unexpected(whose, f"for {name} a number below {_MOST}", number)
            if number is not None and name in ("parent", "repeats") and number >= len(population):
                raise _unexpected(whose, f"for {name} an individual below {len(population)}", number)
        first = numbers["repeats"]
        if first is not None and population.column("repeats")[first] >= 0:
            raise _unexpected(whose, "for repeats an individual that is no repeat itself", first)
        network: object = found.network
        if network is not None and not (isinstance(network, bytes) and len(network) == HASH_BYTES):
            raise _unexpected(whose, f"for network a hash of {HASH_BYTES} bytes, or None", network)
        birth: object = found.birth
        if not isinstance(birth, int) or birth not in set(Birth):
            raise _unexpected(whose, "a Birth", birth)
        return replace(found, birth=Birth(birth), **numbers)

    def bar(self, population: Population, view: int) -> float | None:
        found: object = plugins.answer(f"{self.whose}: `bar`", self.inner.bar, population, view)
        number = answers.real(found)
        if number is None and found is not None:
            raise _unexpected(self.whose, "a number or None from `bar`", found)
        return number


def _unexpected(whose: str, expected: str, found: object) -> plugins.PluginFault:
    return plugins.PluginFault(f"{whose}: expected {expected}, got {answers.told(found)}")


def is_known(name: str) -> bool:
    """Whether hpcnas itself or a plugin that is loaded has a strategy of that name."""
    return name in STRATEGIES or name in plugins.strategies()


def make_strategy(config: SearchConfig, facts: DataFacts, attend: Callable[[], None] | None = None) -> Strategy:
    """The configured strategy, for networks on data of these facts. Raises StrategyRefused and PluginFault.

    The strategy calls `attend` for each genotype that it draws, which may be thousands for one birth, and does not
    catch DrawingStopped, which `attend` may raise."""
    return with_breeding(config, _breeding(config, facts, attend))


def with_breeding(config: SearchConfig, breeding: Breeding) -> Strategy:
    """The configured strategy, whose genotypes `breeding` draws. Raises StrategyRefused and PluginFault."""
    search = config.search
    make = (STRATEGIES | plugins.strategies()).get(search.strategy)
    if make is None:
        missing = plugins.NotNamed(plugins.left_out(search.plugins))
        raise StrategyMissing(f"strategy {search.strategy} is a plugin's, {missing}")
    if search.strategy == "nsga2" and not objectives.is_known(search.objective):
        missing = plugins.NotNamed(plugins.left_out(search.plugins))
        raise StrategyMissing(f"objective {search.objective} is a plugin's, {missing}")
    whose = f"{plugins.bringer('strategies', search.strategy)}: strategy {search.strategy!r}"
    strategy = plugins.answer(whose, make, search, breeding)
    for method, needed in (("ask", True), ("bar", search.racing or search.early_stopping)):
        if needed and not callable(getattr(strategy, method, None)):
            why = "" if method == "ask" else " for --racing" if search.racing else " for --early-stopping"
            raise StrategyRefused(
                f"strategy {search.strategy}: expected a method `{method}`{why}, got {type(strategy).__name__} without "
                "one (PLUGINS.md)"
            )
    if search.strategy not in STRATEGIES:
        strategy = PluggedStrategy(whose, strategy)
    given = kept(config.space, search.initial)
    return GivenFirst(given, breeding, strategy) if given else strategy


def _breeding(config: SearchConfig, facts: DataFacts, attend: Callable[[], None] | None) -> Breeding:
    search, allowed = config.search, _attended(allowance(config, facts), attend)
    return Breeding(
        config.space, search.seed, search.initial_mutations, allowed, sizing(config, facts),
        DUPLICATES[search.duplicates],
    )  # fmt: skip


def guiding(config: SearchConfig, facts: DataFacts) -> Guided | None:
    """Strategy `guided` as it is in a search of these settings; None where they have another strategy."""
    return _reader(config, facts) if config.search.strategy == "guided" else None


def guiding_alone(config: SearchConfig, facts: DataFacts) -> Guided | None:
    """Likewise, one that nobody else has: for those who ask for models of earlier views again and again, and would make
    others learn the latest one anew."""
    return Guided.of(config.search, _breeding(config, facts, None)) if config.search.strategy == "guided" else None


def prediction(config: SearchConfig, facts: DataFacts, population: Population) -> str | None:
    """How well strategy `guided` predicts in this run by now, in words; None for every other strategy."""
    guided = guiding(config, facts)
    return None if guided is None else told_prediction(guided.model(population, population.searched_view))


@functools.lru_cache(maxsize=1)
def _reader(config: SearchConfig, facts: DataFacts) -> Guided:
    """Strategy `guided` for those who look at a run, perhaps again and again: it keeps the features of genotypes."""
    return Guided.of(config.search, _breeding(config, facts, None))


class Expectations:
    """What the configured strategy expects of the individuals of a run (`Population.expects`), as the search itself
    does: for those who read it. It is made when it is first asked, by the facts of the run's first session."""

    def __init__(self, config: SearchConfig, facts: Callable[[], DataFacts | None]) -> None:
        self._config, self._facts = config, facts
        self._strategy: Expecting | None = None

    def __call__(self, population: Population, view: int) -> Mapping[int, float]:
        """Empty where it expects nothing, and while no session has begun."""
        facts = self._facts() if self._strategy is None else None
        if facts is not None:
            self._strategy = _reader(self._config, facts)
        return self._strategy.expected(population, view) if self._strategy is not None else NOTHING


def expectations(config: SearchConfig, facts: Callable[[], DataFacts | None]) -> Expectations | None:
    """What `Population.expects` is in a run of that configuration; `facts` of its data, None while they are unknown."""
    return Expectations(config, facts) if config.search.strategy == "guided" else None


def _attended(allowed: Allowed, attend: Callable[[], None] | None) -> Allowed:
    """`allowed`, which first calls `attend`."""
    if attend is None:
        return allowed

    def attended(genotype: Genotype) -> bool:
        attend()
        return allowed(genotype)

    return attended


def sizing(config: SearchConfig, facts: DataFacts) -> Callable[[Genotype], sizes.Size]:
    """The function from a valid genotype to the parameters and FLOPs of its small network."""
    skeleton = config.skeleton(facts)
    return lambda genotype: sizes.size(expansion.expand(genotype), skeleton)


def allowance(config: SearchConfig, facts: DataFacts) -> Allowed:
    """The function that says whether a genotype may be evaluated: valid, and its network within the limits (§4.2)."""
    skeleton, search = config.skeleton(facts), config.search

    def allowed(genotype: Genotype) -> bool:
        if search.max_parameters is None and search.max_flops is None:
            return expansion.is_valid(genotype)
        try:
            size = sizes.size(expansion.expand(genotype), skeleton)
        except expansion.InvalidGenotype:
            return False
        return (search.max_parameters is None or size.parameters < search.max_parameters) and (
            search.max_flops is None or size.flops < search.max_flops
        )

    return allowed
