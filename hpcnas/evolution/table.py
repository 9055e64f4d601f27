"""Individuals as a table: one row each, in the columns of `individuals`.

    append ─► a birth fills its row    ─► what its trainings give and cost fills in the rest

A row is read again as the records that it was made of. In which order individuals were evaluated, who competes and who
is the best is the business of `population`, which is such a table. Reads and writes no files, draws no random numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.network_hash import HASH_BYTES, VERSION
from hpcnas.architecture.space import Space
from hpcnas.evolution.individuals import (
    BIRTH_COLUMNS,
    COLUMNS,
    MEASURES,
    Birth,
    Individual,
    State,
    recorded_columns,
)
from hpcnas.messages import Evaluation, Failure, Outcome, Place, Result, Stopped
from hpcnas.storage.columns import Column

_SECONDS = ("setup_seconds", "training_seconds", "validation_seconds")


class IndividualTable:
    """The columns of individuals of one space. Methods raise ValueError for what does not fit a row."""

    def __init__(self, space: Space, replicates: int, rungs: tuple[float, ...]) -> None:
        self.space = space
        self.replicates = replicates
        self.rungs = rungs
        self.measured = False  # whether all measures of some replicate are known
        self.weighed = False  # whether a cost of some trained network is known
        self.waited = False  # whether images of some trainings stayed on the host
        self._classes = 0  # whose accuracies these tell
        self.failures: dict[int, Failure] = {}  # of failed individuals
        self._length = 0
        self._columns = {column.name: self._blank(column, 64) for column in COLUMNS}

    def _blank(self, column: Column, rows: int) -> np.ndarray:
        width = {
            "": (),
            "edges": (self.space.edges,),
            "replicates": (self.replicates,),
            "hash": (HASH_BYTES,),
            "curves": (self.replicates * len(self.rungs),),
            "measured": (self.replicates * self.measured,),
            "classes": (self.replicates * self._classes,),
        }[column.width]
        return np.full((rows, *width), column.missing, dtype=column.dtype)

    def __len__(self) -> int:
        return self._length

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _append(self, individual: Individual) -> None:
        """Fills the next row with a birth."""
        row = self._length
        if row == len(self._columns["state"]):
            for column in COLUMNS:
                old = self._columns[column.name]
                self._columns[column.name] = np.concatenate([old, self._blank(column, growth(len(old)))])
        for name, value in individual.recorded():
            if value is not None:
                self._columns[name][row] = np.frombuffer(value, dtype=np.uint8) if type(value) is bytes else value
        self._columns["state"][row] = State.ISSUED
        self._length += 1

    def _load(self, columns: Mapping[str, np.ndarray]) -> None:
        """Takes these very columns in place of its own. Raises ValueError for such as no version of hpcnas writes."""
        rows = len(columns["state"])
        if "plain_accuracy" in columns and columns["plain_accuracy"].shape[1]:  # merged runs may have none
            self._begin_measures(columns["class_accuracies"].shape[-1] // self.replicates)
        for column in COLUMNS:
            expected, absent = self._columns[column.name], column.added and column.name not in columns
            found = self._blank(column, rows) if absent else columns[column.name]
            if found.shape != (rows, *expected.shape[1:]) or found.dtype != expected.dtype:
                raise ValueError(
                    f"column {column.name}: expected {expected.dtype} of shape {(rows, *expected.shape[1:])}, "
                    f"got {found.dtype} of {found.shape}"
                )
            self._columns[column.name] = found
        self.weighed, self.waited = (
            bool(np.isfinite(self._columns[name]).any()) for name in ("objective", "waiting_seconds")
        )
        if not np.isin(columns["state"], list(State)).all():
            raise ValueError(f"column state: expected {min(State):d} to {max(State):d} everywhere")
        self._length = rows

    def _check_curves(self, row: int, curves: Sequence[Sequence[float]], least: int) -> None:
        """Raises ValueError unless learning curves are of one length, which is `least` rungs or more."""
        lengths, most = {len(curve) for curve in curves}, len(self.rungs)
        if len(lengths) != 1 or not 0 < least <= min(lengths) <= most or any(math.isnan(one) for one in _flat(curves)):
            raise ValueError(f"individual {row}: expected accuracies at {least} to {most} rungs, got {curves}")

    def _take_in_curves(self, row: int, first: int, curves: Sequence[Sequence[float]]) -> None:
        """Records the learning curves of replicates from number `first` on."""
        whole = self._columns["curves"][row].reshape(self.replicates, len(self.rungs))
        whole[first : first + len(curves), : len(curves[0])] = curves

    def _begin_measures(self, classes: int) -> None:
        """Makes room for all measures of replicates, with the accuracies of so many classes."""
        self.measured, self._classes = True, classes
        for column in COLUMNS:
            if column.of_measures:
                self._columns[column.name] = self._blank(column, len(self._columns["state"]))

    def _check_measures(self, row: int, count: int, measures: Sequence[Sequence[float | None]]) -> None:
        """Raises ValueError unless they are those of so many replicates, and of as many classes as ever."""
        own = {len(one) - len(MEASURES) + 1 for one in measures}
        if len(measures) != count or len(own) != 1 or min(own) < 0 or self.measured and own != {self._classes}:
            raise ValueError(f"individual {row}: expected all measures of {count} replicates, got {measures}")

    def _take_in_measures(self, row: int, first: int, measures: Sequence[Sequence[float | None]]) -> None:
        """Records those of replicates from number `first` on."""
        *names, of_classes = MEASURES
        if not self.measured:
            self._begin_measures(len(measures[0]) - len(names))
        for place, name in enumerate(names):
            self._columns[name][row, first : first + len(measures)] = [one[place] for one in measures]
        classes = self._columns[of_classes][row].reshape(self.replicates, self._classes)
        classes[first : first + len(measures)] = [one[len(names) :] for one in measures]

    def _take_costs(self, row: int, outcome: Evaluation | Stopped, trained: int) -> None:
        """Records the network's parameters, and adds seconds to those of the replicates that were trained before."""
        columns = self._columns
        columns["parameters"][row] = outcome.parameters
        for name in _SECONDS:
            columns[name][row] = getattr(outcome, name) + (columns[name][row] if trained else 0.0)
        if outcome.waiting_seconds is not None:
            before = columns["waiting_seconds"][row] if trained else 0.0
            columns["waiting_seconds"][row] = outcome.waiting_seconds + np.nan_to_num(before)
            self.waited = True

    def _take_place(self, result: Result) -> None:
        """Records when and where some replicates of an individual have run, or an attempt has failed."""
        row, columns = result.individual, self._columns
        seconds = result.finished - result.started
        if columns["replicates_trained"][row]:  # this result is not its first
            columns["started"][row] = min(columns["started"][row], result.started)
            columns["finished"][row] = max(columns["finished"][row], result.finished)
            columns["worker_seconds"][row] += seconds
        else:
            columns["started"][row] = result.started
            columns["finished"][row] = result.finished
            columns["worker_seconds"][row] = seconds
        columns["rank"][row] = result.place.rank
        columns["host"][row] = result.place.host.encode()[:64]
        columns["device"][row] = result.place.device.encode()[:64]

    @property
    def recorded(self) -> tuple[Column, ...]:
        """The columns that a file of these individuals has."""
        return recorded_columns(len(self.rungs), self.measured, self.weighed, self.waited)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def column(self, name: str) -> np.ndarray:
        """One column of all individuals, read-only; see COLUMNS for types and units."""
        view = self._columns[name][: self._length]
        view.flags.writeable = False
        return view

    def accuracies(self, id: int) -> tuple[float, ...]:
        """The accuracies (0 to 1), or whatever the fitness measures, of the trained replicates of an individual, in
        their order."""
        row = self._columns["accuracies"][id]
        return tuple(row[~np.isnan(row)].tolist())

    def curves(self, id: int) -> tuple[tuple[float, ...], ...]:
        """The learning curves of an individual's replicates, in their order and without those that have none: the
        accuracy (0 to 1) at each rung that they came to."""
        whole = self._columns["curves"][id].reshape(self.replicates, len(self.rungs))
        return tuple(tuple(curve[~np.isnan(curve)].tolist()) for curve in whole if not np.isnan(curve).all())

    def measures(self, id: int) -> tuple[tuple[float | None, ...], ...]:
        """All measures of an individual's replicates, as an Evaluation has them, in their order and without those that
        have none."""
        if not self.measured:
            return ()
        *names, of_classes = MEASURES
        alone = np.stack([self._columns[name][id] for name in names], axis=1)
        whole = np.hstack([alone, self._columns[of_classes][id].reshape(self.replicates, self._classes)])
        return tuple(
            tuple(None if number != number else number for number in row) for row in whole.tolist() if row[0] == row[0]
        )

    def objective(self, id: int) -> tuple[float, float | None] | None:
        """The cost of an individual's trained network, and its spread; None where it was not measured."""
        value, spread = (float(self._columns[name][id]) for name in ("objective", "objective_spread"))
        return None if value != value else (value, None if spread != spread else spread)

    @property
    def input_wait(self) -> float | None:
        """The share of its training and validation that was spent waiting for images, of all whose images did not fit
        onto a device; None where there are none."""
        waited = self.column("waiting_seconds")
        of = ~np.isnan(waited)
        spent = float((self.column("training_seconds") + self.column("validation_seconds"))[of].sum())
        return min(1.0, float(waited[of].sum()) / spent) if spent else None

    def hash_version(self, id: int) -> int:
        """The version of `network_hash` that birth `id` was hashed by, else today's."""
        recorded = int(self._columns["network_version"][id]) if id < self._length else 0
        return recorded or VERSION

    def individual(self, id: int) -> Individual:
        """What was fixed at the birth of an individual. Raises IndexError for an unknown id."""
        self._check(id)
        found: dict[str, Any] = {}
        for column in BIRTH_COLUMNS:
            stored = self._columns[column.name]
            if column.width:
                found[column.name] = stored[id].tobytes()
            else:
                value = stored.item(id)
                found[column.name] = None if column.missing < 0 and value == column.missing else value
        found["genotype"] = Genotype(self.space, found["genotype"])
        found["birth"] = Birth(found["birth"])
        found["network"] = found["network"] if any(found["network"]) else None
        found["network_version"] = self.hash_version(id)
        return Individual(id=id, **found)

    def result(self, id: int) -> Result:
        """The result of a settled individual. Raises IndexError for an unknown id, ValueError for one in flight."""
        self._check(id)
        columns = self._columns
        return Result(
            individual=id,
            attempt=int(columns["attempts"][id]),
            place=Place(
                int(columns["rank"][id]),
                columns["host"][id].decode(errors="replace"),
                columns["device"][id].decode(errors="replace"),
            ),
            started=float(columns["started"][id]),
            finished=float(columns["finished"][id]),
            outcome=self._outcome(id),
        )

    def _outcome(self, id: int) -> Outcome:
        """Raises ValueError for an individual in flight."""
        if id in self.failures:
            return self.failures[id]
        state, curves = State(int(self._columns["state"][id])), self.curves(id) if self.rungs else ()
        parameters, (setup, training, validation) = (
            int(self._columns["parameters"][id]), (float(self._columns[name][id]) for name in _SECONDS)
        )  # fmt: skip
        found = float(self._columns["waiting_seconds"][id])
        waiting = None if math.isnan(found) else found
        match state:
            case State.EVALUATED:
                judged = int(self._columns["judged"][id])
                costs = parameters, setup, training, validation
                accuracies, measures = self.accuracies(id), self.measures(id)
                if len(measures) != len(accuracies):  # an Evaluation has those of every replicate, or of none
                    measures = ()
                return Evaluation(accuracies, *costs, curves, judged, measures, self.objective(id), waiting)
            case State.STOPPED:
                return Stopped(curves, parameters, setup, training, validation, waiting)
            case _:
                raise ValueError(f"individual {id} is in flight: there is no result yet")

    def lineage(self, id: int) -> Iterator[Individual]:
        """The individual, its parent, the parent's parent, … up to one without a parent."""
        current: int | None = id
        while current is not None:
            individual = self.individual(current)
            yield individual
            current = individual.parent

    def _check(self, id: int) -> None:
        if not 0 <= id < self._length:
            raise IndexError(f"expected an individual from 0 to {self._length - 1}, got {id}")


def _flat(curves: Sequence[Sequence[float]]) -> Iterator[float]:
    return itertools.chain.from_iterable(curves)


def growth(length: int) -> int:
    """How many rows to add to a full table of that length: few, to leave little empty, but enough to copy seldom."""
    return max(64, length // 8)
