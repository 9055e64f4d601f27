"""The public interface (API.md): runs and retrainings as Python objects, and what can be done with a genotype.

    open_run(folder) ─► Run ─► Individual ─► network()          Genotype ─► mutate, size, draw, build_network
    open_retraining(folder) ─► Retraining ─► network(), trained

`import hpcnas` brings these names, and loads this file when one of them is asked for. Reads the last renewed file of a
run, also while its search goes on, without a lock; writes nothing but a picture that is asked for. Loads torch when a
network is asked for, matplotlib when a picture is. Whatever a person can mend is raised as a subclass of `Error`.
"""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from hpcnas import plugins
from hpcnas.analysis import retrainings, runs, summary
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture import expansion, mutation, sizes
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.sizes import Size
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config import bounds
from hpcnas.config import retraining as retraining_config
from hpcnas.errors import Error
from hpcnas.evolution.individuals import COLUMNS, State
from hpcnas.retrain import record
from hpcnas.search.run_file import StoredRun
from hpcnas.text_file import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

    from hpcnas.analysis.classifier import Classifier

__all__ = [
    "Error",
    "Genotype",
    "Individual",
    "Retraining",
    "Run",
    "Session",
    "Size",
    "Training",
    "build_network",
    "draw",
    "mutate",
    "open_retraining",
    "open_run",
    "size",
]

PICTURES = (".png", ".svg", ".pdf")
Columns = dict[str, np.ndarray]


class NoSuchIndividual(AnalysisError, IndexError):
    """A run has no individual of that id: one sentence."""


# ── networks ────────────────────────────────────────────────────────────────────────────────────────────────────────
def mutate(genotype: Genotype, generator: np.random.Generator) -> Genotype:
    """The genotype with one edge drawn anew (§3.1, eq. 4). The result may equal the genotype, or have no path from the
    cell's source to its sink. Raises TypeError for anything but a Genotype and a Generator."""
    _require_genotype(genotype)
    if not isinstance(generator, np.random.Generator):
        raise TypeError(f"expected numpy.random.default_rng(SEED) or the like, got {type(generator).__name__}")
    return mutation.mutate(genotype, generator)


def size(
    genotype: Genotype,
    *,
    classes: int = 10,
    image_channels: int = 3,
    height: int = 32,
    width: int = 32,
    channels: int = 16,
    cells: Sequence[int] = (1, 1, 1),
    stem: str = "plain",
) -> Size:
    """Trainable parameters of a genotype's network, and FLOPs of one forward pass of one image of `height` × `width`
    pixels; counted, not built. Arguments and errors are those of `build_network`."""
    _require_genotype(genotype)
    around = _surroundings(image_channels, height, width, classes, channels, cells, stem)
    return sizes.size(expansion.expand(genotype), around)


def build_network(
    genotype: Genotype,
    *,
    classes: int = 10,
    image_channels: int = 3,
    channels: int = 16,
    cells: Sequence[int] = (1, 1, 1),
    stem: str = "plain",
) -> nn.Module:
    """A genotype's network in PyTorch, untrained: float (N, image_channels, H, W) → class scores float (N, classes).

    `channels` are those of the first cell's input, `cells` how many there are in each group: the resolution halves and
    the channels double from one group to the next. The stem is `plain`, or `strided` for large images. The weights are
    drawn from torch's global generator: `torch.manual_seed` before. Raises Error for a genotype without a path from
    source to sink, and for numbers that give no network, or one that no memory holds.
    """
    _require_genotype(genotype)
    around = _surroundings(image_channels, 32, 32, classes, channels, cells, stem)
    graph = expansion.expand(genotype)
    from hpcnas.training.network import Network  # brings torch

    return Network(graph, around)


def _require_genotype(given: object) -> None:
    """Raises TypeError for anything else, such as the individual that has the genotype."""
    if not isinstance(given, Genotype):
        hint = ": its `genotype` is one" if isinstance(getattr(given, "genotype", None), Genotype) else ""
        raise TypeError(f"expected a Genotype, got {type(given).__name__}{hint}")


