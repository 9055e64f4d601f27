"""Searches from Python: `open_run(folder)` gives a `Run`, and that its `Individual`s.

Reads the last renewed file of a run, also while its search goes on, without a lock; writes nothing. Whatever a person
can mend is raised as a subclass of `Error`.
"""

from __future__ import annotations

import operator
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from hpcnas import plugins
from hpcnas.analysis import job_state, rungs, runs
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.evolution.individuals import State
from hpcnas.job import session
from hpcnas.public.networks import build_network
from hpcnas.search.run_file import StoredRun
from hpcnas.text_file import shown

if TYPE_CHECKING:
    from torch import nn

Columns = dict[str, np.ndarray]


class NoSuchIndividual(AnalysisError, IndexError):
    """A run has no individual of that id: one sentence."""


@dataclass(frozen=True, slots=True)
class Session:
    """One start of the program on a run: when (seconds since 1970, UTC), on which host, as which process, with how many
    MPI ranks, by which software (names and versions), on what data (sizes and fingerprint)."""

    started: float
    host: str
    pid: int
    ranks: int
    software: Mapping[str, str]
    data: Mapping[str, int | str]

    @classmethod
    def of(cls, one: session.Session) -> Session:
        """As it is recorded."""
        return cls(one.started, one.host, one.pid, one.ranks, dict(one.software), one.facts.record())


@dataclass(frozen=True, slots=True)
class Individual:
    """An individual of a run as it was when the run was opened. What it does not have is None."""

    id: int  # its row of the table, in the order of birth
    genotype: Genotype
    birth: str  # INITIAL, MUTATION, RANDOM, FOUNDER, GIVEN or CONFIRMATION
    parent: int | None  # id of the individual that was mutated
    state: str  # ISSUED, EVALUATED, FAILED or STOPPED: early, at a rung
    fitness: float | None  # with `duplicates = "average"` the mean over all individuals of its network
    accuracies: tuple[float, ...]  # of the replicates that are trained: what the fitness measures
    curves: tuple[tuple[float, ...], ...]  # of each of them, or as far as they came, the accuracies at `Run.rungs`
    parameters: int | None  # trainable ones of its network
    failure: str | None  # the kind of failure and its last line
    _around: Skeleton = field(repr=False, compare=False)

    def network(
        self,
        *,
        classes: int | None = None,
        image_channels: int | None = None,
        channels: int | None = None,
        cells: Sequence[int] | None = None,
        stem: str | None = None,
    ) -> nn.Module:
        """Its network as `build_network` makes it, untrained: a search keeps no weights. Arguments that are left out
        are those of the search. Raises Error."""
        given = self._around
        return build_network(
            self.genotype,
            classes=given.classes if classes is None else classes,
            image_channels=given.image_channels if image_channels is None else image_channels,
            channels=given.channels if channels is None else channels,
            cells=given.cells if cells is None else cells,
            stem=given.stem if stem is None else stem,
        )


