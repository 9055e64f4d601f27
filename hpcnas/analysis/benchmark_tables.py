"""Published tables of real trainings, as genotypes of ours and as what evaluations of them give.

    nas-bench-201      cells of 4 nodes: each of 6 edges is none, skip, 1×1, 3×3 convolution or average pooling
    nas-bench-macro    chains of 8 layers: each is identity, or an inverted residual block, narrow or wide

Cells of NAS-Bench-201 (Dong and Yang 2020) are genotypes of the space `1x4:1x1,sep,avg,id`, where `sep` stands for its
3×3 convolution. Its nodes add up what enters them and ours concatenate it, which does not matter where accuracies are
looked up. Layers of NAS-Bench-Macro (Su et al. 2021) are the edges of a chain of 9 nodes, on which `dw` and `sep`
stand for its narrow and its wide block; `Chains` draws no other genotypes of that space.

A table is a CSV file with one row an architecture, all of them in the order of their digits; accuracies are in percent.
Nothing of the tables is in the repository.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcnas import seeds
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture import primitives
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.sizes import Size
from hpcnas.architecture.space import Space
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.duplicates import DUPLICATES
from hpcnas.evolution.registry import allowance, sizing
from hpcnas.evolution.strategy import Allowed, Breeding
from hpcnas.search.synthetic import FACTS, Foresight


@dataclass(frozen=True)
class Layout:
    """How a table is written, and which genotypes stand for its architectures."""

    name: str
    space: Space
    codes: bytes  # of the operations of the digits 0, 1, …
    places: tuple[int, ...]  # of the digits in the array form
    truth: tuple[str, ...]  # columns of accuracies whose mean is the truth
    measured: tuple[str, ...]  # columns of which a training gives one at random; empty: the truth with noise
    rungs: tuple[tuple[float, str], ...]  # shares of a training, and the columns of accuracies after these
    size: tuple[str, ...]  # columns of parameters and FLOPs; empty: those of our network
    source: str

    @property
    def chains(self) -> bool:
        """Whether its architectures are chains of the space's nodes, and not all of its genotypes."""
        return len(self.places) < self.space.edges

    @property
    def rows(self) -> int:
        """How many architectures there are."""
        return len(self.codes) ** len(self.places)


