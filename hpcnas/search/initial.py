"""Looks up what `--initial` names, genotypes that a search begins with (see `evolution.initial`).

    RUN, RUN:best, RUN:ID, RUN:topK, FILE, paper    as all programs read them (`references`), several with commas
    codes:HEX                                       an array form, as a run keeps it

What is there goes before the commas too: a folder or a file whose name has one is that folder or file.
They may come from runs on other data or of other settings: they are evaluated anew. Of equal networks one is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from hpcnas import plugins
from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype, GenotypeError
from hpcnas.architecture.network_hash import network_hash
from hpcnas.architecture.space import Space
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.initial import CODES, of_codes, written
from hpcnas.search import references
from hpcnas.search.references import OfRun, WrongReference

_LONGEST = 4096 + 16  # characters that a path and what follows its colon can have
_MOST_TOLD = 10  # individuals of one source that are told by number


def looked_up(settings: SearchConfig, say: Callable[[str], object] = lambda text: None) -> SearchConfig:
    """The configuration with the genotypes themselves in place of their sources; `say` is told which individuals of
    runs they are, a line a source. Raises ConfigError."""
    if settings.search.initial is None:
        return settings
    found: dict[bytes, Genotype] = {}
    for source in _sources(settings.search.initial):
        try:
            for genotype in _genotypes(settings.space, source, say):
                if genotype.space != settings.space:
                    raise GenotypeError(f"expected genotypes of space {settings.space}, got one of {genotype.space}")
                if not expansion.is_valid(genotype):
                    raise GenotypeError("expected a path from the source to the sink of the cell, but there is none")
                found.setdefault(network_hash(genotype), genotype)
        except WrongReference as error:  # it names the source
            raise ConfigError(f"search.initial: {error}") from None
        except GenotypeError as error:
            raise ConfigError(f"search.initial: {source:.200}: {error}") from None
    return replace(settings, search=replace(settings.search, initial=written(list(found.values()))))


def _sources(text: str) -> Iterator[str]:
    """What stands between commas; of a path that is there, commas are a part, and the longest such path is taken."""
    parts = text.split(",")
    while parts:
        count = 1
        if not parts[0].startswith(CODES):
            length = len(parts[0])
            for number, part in enumerate(parts[1:], start=2):
                length += 1 + len(part)
                if length > _LONGEST:
                    break
                if references.is_there(",".join(parts[:number])):
                    count = number
        yield ",".join(parts[:count])
        del parts[:count]


def _genotypes(space: Space, source: str, say: Callable[[str], object]) -> Iterator[Genotype]:
    """Those of one source. Raises GenotypeError or WrongReference."""
    if not source:
        raise GenotypeError(f"expected {references.GRAMMAR} before and after each comma, got nothing")
    if source.startswith(CODES):
        yield of_codes(space, source)
        return
    with plugins.done_without(lambda names: None):  # genotypes need no more than primitives, which reading asks for
        named = references.several(source)
    if taken := [one for one in named if isinstance(one, OfRun)]:
        shown = ", ".join(str(one.id) for one in taken[:_MOST_TOLD])
        more = f", … ({len(taken)} in all)" if len(taken) > _MOST_TOLD else ""
        say(f"initial: individual{'s' if len(taken) > 1 else ''} {shown}{more} of {taken[0].folder}")
    yield from (one.genotype for one in named)