def _surroundings(
    image_channels: int, height: int, width: int, classes: int, channels: int, cells: Sequence[int], stem: str
) -> Skeleton:
    """Raises Error for a number that is not positive or larger than any network's, and for a stem that cannot be."""
    for name, number in (
        ("image_channels", image_channels),
        ("height", height),
        ("width", width),
        ("classes", classes),
        ("channels", channels),
    ):
        if not _is_count(number):
            raise AnalysisError(f"expected for {name} a whole number from 1, got {shown(number)}")
        if number > bounds.CHANNELS:
            raise AnalysisError(f"expected for {name} at most {bounds.CHANNELS:,}, got {shown(number)}")
    groups = _members(cells)
    if not groups or not all(map(_is_count, groups)):
        raise AnalysisError(f"expected for cells how many each group has, such as (2, 2, 2), got {shown(cells)}")
    if len(groups) > bounds.GROUPS or max(groups) > bounds.CELLS:
        raise AnalysisError(
            f"expected for cells at most {bounds.GROUPS} groups, of at most {bounds.CELLS:,} each, got {shown(cells)}"
        )
    bounds.check_size(int(channels), tuple(map(int, groups)))
    counts = int(image_channels), int(height), int(width), int(classes), int(channels)
    try:
        return Skeleton(*counts, tuple(map(int, groups)), stem)
    except ValueError as error:
        raise AnalysisError(str(error)) from None


def _members(cells: object) -> tuple[Any, ...]:
    """What the value has one after the other, for a list, a tuple or an array; nothing for another kind of value."""
    if isinstance(cells, str) or not isinstance(cells, Iterable) or getattr(cells, "ndim", 1) != 1:
        return ()
    return tuple(cells)


def _is_count(number: object) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool) and bool(number >= 1)


def draw(genotype: Genotype, file: str | os.PathLike[str] | None = None, *, name: str = "genotype") -> Figure:
    """A picture of the genotype's cell and of the motifs in use, as a figure of matplotlib, written to `file` if one is
    named: .png, .svg or .pdf. The title has the `name`. Raises Error without matplotlib, for a genotype without a path
    from source to sink, and where the file cannot be written."""
    _require_genotype(genotype)
    path = None if file is None else Path(file)
    if path is not None and path.suffix.lower() not in PICTURES:
        raise AnalysisError(f"expected a file ending with {', '.join(PICTURES)}, got {str(path)!r}")
    from hpcnas.analysis.figures import cells, style  # bring matplotlib

    figure = cells.cell_picture(name, genotype)
    if path is not None:
        style.save(figure, path)
    return figure


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
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


@dataclass(frozen=True, slots=True)
class Individual:
    """An individual of a run as it was when the run was opened. What it does not have is None."""

    id: int  # its row of the table, in the order of birth
    genotype: Genotype
    birth: str  # INITIAL, MUTATION, RANDOM, FOUNDER or GIVEN
    parent: int | None  # id of the individual that was mutated
    state: str  # ISSUED, EVALUATED or FAILED
    fitness: float | None  # 0 to 1; with `duplicates = "average"` the mean over all individuals of its network
    accuracies: tuple[float, ...]  # of the replicates that are trained, 0 to 1
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
        """How it stands, in the words of `hpcnas summary`: `complete`, `more to do`, `running or killed`, or another
        word of RUN/status."""
        return summary.state(self._folder, self._stored)

    @property
    def config(self) -> dict[str, dict[str, Any]]:
        """Every setting, section → key → value, as in `configuration` of FORMAT.md."""
        return self._stored.config.settings()

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The starts of the controller, in their order."""
        return tuple(
            Session(one.started, one.host, one.pid, one.ranks, dict(one.software), asdict(one.facts))
            for one in self._stored.sessions
        )

    @property
    def evaluated(self) -> np.ndarray:
        """Ids in the order in which their evaluations were recorded: int64, shape (evaluated,), read-only."""
        return self._population.evaluated

    @property
    def best(self) -> Individual:
        """The individual of the highest fitness of those that compete, of equals the first evaluated.

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
        `genotype` uint8 (individuals, edges); `network` uint8 (individuals, 16). Names (`birth`, `state`, `failure`)
        and texts (`host`, `device`) are arrays of Python's str. Where an individual has no value, there is what stands
        under *none* there, and an empty text. The arrays of numbers are read-only views of what was read.
        """
        found = {"id": np.arange(len(self))}
        for column in COLUMNS:
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
        `accuracies` has a column for each replicate, `accuracy_1`, `accuracy_2`, …; `genotype` and `network` are left
        to `columns`.
        """
        try:
            import pandas
        except ImportError:
            return self.columns()
        found: dict[str, Any] = {"id": np.arange(len(self))}
        for column in COLUMNS:
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


