"""The strategies by name, and making the configured one.

A new one is a file with a class like `tournament.TournamentEvolution`, a line in `STRATEGIES` here, and its name among
`config.STRATEGIES`; or it comes with a plugin.
"""

from __future__ import annotations

from collections.abc import Callable

from hpcnas import canonical, config, counting, plugins
from hpcnas.aging import AgingEvolution
from hpcnas.config import Config
from hpcnas.duplicates import DUPLICATES
from hpcnas.evolution import Allowed, Breeding, Strategy, StrategyRefused
from hpcnas.genotype import Genotype
from hpcnas.given import GivenFirst, kept
from hpcnas.messages import DataFacts
from hpcnas.nsga2 import Nsga2
from hpcnas.randomsearch import RandomSearch
from hpcnas.skeleton import Skeleton
from hpcnas.tournament import TournamentEvolution

MakeStrategy = Callable[[config.Search, Breeding], Strategy]

STRATEGIES: dict[str, MakeStrategy] = {
    "tournament": TournamentEvolution.of,
    "random": RandomSearch.of,
    "aging": AgingEvolution.of,
    "nsga2": Nsga2.of,
}


def make_strategy(config: Config, facts: DataFacts, attend: Callable[[], None] | None = None) -> Strategy:
    """The configured strategy for networks on this data; it calls `attend` whenever it has drawn a genotype, which it
    may do thousands of times for one birth, and lets pass what that raises. Raises StrategyRefused."""
    search, allowed, size = config.search, _attended(allowance(config, facts), attend), sizing(config, facts)
    breeding = Breeding(
        config.space, search.seed, search.initial_mutations, allowed, size, DUPLICATES[search.duplicates]
    )
    strategy = (STRATEGIES | plugins.strategies())[search.strategy](search, breeding)
    for method, needed in (("ask", True), ("bar", search.racing)):
        if needed and not callable(getattr(strategy, method, None)):
            why = " for --racing" if method == "bar" else ""
            raise StrategyRefused(
                f"strategy {search.strategy}: expected a method `{method}`{why}, got {type(strategy).__name__} without "
                "one (PLUGINS.md)"
            )
    given = kept(config.space, search.initial)
    return GivenFirst(given, breeding, strategy) if given else strategy


def _attended(allowed: Allowed, attend: Callable[[], None] | None) -> Allowed:
    if attend is None:
        return allowed

    def attended(genotype: Genotype) -> bool:
        attend()
        return allowed(genotype)

    return attended


def sizing(config: Config, facts: DataFacts) -> Callable[[Genotype], counting.Size]:
    """Parameters and FLOPs of a valid genotype's network."""
    skeleton = Skeleton.of(config.network, facts)
    return lambda genotype: counting.size(canonical.expand(genotype), skeleton)


def allowance(config: Config, facts: DataFacts) -> Allowed:
    """Whether a genotype may be evaluated: it is valid, and its network costs less than the limits (§4.2)."""
    skeleton, search = Skeleton.of(config.network, facts), config.search

    def allowed(genotype: Genotype) -> bool:
        if search.max_parameters is None and search.max_flops is None:
            return canonical.is_valid(genotype)
        try:
            size = counting.size(canonical.expand(genotype), skeleton)
        except canonical.InvalidGenotype:
            return False
        return (search.max_parameters is None or size.parameters < search.max_parameters) and (
            search.max_flops is None or size.flops < search.max_flops
        )

    return allowed
