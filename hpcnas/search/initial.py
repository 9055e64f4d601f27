"""Looks up what `--initial` names: files of genotypes and the best of earlier runs (see `initial`).

    FILE        genotypes in their text form, one after the other (`cat one.toml two.toml > both.toml`)
    RUN, RUN:K  the best individual of a run, or its K best, each of another network
    codes:HEX   an array form, as a run keeps it

They may come from runs on other data or of other settings: they are evaluated anew. Of equal networks one is taken.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hpcnas import plugins, text_file
from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype, GenotypeError
from hpcnas.architecture.network_hash import network_hash
from hpcnas.architecture.space import Space
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.initial import CODES, of_codes, written
from hpcnas.search import run_file
from hpcnas.search.run_file import StoreError


def looked_up(settings: SearchConfig) -> SearchConfig:
    """The configuration with the genotypes themselves in place of their sources. Raises ConfigError."""
    if settings.search.initial is None:
        return settings
    found: dict[bytes, Genotype] = {}
    for source in settings.search.initial.split(","):
        try:
            for genotype in _genotypes(settings.space, source):
                if genotype.space != settings.space:
                    raise GenotypeError(f"expected genotypes of space {settings.space}, got one of {genotype.space}")
                if not expansion.is_valid(genotype):
                    raise GenotypeError("expected a path from the source to the sink of the cell, but there is none")
                found.setdefault(network_hash(genotype), genotype)
        except (GenotypeError, StoreError) as error:
            raise ConfigError(f"search.initial: {source:.200}: {error}") from None
        except OSError as error:  # from looking whether it is there
            raise ConfigError(f"search.initial: {source:.200}: {error.strerror}") from None
    return replace(settings, search=replace(settings.search, initial=written(list(found.values()))))


def _genotypes(space: Space, source: str) -> Iterator[Genotype]:
    """Those of one source. Raises GenotypeError or StoreError."""
    if not source:
        raise GenotypeError("expected FILE, RUN or RUN:K before and after each comma, got nothing")
    if source.startswith(CODES):
        yield of_codes(space, source)
    elif text_file.is_file(Path(source)):
        yield from _of_file(Path(source))
    else:
        folder, colon, number = source.rpartition(":")
        if not colon or not re.fullmatch(r"[1-9]\d{0,8}", number) or Path(source).is_dir():
            folder, number = source, "1"
        yield from _best(Path(folder), int(number))


def _of_file(path: Path) -> Iterator[Genotype]:
    try:
        text = text_file.read(path)
    except text_file.Unreadable as error:
        raise GenotypeError(f"expected a readable file: {error}") from None
    begins = [match.start() for match in re.finditer(r"^format\b", text, flags=re.MULTILINE)]
    for start, end in itertools.pairwise([0, *begins[1:], len(text)]):
        yield Genotype.from_text(text[start:end])


def _best(folder: Path, count: int) -> Iterator[Genotype]:
    """The `count` fittest of a run, the first of equal fitness first, each of another network."""
    if not folder.exists():
        raise GenotypeError("expected a file of genotypes, or the folder of a run, but there is nothing of that name")
    with plugins.done_without(lambda names: None):  # genotypes need no more than primitives, which `read` asks for
        population = run_file.read(folder).population
    fitness = population.column("fitness")
    networks: set[bytes] = set()
    for id in sorted(population.competing(len(population.evaluated)).tolist(), key=lambda id: -fitness[id]):
        genotype = population.individual(id).genotype
        network = network_hash(genotype)
        if network not in networks:
            networks.add(network)
            yield genotype
            if len(networks) == count:
                return
    raise GenotypeError(f"expected a run that has evaluated {count} different networks, but it has {len(networks)}")