def _chain(nodes: int) -> tuple[int, ...]:
    return tuple(successor * (successor - 1) // 2 + successor - 1 for successor in range(1, nodes))


_TRAININGS = ("accuracy_1", "accuracy_2", "accuracy_3")
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "nas-bench-201", Space.parse("1x4:1x1,sep,avg,id"),
            bytes([primitives.NONE, primitives.IDENTITY, primitives.CONVOLUTION, primitives.SEPARABLE,
                   primitives.AVERAGE_POOLING]),
            tuple(range(6)), ("test_200_epochs",), (), ((12 / 200, "validation_12_epochs"),), (),
            "Dong and Yang 2020, by way of github.com/tiga1231/nasbench-vis",
        ),
        Layout(
            "nas-bench-macro", Space.parse("1x9:dw,sep,id"),
            bytes([primitives.IDENTITY, primitives.DEPTHWISE, primitives.SEPARABLE]),
            _chain(9), _TRAININGS, _TRAININGS, (), ("parameters", "flops"),
            "Su et al. 2021, github.com/xiusu/NAS-Bench-Macro",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A table that was read. Arrays have one row an architecture, in the order of their digits."""

    layout: Layout
    truth: np.ndarray  # float64, shape (rows,), from 0 to 1
    measured: np.ndarray  # float64, shape (rows, trainings), from 0 to 1; no trainings where the noise is not in it
    early: np.ndarray  # float64, shape (rows, rungs), from 0 to 1: the accuracy at each rung of the layout
    sizes: np.ndarray  # int64, shape (rows, 2): parameters and FLOPs; (rows, 0) where they are not in it

    def goal(self, share: float) -> float:
        """The true fitness of the last of that share of all architectures, the best ones; at least of one."""
        return float(np.sort(self.truth)[-max(1, int(np.ceil(share * len(self.truth))))])

    @property
    def best(self) -> float:
        """The highest true fitness."""
        return float(self.truth.max())

    def row(self, genotype: Genotype) -> int:
        """The row of a genotype that `genotype` or a mutation has made."""
        row = 0
        for digit in self.digits(genotype):
            row = row * len(self.layout.codes) + digit
        return row

    def digits(self, genotype: Genotype) -> list[int]:
        """The digits of the architecture that a genotype stands for."""
        return [self.layout.codes.index(genotype.codes[place]) for place in self.layout.places]

    def genotype(self, digits: Sequence[int]) -> Genotype:
        """The genotype that stands for these digits."""
        codes = bytearray(self.layout.space.edges)
        for place, digit in zip(self.layout.places, digits, strict=True):
            codes[place] = self.layout.codes[digit]
        return Genotype(self.layout.space, bytes(codes))


def read(layout: Layout, folder: Path) -> Benchmark:
    """The table of that layout in a folder. Raises AnalysisError where it is not there, or is not what it should be."""
    path, early = folder / f"{layout.name}.csv", tuple(column for _, column in layout.rungs)
    accuracies = tuple(dict.fromkeys((*layout.truth, *layout.measured, *early)))
    wanted = (*accuracies, *layout.size)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin with a byte order mark
            lines = csv.DictReader(file, strict=True)
            header, rows = list(lines.fieldnames or ()), list(lines)
    except OSError as error:
        raise AnalysisError(
            f"{path}: expected the table {layout.name}, but: {error.strerror}. It is no part of hpcnas: make a CSV "
            f"file with the columns architecture, {', '.join(wanted)} of the figures of {layout.source}"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise AnalysisError(f"{path}: expected a table in CSV, but: {error}") from error
    if missing := [column for column in ("architecture", *wanted) if column not in header]:
        raise AnalysisError(f"{path}: expected a column {missing[0]}, got {', '.join(header) or 'none':.200}")
    if len(set(header)) < len(header):
        raise AnalysisError(f"{path}: expected columns of different names, got {', '.join(header):.200}")
    if len(rows) != layout.rows:
        raise AnalysisError(f"{path}: expected {layout.rows:,} architectures, got {len(rows):,}: make it again")
    for number, row in enumerate(rows):
        digits = np.base_repr(number, len(layout.codes)).zfill(len(layout.places))
        if row["architecture"] != digits:
            place = f"{path}, architecture {number + 1} of {layout.rows}"
            raise AnalysisError(f"{place}: expected {digits}, got {row['architecture']!r:.100}: make it again")
        if None in row:  # where DictReader puts what has no column
            raise AnalysisError(
                f"{path}, architecture {digits}: expected {len(header)} values, got more: make it again"
            )
    columns = {
        column: np.array([_number(path, row, column, 100.0 if column in accuracies else 1e15) for row in rows])
        for column in wanted
    }
    several = np.array([columns[column] for column in layout.measured]).reshape(len(layout.measured), layout.rows)
    rungs = np.array([columns[column] for column in early]).reshape(len(early), layout.rows)
    sizes = np.array([columns[column] for column in layout.size]).reshape(len(layout.size), layout.rows)
    truth = np.mean([columns[column] for column in layout.truth], axis=0)
    return Benchmark(layout, truth / 100, several.T / 100, rungs.T / 100, sizes.T.astype(np.int64))


def _number(path: Path, row: dict[str, str], column: str, most: float) -> float:
    """A number from 0 to `most` in a row. Raises AnalysisError."""
    try:
        value = float(row[column])
    except (TypeError, ValueError):  # TypeError: the row is too short
        value = np.nan
    if not 0 <= value <= most:
        raise AnalysisError(
            f"{path}, architecture {row['architecture']}: expected a number from 0 to {most:g} as {column}, "
            f"got {row[column]!r:.100}"
        )
    return value


def breeding(benchmark: Benchmark, config: SearchConfig) -> Breeding:
    """What draws the genotypes of a search of these architectures."""
    search, allowed, kind = config.search, allowance(config, FACTS), Breeding
    if benchmark.layout.chains:
        allowed, kind = _chains(allowed), Chains
    size = _size_in(benchmark) if benchmark.sizes.shape[1] else sizing(config, FACTS)
    return kind(
        config.space, search.seed, search.initial_mutations, allowed, size,
        DUPLICATES[search.duplicates],
    )  # fmt: skip


def _chains(allowed: Allowed) -> Allowed:
    """`allowed`, but for chains alone."""
    return lambda genotype: is_chain(genotype) and allowed(genotype)


def is_chain(genotype: Genotype) -> bool:
    """Whether a flat genotype has all operations from one node to the next, and no other."""
    places = _chain(genotype.space.level(2).nodes)
    return all((place in places) is (code != primitives.NONE) for place, code in enumerate(genotype.codes))


def _size_in(benchmark: Benchmark) -> Callable[[Genotype], Size]:
    """The function from a genotype to parameters and FLOPs as the table has them."""
    return lambda genotype: Size(*benchmark.sizes[benchmark.row(genotype)].tolist())


class Chains(Breeding):
    """Draws chains: each of their edges has an operation, and no other edge has one."""

    def draw_initial(self, generator: np.random.Generator) -> Genotype:
        """Each layer's operation is drawn uniformly."""
        codes, own = bytearray(self.space.edges), self.space.primitive_codes
        for place in _chain(self.space.level(2).nodes):
            codes[place] = own[int(generator.integers(len(own)))]
        return Genotype(self.space, bytes(codes))

    def draw_mutant(self, origin: Genotype, generator: np.random.Generator) -> Genotype:
        """One layer's operation is drawn anew; it may be the old one, as in eq. 4."""
        codes, own, places = bytearray(origin.codes), self.space.primitive_codes, _chain(self.space.level(2).nodes)
        codes[places[int(generator.integers(len(places)))]] = own[int(generator.integers(len(own)))]
        return Genotype(self.space, bytes(codes))


class TableForesight(Foresight):
    """What becomes of tasks: durations and failures as configured, accuracies as the table has them."""

    def __init__(self, config: SearchConfig, benchmark: Benchmark) -> None:
        super().__init__(config)
        self._benchmark = benchmark
        known = [share for share, _ in benchmark.layout.rungs]
        if missing := [share for share in config.training.rungs if share not in known]:
            told = ", ".join(f"{share:g}" for share in known) or "none"
            raise AnalysisError(f"{benchmark.layout.name}: expected rungs that are in it ({told}), got {missing[0]:g}")
        self._early = [known.index(share) for share in config.training.rungs]

    def curve(self, genotype: Genotype, accuracy: float, training_seed: int) -> tuple[float, ...]:
        """The table's accuracies at the rungs, with the noise of a training."""
        row = self._benchmark.early[self._benchmark.row(genotype)]
        drawn = seeds.curve_generator(training_seed).normal(size=len(self._early))
        noise = self._settings.synthetic_noise
        pairs = zip(row[self._early].tolist(), drawn.tolist(), strict=True)
        return tuple(min(1.0, max(0.0, early + noise * one)) for early, one in pairs)

    def trained(self, genotype: Genotype, training_seeds: Sequence[int]) -> tuple[tuple[float, ...], int]:
        """One of the table's trainings at random for each seed; where it has their mean alone, that with noise."""
        row, found = self._benchmark.row(genotype), self._benchmark
        sizes, several = found.sizes[row], found.measured[row]
        parameters = int(sizes[0]) if len(sizes) else 0
        if not len(several):
            return tuple(self.noisy(float(found.truth[row]), seed) for seed in training_seeds), parameters
        drawn = (int(seeds.noise_generator(seed).integers(len(several))) for seed in training_seeds)
        return tuple(float(several[one]) for one in drawn), parameters
