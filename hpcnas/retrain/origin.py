"""Which genotype `--genotype` names, and where it comes from: an individual of a search, a file, or the paper's cell.

What may be named is `references`' business.
"""

from __future__ import annotations

from dataclasses import fields, replace

from hpcnas import plugins
from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype
from hpcnas.config import data_spec
from hpcnas.config import search as search_config
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.individuals import Birth
from hpcnas.retrain.record import Origin
from hpcnas.search import references, run_file
from hpcnas.search.references import OfRun

# Settings of a search that say nothing about whether it went the paper's way, or that an origin names otherwise.
_ASIDE = ("search.space", "search.strategy", "search.max_parameters", "search.seed", "search.tournament_draw",
          "search.plugins", "training.precision", "data.split_seed")  # fmt: skip
_READ_BY = {  # those that some of the strategies of this package go by, and no other of them
    "search.initial_population": ("tournament", "aging", "nsga2", "guided"),
    "search.tournament_fraction": ("tournament", "guided"),
    "search.aging_population": ("aging",),
    "search.aging_sample": ("aging",),
    "search.survivors": ("nsga2",),
    "search.objective": ("nsga2",),
}


def resolve_genotype(text: str) -> tuple[Genotype, Origin]:
    """What `--genotype` names, which must be one genotype with a network. Raises ConfigError."""
    try:
        with plugins.done_without(lambda names: None):  # a genotype needs primitives alone, which reading asks for
            named = references.one(text)
        expansion.expand(named.genotype)
    except references.WrongReference as error:  # it names the text
        raise ConfigError(f"--genotype {error}") from None
    except expansion.InvalidGenotype as error:
        raise ConfigError(f"--genotype {text:.200}: {error}") from None
    return named.genotype, individual_origin(named) if isinstance(named, OfRun) else _given(text, named.genotype)


def _given(text: str, genotype: Genotype) -> Origin:
    return Origin(source=text, space=str(genotype.space))


def individual_origin(named: OfRun) -> Origin:
    """Where an individual of a search comes from, as that search stands now."""
    run, id, population = named.run, named.id, named.run.population
    fitness = float(population.column("fitness")[id])
    places = (population.evaluated == id).nonzero()[0]
    return Origin(
        source=f"{named.folder}:{id}",
        space=str(named.genotype.space),
        run=run.run,
        individual=id,
        strategy=run.config.search.strategy,
        fitness=None if fitness != fitness else fitness,
        evaluation=int(places[0]) if len(places) else None,
        evaluated=population.searched,
        fittest=id == population.best,
        max_parameters=run.config.search.max_parameters,
        departures=_departures(run),
        birth=Birth(population.column("birth")[id]),
    )


def _departures(run: run_file.StoredRun) -> str:
    """Where a search went another way than the paper's, `key value` each; empty where it did not."""
    settings, session = run.config, run.sessions[-1]
    if settings.search.initial is not None:  # whole genotypes by now
        settings = replace(settings, search=replace(settings.search, initial="given"))
    usual, aside = search_config.build(search_config.preset("paper")), (*_ASIDE, *idle(settings))
    told = [search_config.SCHEME.departures(usual, settings, aside)]
    if settings.search.confirm:  # any run may be confirmed: to the settings it is none that lasts
        told.append(f"confirm {settings.search.confirm}")
    if settings.training.precision == "bf16" or any(worker.numbers == "bfloat16" for worker in run.workers):
        told.append("precision bf16")
    data = data_spec.title(settings.data.source, session.facts.classes, session.facts.fingerprint)
    if data != data_spec.CIFAR10:
        told.append(f"data {data}")
    if "merged" in run.sessions[0].software:
        told.append("merged")
    return ", ".join(filter(None, told))


def idle(settings: search_config.SearchConfig) -> list[str]:
    """Settings, as `section.key`, that this search does not go by."""
    search, evaluation = settings.search, settings.evaluation
    idle = [name for name, readers in _READ_BY.items()
            if search.strategy in search_config.STRATEGIES and search.strategy not in readers]  # fmt: skip
    if not search.racing:
        idle.append("search.racing_confidence")
    if not search.early_stopping:
        idle.append("search.early_stopping_confidence")
    if evaluation.evaluator == "training":
        idle += [f"evaluation.{item.name}" for item in fields(evaluation) if item.name.startswith("synthetic_")]
    return idle
