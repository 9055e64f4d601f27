"""What is kept of an individual: what is fixed at its birth, and the columns of the table that all of them make.

The columns are those of population.h5 (`search.run_file`), with one row an individual: its id is the number of the row.
`population` fills them in.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any

import numpy as np

from hpcnas.architecture import network_hash
from hpcnas.architecture.genotype import Genotype
from hpcnas.messages import FailureKind
from hpcnas.storage.columns import LATEST, Column


class Birth(IntEnum):
    """How a genotype came to be. The numbers are part of the file format."""

    INITIAL = 1  # drawn for the initial population (§3.2)
    MUTATION = 2  # a mutant of its parent
    RANDOM = 3  # drawn in the same way, by random search
    FOUNDER = 4  # taken over from another run, with its fitness
    GIVEN = 5  # given by `--initial`, and evaluated like any other
    CONFIRMATION = 6  # its parent, trained again after the search (`confirmation`)


class State(IntEnum):
    """What has become of an individual so far. The numbers are part of the file format."""

    ISSUED = 1  # born; perhaps some of its replicates are trained
    EVALUATED = 2
    FAILED = 3
    STOPPED = 4  # its first trainings were ended at a rung (`early_stopping`): it has a learning curve and no fitness


_TIME = "s since 1970-01-01"


def _column(dtype: str, description: str, unit: str = "", **more: Any) -> dict[str, Any]:
    """The `Column` of a field, which has its name, as metadata."""
    return {"dtype": dtype, "description": description, "unit": unit, **more}


@dataclass(frozen=True, slots=True)
class Individual:
    """What is fixed at birth: one line a field, which makes its column of population.h5 and its key in the journal too.

    A field that is added needs a default, which older files then mean, and is given by name. None stands for "there is
    none"."""

    id: int
    genotype: Genotype = field(
        metadata=_column("u1", "array form of the genotype", "operation codes", width="edges"))
    birth: Birth = field(
        metadata=_column("u1", "how the genotype came to be", values=Birth))
    parent: int | None = field(
        metadata=_column("i8", "id of the individual that was mutated", missing=-1, low=0))
    view: int = field(
        metadata=_column("i8", "evaluations that the strategy knew when it chose", "individuals", low=0))
    redrawn: int = field(
        metadata=_column("i4", "genotypes refused before this one (invalid, or over a constraint)", "genotypes", low=0))
    born: float = field(
        metadata=_column("f8", "when it was born, UTC", _TIME, missing=np.nan, low=0, high=LATEST, told=True))
    known: int = field(kw_only=True, default=0,
        metadata=_column("i4", "genotypes refused before this one because their network was known", "genotypes",
                         added=True, low=0))
    network: bytes | None = field(kw_only=True, default=None,
        metadata=_column("u1", "hash of its network; zeros where nobody looked at it", width="hash", added=True))
    network_version: int = field(kw_only=True, default=network_hash.VERSION,  # recorded only beside a `network`
        metadata=_column("u1", "version of that hash; 0 where nobody looked", added=True, low=0,
                         high=network_hash.VERSION))
    repeats: int | None = field(kw_only=True, default=None,
        metadata=_column("i8", "first individual of its network, which it measures once more", missing=-1, added=True,
                         low=0))  # fmt: skip

    def recorded(self) -> list[tuple[str, Any]]:
        """Name and value of each of BIRTH_COLUMNS: bytes for the genotype and the hash, None where there is nothing."""
        values = list(_values(self))
        if self.network is None:
            values[_NETWORK_VERSION] = None
        return list(zip(_NAMES, values, strict=True))


BIRTH_COLUMNS = tuple(Column(item.name, **item.metadata) for item in fields(Individual) if item.metadata)
_NAMES = [column.name for column in BIRTH_COLUMNS]
_NETWORK_VERSION = _NAMES.index("network_version")
_values = operator.attrgetter(*("genotype.codes" if name == "genotype" else name for name in _NAMES))