class Run:
    """A search as its last renewed file has it: `open_run` opens it, and again to see more.

    `len(run)` is the number of individuals ever born; `run[id]` is one of them, and iterating gives them all, in the
    order of birth.
    """

    def __init__(self, folder: Path, stored: StoredRun) -> None:
        self._folder = folder
        self._stored = stored
        self._population = stored.population
        if stored.sessions:
            self._around = stored.config.skeleton(stored.sessions[-1].facts)
        else:
            self._around = Skeleton(3, 32, 32, 10, 16, (1, 1, 1), "plain")

    def __repr__(self) -> str:
        return f"<Run {str(self._folder)!r}: {len(self)} individuals, {len(self.evaluated)} evaluated>"

    def __len__(self) -> int:
        return len(self._population)

    def __iter__(self) -> Iterator[Individual]:
        return map(self._individual, range(len(self)))

    def __getitem__(self, id: SupportsIndex) -> Individual:
        """The individual of that id, from 0. Raises Error, which is an IndexError, where there is none."""
        number = operator.index(id)
        if not len(self):
            raise NoSuchIndividual(f"{self._folder}: no individual has been born yet, so there is no {shown(number)}")
        if not 0 <= number < len(self):
            raise NoSuchIndividual(
                f"{self._folder}: expected an individual from 0 to {len(self) - 1}, got {shown(number)}"
            )
        return self._individual(number)

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._folder

    @property
    def name(self) -> str:
        """The run's own name, 32 hexadecimal digits, which its copies share."""
        return self._stored.run

    @property
    def state(self) -> str:
        """How it stands, in the words of `hpcnas summary`: `complete`, `running`, `stopped: there is more to do`,
        `no sign of life for …` (its job was on another host), or another word of RUN/status."""
        return job_state.of_search(self._folder, self._stored, time.time())[0]

    @property
    def config(self) -> dict[str, dict[str, Any]]:
        """Every setting, section → key → value, as in `configuration` of FORMAT.md."""
        return self._stored.config.settings()

    @property
    def rungs(self) -> tuple[float, ...]:
        """Where trainings are validated on their way, as shares of their steps, rising; none without `--rungs`."""
        return self._population.rungs

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The starts of the controller, in their order."""
        return tuple(map(Session.of, self._stored.sessions))

    @property
    def evaluated(self) -> np.ndarray:
        """Ids in the order in which their evaluations were recorded: int64, shape (evaluated,), read-only."""
        return self._population.evaluated

    @property
    def best(self) -> Individual:
        """The result of the search: of `guided` the individual that new trainings are expected to find best, by what
        was measured and by the model of the search; else, and as long as that knows too little, the one of the highest
        fitness of those that compete, of equals the first evaluated; once networks were confirmed, the best of these.

        Raises Error while no individual has been evaluated: `len(run.evaluated)` says whether one has."""
        id = self._population.best
        if id is None:
            raise AnalysisError(f"{self._folder}: no individual has been evaluated yet, so there is no best one")
        return self._individual(id)

    def lineage(self, id: SupportsIndex) -> Iterator[Individual]:
        """The individual, its parent, the parent's parent, … to one without a parent. Raises Error at once where there
        is no individual of that id."""
        return self._ancestors(self[id])

    def _ancestors(self, youngest: Individual) -> Iterator[Individual]:
        found: Individual | None = youngest
        while found is not None:
            yield found
            found = None if found.parent is None else self._individual(found.parent)

    def columns(self) -> Columns:
        """/individuals of FORMAT.md as NumPy arrays, by the names that its columns have there, a row an individual.

        Numbers are of the types that stand there, (individuals,); `accuracies` float64 (individuals, replicates);
        `curves`, in runs with rungs, float64 (individuals, replicates · rungs), replicate by replicate; where all
        measures are kept, `plain_accuracy` and the others float64 (individuals, replicates), `class_accuracies`
        (individuals, replicates · classes); `genotype`
        uint8 (individuals, edges); `network` uint8 (individuals, 16). Names (`birth`, `state`, `failure`)
        and texts (`host`, `device`) are arrays of Python's str. Where an individual has no value, there is what stands
        under *none* there, and an empty text. The arrays of numbers are read-only views of what was read.
        """
        found = {"id": np.arange(len(self))}
        for column in self._population.recorded:
            values = self._population.column(column.name)
            if column.values is not None:
                names = np.full(256, "", dtype=object)
                names[[int(item) for item in column.values]] = [item.name for item in column.values]
                values = names[values]
            elif values.dtype.kind == "S":
                values = _texts(values)
            found[column.name] = values
        return found

    def table(self) -> Any:
        """/individuals of FORMAT.md: a pandas.DataFrame, a row an individual, its index the id; without pandas, what
        `columns` gives.

        Its columns have the names that they have there. Names and texts are categorical, with empty texts for none.
        `accuracies` has a column for each replicate, `accuracy_1`, `accuracy_2`, …; `curves` one for each rung of each,
        such as `accuracy_1_at_0.3`; of other measures likewise, such as `log_loss_1`; `class_accuracies`, `genotype`
        and `network` are left to `columns`.
        """
        try:
            import pandas
        except ImportError:
            return self.columns()
        found: dict[str, Any] = {"id": np.arange(len(self))}
        for column in self._population.recorded:
            values = self._population.column(column.name)
            if column.values is not None:
                numbers = {int(item): item.name for item in column.values}
                names = [numbers.get(code, "") for code in range(1 + max(numbers))]
                kept = names if column.optional else names[1:]
                codes = values if column.optional else values - np.uint8(1)
                found[column.name] = pandas.Categorical.from_codes(codes, kept)
            elif values.dtype.kind == "S":
                codes, texts = pandas.factorize(np.array(values.tolist(), dtype=object))
                found[column.name] = pandas.Categorical.from_codes(codes, [_text(one) for one in texts])
            elif column.width == "replicates":
                for number in range(values.shape[1]):
                    found[f"accuracy_{number + 1}"] = values[:, number]
            elif column.width == "curves":
                names = rungs.column_names(self._population)
                found |= {name: values[:, number] for number, name in enumerate(names)}
            elif column.width == "measured":
                for number in range(values.shape[1]):
                    found[f"{column.name}_{number + 1}"] = values[:, number]
            elif not column.width:
                found[column.name] = values
        return pandas.DataFrame(found)

    def _individual(self, id: int) -> Individual:
        population = self._population
        born = population.individual(id)
        fitness, parameters = float(population.column("fitness")[id]), int(population.column("parameters")[id])
        failure = population.failures.get(id)
        return Individual(
            id=id,
            genotype=born.genotype,
            birth=born.birth.name,
            parent=born.parent,
            state=State(int(population.column("state")[id])).name,
            fitness=None if np.isnan(fitness) else fitness,
            accuracies=population.accuracies(id),
            curves=population.curves(id),
            parameters=None if parameters < 0 else parameters,
            failure=None if failure is None else f"{failure.kind.name}: {failure.summary}",
            _around=self._around,
        )


def open_run(folder: str | os.PathLike[str]) -> Run:
    """The search in a folder, which may be under way, merged, or written by an older version. Raises Error where there
    is none that can be read.

    The plugins that it names are loaded where HPCNAS_PLUGINS names them too, or `hpcnas.plugins.load` has loaded them;
    it is read without the others, with a warning, as far as its genotypes do not need their primitives.
    """
    left_out: list[str] = []
    with plugins.done_without(left_out.extend):
        stored = runs.load(Path(folder))
    if left_out:
        listing = ",".join(dict.fromkeys(left_out))
        warnings.warn(
            f"{os.fspath(folder)}: read without the plugins {listing}, which the run names: "
            f"hpcnas.plugins.load({listing!r}) before loads them, if you trust that code",
            stacklevel=2,
        )
    return Run(Path(folder), stored)


def _texts(values: np.ndarray) -> np.ndarray:
    """Bytes (rows,) as Python's str, dtype object; equal ones are one object."""
    known: dict[bytes, str] = {}
    found = np.empty(len(values), dtype=object)
    found[:] = [known.get(one) or known.setdefault(one, _text(one)) for one in values.tolist()]
    return found


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
