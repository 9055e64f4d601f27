"""What a person names by `RUN[:…]` and its like, in one grammar for both programs and all commands.

    RUN, RUN:best   the best individual of the run in that folder (`Population.best`)
    RUN:ID          the individual of that number, from 0
    RUN:topK        the K best, each of another network (RUN:top3)
    FILE            a genotype in its text form; where several are wanted, all that follow one another in it
    paper           the cell of Appendix A

What is there goes before the grammar: a folder or a file whose name has a colon, or is `paper`, is that folder or file.
A name that ends with .toml is a file's. Runs are read through `run_file` alone, also while they go on, and with the
plugins that are loaded. What the genotypes are wanted for is the caller's business.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcnas import text_file
from hpcnas.architecture import genotype
from hpcnas.architecture.genotype import Genotype, GenotypeError
from hpcnas.architecture.network_hash import network_hash
from hpcnas.errors import Error
from hpcnas.search import run_file
from hpcnas.search.run_file import StoredRun
from hpcnas.storage.folder import StoreError

GRAMMAR = "RUN, RUN:best, RUN:ID, RUN:topK, FILE.toml or paper"


class WrongReference(Error):
    """What is named is not there, or is not what is wanted: the reference and the problem in one sentence."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"{text:.200}: {problem}")


# ── what is written ─────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class ById:
    """RUN:ID"""

    folder: Path
    id: int


@dataclass(frozen=True)
class Fittest:
    """RUN, RUN:best (a count of 1), RUN:topK."""

    folder: Path
    count: int  # of different networks


@dataclass(frozen=True)
class InFile:
    """FILE"""

    path: Path


@dataclass(frozen=True)
class Paper:
    """paper"""


Reference = ById | Fittest | InFile | Paper


def parse(text: str) -> Reference:
    """What a text refers to; of files and folders only whether they are there is looked at. Raises WrongReference."""
    path = Path(text)
    if not text:
        raise WrongReference("a reference", f"expected {GRAMMAR}, got nothing")
    if os.path.isdir(path):
        return Fittest(path, 1)
    if text.endswith(".toml") or text_file.is_file(path):
        return InFile(path)
    if text == "paper":
        return Paper()
    folder, colon, choice = text.rpartition(":")
    if not colon or not os.path.lexists(folder):
        missing = folder if colon and _chosen(Path(folder), choice) else text
        raise WrongReference(text, f"expected {GRAMMAR}, but there is nothing named {missing:.200}")
    if not os.path.isdir(folder):
        raise WrongReference(text, f"expected the folder of a run before the colon, but {folder:.200} is none")
    chosen = _chosen(Path(folder), choice)
    if chosen is None:
        expected = "best, topK with K from 1, or the number of an individual, from 0,"
        raise WrongReference(text, f"expected {expected} after the colon, got {text_file.shown(choice)}")
    return chosen


def is_there(text: str) -> bool:
    """Whether a text, or what stands before the last colon of one choice, is a file or folder that is there."""
    folder, _, choice = text.rpartition(":")
    return os.path.lexists(text) or ("," not in choice and os.path.lexists(folder))


def _chosen(folder: Path, choice: str) -> ById | Fittest | None:
    """What follows the last colon, read by the grammar; None where it is none of it."""
    if choice == "best":
        return Fittest(folder, 1)
    if re.fullmatch(r"[0-9]{1,18}", choice):
        return ById(folder, int(choice))
    if re.fullmatch(r"top[1-9][0-9]{0,8}", choice):
        return Fittest(folder, int(choice[3:]))
    return None


# ── what it names ───────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class OfRun:
    """An individual of a run."""

    folder: Path
    run: StoredRun
    id: int

    @property
    def genotype(self) -> Genotype:
        """The individual's genotype."""
        return self.run.population.individual(self.id).genotype

    @property
    def name(self) -> str:
        """A short name, for titles and files."""
        return f"{self.folder.resolve().name}-{self.id}"


@dataclass(frozen=True)
class Given:
    """A genotype that no search is known of."""

    source: InFile | Paper
    genotype: Genotype

    @property
    def name(self) -> str:
        """A short name, for titles and files."""
        return self.source.path.stem if isinstance(self.source, InFile) else "paper"


Named = OfRun | Given


def one(text: str) -> Named:
    """The one genotype that a text names. Raises WrongReference for none, for several, and for what cannot be read."""
    reference = parse(text)
    if isinstance(reference, Fittest) and reference.count > 1:
        raise WrongReference(text, f"expected one individual, but {text:.200} names {reference.count}")
    found = _resolved(text, reference)
    if len(found) > 1:
        raise WrongReference(text, f"expected a file of one genotype, but it holds {len(found)}")
    return found[0]


def individual(text: str) -> OfRun:
    """The one individual of a run that a text names. Raises WrongReference as `one`, and for files and `paper`."""
    if isinstance(parse(text), InFile | Paper):
        raise WrongReference(text, "expected an individual of a run: RUN, RUN:best or RUN:ID")
    found = one(text)
    assert isinstance(found, OfRun), "neither file nor paper"
    return found


def several(text: str) -> Sequence[Named]:
    """All that a text names, one at least: the best first, those of a file in its order. Raises WrongReference."""
    return _resolved(text, parse(text))


def _resolved(text: str, reference: Reference) -> Sequence[Named]:
    try:
        match reference:
            case ById(folder, id):
                return [_by_id(text, folder, id)]
            case Fittest(folder, count):
                return _fittest(text, folder, count)
            case InFile(path):
                return [Given(reference, found) for found in _in_file(path)]
            case Paper():
                return [Given(reference, genotype.named("paper"))]
    except text_file.Unreadable as error:
        raise WrongReference(text, f"expected a readable file: {error}") from None
    except (GenotypeError, StoreError) as error:
        raise WrongReference(text, str(error)) from None


def _by_id(text: str, folder: Path, id: int) -> OfRun:
    run = run_file.read(folder)
    born = len(run.population)
    if not born:
        raise WrongReference(text, f"no individual has been born yet, so there is no {id}")
    if id >= born:
        raise WrongReference(text, f"expected an individual from 0 to {born - 1}, got {id}")
    return OfRun(folder, run, id)


def _fittest(text: str, folder: Path, count: int) -> Sequence[OfRun]:
    """The `count` best of those that stand for their network (`Population.fittest`)."""
    run = run_file.read(folder)
    population = run.population
    if population.best is None:
        raise WrongReference(text, "no individual has been evaluated yet, so there is no best one")
    if count == 1:
        return [OfRun(folder, run, population.best)]
    networks: dict[bytes, int] = {}
    for id in population.fittest():
        networks.setdefault(network_hash(population.individual(id).genotype), id)
        if len(networks) == count:
            return [OfRun(folder, run, id) for id in networks.values()]
    raise WrongReference(
        text, f"expected a run that has evaluated {count} different networks, but it has {len(networks)}"
    )


def _in_file(path: Path) -> Sequence[Genotype]:
    """Genotypes that follow one another, each from its line `format = …` on. Raises Unreadable or GenotypeError."""
    text = text_file.read(path)
    begins = [match.start() for match in re.finditer(r"^format\b", text, flags=re.MULTILINE)]
    return [Genotype.from_text(text[start:end]) for start, end in itertools.pairwise([0, *begins[1:], len(text)])]