COLUMNS = (
    *sorted(BIRTH_COLUMNS, key=lambda column: column.name in ("genotype", "born")),  # these come last in tables
    Column("state", "u1", "where it stands", values=State),
    Column("attempts", "u1", "evaluations begun whose end is known"),
    Column("accuracies", "f8", "validation accuracy of each replicate, or what the fitness measures", "1", np.nan,
           "replicates", low=-1e6, high=1e6),
    Column("replicates_trained", "u1", "replicates that have an accuracy: fewer than all where racing has stopped",
           added=True),
    Column("fitness", "f8", "mean of the accuracies", "1", np.nan, low=-1e6, high=1e6),
    Column("parameters", "i8", "trainable parameters of the network", "1", -1, low=0),
    Column("setup_seconds", "f8", "building the networks", "s", np.nan, told=True),
    Column("training_seconds", "f8", "training, all replicates", "s", np.nan, told=True),
    Column("validation_seconds", "f8", "validation, all replicates", "s", np.nan, told=True),
    Column("worker_seconds", "f8", "what workers spent on it, failed attempts that were repeated aside", "s", np.nan,
           added=True, told=True),
    Column("started", "f8", "start of its first training, or of the last attempt, UTC", _TIME, np.nan, low=0,
           high=LATEST, told=True),
    Column("finished", "f8", "end of its last training or attempt, UTC", _TIME, np.nan, low=0, high=LATEST, told=True),
    Column("rank", "i4", "MPI rank of the last attempt", missing=-1, low=0, told=True),
    Column("host", "S64", "host of the last attempt", missing=b"", text=False, told=True),
    Column("device", "S64", "device of the last attempt", missing=b"", text=False, told=True),
    Column("failure", "u1", "kind of failure; 0 where there is none", values=FailureKind, optional=True),
    Column("curves", "f8", "validation accuracy of each replicate at each rung, replicate by replicate", "1", np.nan,
           "curves", added=True, low=-1e6, high=1e6, of_curves=True),
    Column("judged", "u1", "replicates, the first ones, that were held against the floors of rungs together",
           added=True, of_curves=True),
    Column("stopped_after", "i8", "evaluations on record when it was stopped at a rung", "individuals", missing=-1,
           added=True, low=0, of_curves=True),
    *(Column(name, "f8", f"{words} of each replicate on the validation images", "1", np.nan, "measured", added=True,
             low=0, high=high, of_measures=True, told=True)
      for name, words, high in (("plain_accuracy", "accuracy", 1), ("balanced_accuracy", "balanced accuracy", 1),
                                ("macro_f1", "macro F1 score", 1), ("auroc", "area under the ROC curve", 1),
                                ("log_loss", "log loss", 1e6))),
    Column("class_accuracies", "f8", "likewise the share of each class's images that are classified correctly, "
           "replicate by replicate", "1", np.nan, "classes", added=True, low=0, high=1, of_measures=True, told=True),
    Column("objective", "f8", "cost of the trained network, by search.objective", missing=np.nan, added=True,
           of_objective=True),
    Column("objective_spread", "f8", "half of the range between the quartiles of its measurements", missing=np.nan,
           added=True, low=0, of_objective=True),
    Column("waiting_seconds", "f8", "of training and validation, waiting for images that stay on the host", "s", np.nan,
           added=True, low=0, of_waiting=True, told=True),
)  # fmt: skip

MEASURES = tuple(column.name for column in COLUMNS if column.of_measures)
"""Those of `config.measures.BUILT_IN`, in that order, and of the classes."""


def recorded_columns(
    rungs: int, measured: bool = False, weighed: bool = False, waited: bool = False
) -> tuple[Column, ...]:
    """The columns that the file of a run has that has so many rungs, perhaps all measures, perhaps costs of trained
    networks, and perhaps images that were waited for."""
    return tuple(
        column
        for column in COLUMNS
        if (rungs or not column.of_curves)
        and (measured or not column.of_measures)
        and (weighed or not column.of_objective)
        and (waited or not column.of_waiting)
    )
