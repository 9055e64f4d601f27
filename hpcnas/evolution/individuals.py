"""What is kept of an individual: what is fixed at its birth, and the columns of the table that all of them make.

The columns are those of population.h5 (`run_file`); rows are individuals, and the id is the row. What happens to them
is `population`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from hpcnas.architecture import network_hash
from hpcnas.architecture.genotype import Genotype
from hpcnas.messages import FailureKind
from hpcnas.storage.columns import LATEST, Column


class Birth(IntEnum):
    """How a genotype came to be. The numbers are part of the file format."""

    INITIAL = 1  # drawn as §3.2 initialises
    MUTATION = 2  # a mutated parent
    RANDOM = 3  # drawn as §3.2 initialises, by random search
    FOUNDER = 4  # taken from another run, with its fitness
    GIVEN = 5  # given to begin with, and evaluated like any other


class State(IntEnum):
    """Where an individual stands. The numbers are part of the file format."""

    ISSUED = 1
    EVALUATED = 2
    FAILED = 3


@dataclass(frozen=True, slots=True)
class Individual:
    """What is fixed at birth. `view` is how many evaluations the strategy knew, `redrawn` and `known` how many
    genotypes it refused before this one; `born` is in seconds since 1970, UTC; `network` is what `network_hash` gives,
    where the strategy has looked at it, and `network_version` that of the hash by which it looked; `repeats` is
    the first individual with that network, where this one measures it once more (`repeats`)."""

    id: int
    genotype: Genotype
    birth: Birth
    parent: int | None
    view: int
    redrawn: int
    born: float
    known: int = 0
    network: bytes | None = None
    repeats: int | None = None
    network_version: int = network_hash.VERSION


_TIME = "s since 1970-01-01"


COLUMNS = (
    Column("birth", "u1", "how the genotype came to be", values=Birth),
    Column("parent", "i8", "id of the individual that was mutated", missing=-1, low=0),
    Column("view", "i8", "evaluations that the strategy knew when it chose", "individuals", low=0),
    Column("redrawn", "i4", "genotypes refused before this one (invalid, or over a constraint)", "genotypes", low=0),
    Column("known", "i4", "genotypes refused before this one because their network was known", "genotypes", added=True,
           low=0),
    Column("network", "u1", "hash of its network; zeros where nobody looked at it", width="hash", added=True),
    Column("network_version", "u1", "version of that hash; 0 where nobody looked", added=True, low=0,
           high=network_hash.VERSION),
    Column("repeats", "i8", "first individual of its network, which it measures once more", missing=-1, added=True,
           low=0),
    Column("genotype", "u1", "array form of the genotype", "operation codes", width="edges"),
    Column("born", "f8", "when it was born, UTC", _TIME, np.nan, low=0, high=LATEST, told=True),
    Column("state", "u1", "where it stands", values=State),
    Column("attempts", "u1", "evaluations begun whose end is known"),
    Column("accuracies", "f8", "validation accuracy of each replicate", "1", np.nan, "replicates", low=-1e6, high=1e6),
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
)  # fmt: skip