# ── retrainings ─────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Training:
    """One training of a large network, from one seed. What is not known yet is None."""

    seed: int
    state: str  # WAITING, TRAINING or COMPLETE
    step: int  # steps made
    training_seconds: float
    test_images: int | None  # that could be read
    test_accuracy: float | None  # share of them classified correctly, 0 to 1
    test_top5: float | None  # share whose class is among the five with the highest scores, of more than five classes
    test_loss: float | None  # mean cross-entropy on them


class Retraining:
    """A retraining as its last renewed file has it: `open_retraining` opens it, and again to see more."""

    def __init__(self, folder: Path, stored: record.Record) -> None:
        self._folder = folder
        self._stored = stored

    def __repr__(self) -> str:
        complete = sum(training.state == "COMPLETE" for training in self.trainings)
        return f"<Retraining {str(self._folder)!r}: {complete} of {len(self.trainings)} trainings complete>"

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._folder

    @property
    def name(self) -> str:
        """The retraining's own name, 32 hexadecimal digits."""
        return self._stored.run

    @property
    def genotype(self) -> Genotype:
        """What is trained."""
        return self._stored.genotype

    @property
    def parameters(self) -> int:
        """Trainable parameters of its network, without those of an auxiliary head."""
        return self._stored.parameters

    @property
    def flops(self) -> int:
        """FLOPs of one forward pass of one image."""
        return self._stored.flops

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the class scores."""
        return self._stored.inputs.class_names

    @property
    def config(self) -> dict[str, dict[str, Any]]:
        """Every setting of the recipe, section → key → value, as in `configuration` of FORMAT.md."""
        return retraining_config.SCHEME.settings(self._stored.recipe)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The starts of the program, in their order."""
        return tuple(
            Session(one.started, one.host, one.pid, one.ranks, dict(one.software), asdict(one.facts))
            for one in self._stored.sessions
        )

    @property
    def trainings(self) -> tuple[Training, ...]:
        """One a seed."""
        return tuple(
            Training(
                seed=one.seed,
                state=one.state.name,
                step=one.step,
                training_seconds=one.training_seconds,
                test_images=one.test_images,
                test_accuracy=one.test_accuracy,
                test_top5=one.test_top5,
                test_loss=one.test_loss,
            )
            for one in self._stored.trainings
        )

    def network(self, seed: int | None = None) -> Classifier:
        """The network with the weights that the training of this seed has learnt, by default that of the least seed, in
        evaluation mode, on the CPU: pixels float (N, channels, H, W), 0 to 255 → class scores float (N, classes).

        Its `network` is the one without the normalisation of pixels. Raises Error where that training is not complete,
        or where its weights cannot be read.
        """
        found = retrainings.Found(self._folder, self._stored)
        seeds = {training.seed: training for training in found.complete}
        if not seeds:
            raise AnalysisError(f"{self._folder}: no training is complete yet, so there are no weights")
        if seed is not None and seed not in seeds:
            listing = ", ".join(map(str, seeds))
            raise AnalysisError(
                f"{self._folder}: expected the seed of a complete training ({listing}), got {shown(seed)}"
            )
        from hpcnas.analysis.classifier import load  # brings torch

        return load(self._stored, found.weights(seeds[min(seeds) if seed is None else seed]))

    def history(self) -> Any:
        """/history of FORMAT.md: a pandas.DataFrame, a row every so many steps of a training; without pandas, its
        columns as NumPy arrays (rows,) by their names."""
        rows = self._stored.history
        found = {one.name: np.array([getattr(row, one.name) for row in rows]) for one in fields(record.Row)}
        try:
            import pandas
        except ImportError:
            return found
        return pandas.DataFrame(found)


def open_retraining(folder: str | os.PathLike[str]) -> Retraining:
    """The retraining in a folder, which may be under way. Raises Error where there is none that can be read."""
    with plugins.done_without(lambda names: None):  # its genotype needs primitives alone, and says so
        return Retraining(Path(folder), retrainings.load(Path(folder)).stored)
