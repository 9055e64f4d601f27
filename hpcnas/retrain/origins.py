"""Which genotype a person means, and where it comes from: an individual of a search, a file, or the paper's cell.

Searches are read through `run_file` alone: also one that is under way.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hpcnas import plugins, text_file
from hpcnas.architecture import expansion, genotype
from hpcnas.architecture.genotype import Genotype, GenotypeError
from hpcnas.config import data_spec
from hpcnas.config import search as search_config
from hpcnas.config.settings import ConfigError
from hpcnas.retrain.record_file import Origin
from hpcnas.search import run_file
from hpcnas.search.run_file import StoreError

# Settings of a search that say nothing about whether it went the paper's way, or that an origin names by itself.
_ASIDE = ("search.space", "search.strategy", "search.max_parameters", "search.seed", "search.tournament_draw",
          "data.split_seed")  # fmt: skip


def resolve(text: str) -> tuple[Genotype, Origin]:
    """What `RUN`, `RUN:best`, `RUN:ID`, `FILE.toml` or `paper` names. Raises ConfigError, also for one without a
    network."""
    with plugins.done_without(lambda names: None):  # a genotype needs no more than primitives, which `read` asks for
        found, origin = _named(text)
    try:
        expansion.expand(found)
    except expansion.InvalidGenotype as error:
        raise ConfigError(f"--genotype {text}: {error}") from None
    return found, origin


def _named(text: str) -> tuple[Genotype, Origin]:
    path = Path(text)
    try:
        if text.endswith(".toml") or text_file.is_file(path):
            return _plain(Genotype.from_text(text_file.read(path)), text)
        if text == "paper" and not path.exists():
            return _plain(genotype.named(text), text)
    except (text_file.Unreadable, GenotypeError) as error:
        raise ConfigError(f"--genotype {text:.200}: expected a genotype: {error}") from None
    folder, colon, which = text.rpartition(":")
    if not colon or not re.fullmatch(r"best|\d{1,18}", which) or path.is_dir():
        folder, which = text, "best"
    try:
        run = run_file.read(Path(folder))
    except StoreError as error:
        raise ConfigError(f"--genotype {text:.200}: {error}") from None
    return _individual(text, run, which)


def _plain(found: Genotype, text: str) -> tuple[Genotype, Origin]:
    return found, Origin(source=text, space=str(found.space))


def _individual(text: str, run: run_file.StoredRun, which: str) -> tuple[Genotype, Origin]:
    population = run.population
    id = population.best if which == "best" else int(which)
    if id is None:
        raise ConfigError(f"--genotype {text}: no individual has been evaluated yet, so there is no best one")
    if id >= len(population):
        raise ConfigError(f"--genotype {text}: expected an individual below {len(population)}, got {id}")
    found = population.individual(id).genotype
    fitness = float(population.column("fitness")[id])
    places = (population.evaluated == id).nonzero()[0]
    origin = Origin(
        source=f"{text.removesuffix(f':{which}')}:{id}",
        space=str(found.space),
        run=run.run,
        individual=id,
        strategy=run.config.search.strategy,
        fitness=None if fitness != fitness else fitness,
        evaluation=int(places[0]) if len(places) else None,
        evaluated=len(population.evaluated),
        fittest=id == population.best,
        max_parameters=run.config.search.max_parameters,
        departures=_departures(run),
    )
    return found, origin


def _departures(run: run_file.StoredRun) -> str:
    """Where a search went another way than the paper's, `key value` each; empty where it did not."""
    settings, session = run.config, run.sessions[-1]
    if settings.search.initial is not None:  # whole genotypes by now
        settings = replace(settings, search=replace(settings.search, initial="given"))
    told = [search_config.SCHEME.departures(search_config.build(search_config.preset("paper")), settings, _ASIDE)]
    data = data_spec.title(settings.data.source, session.facts.classes, session.facts.fingerprint)
    if data != data_spec.CIFAR10:
        told.append(f"data {data}")
    if "merged" in run.sessions[0].software:
        told.append("merged")
    return ", ".join(filter(None, told))
