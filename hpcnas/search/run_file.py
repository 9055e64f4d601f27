"""population.h5: a run as one HDF5 file, a published format (D1).

    / attributes      format, format_version, hpcnas_version, run, records, space
    /configuration    the whole configuration, TOML
    /individuals/…    one dataset a column of `individuals.COLUMNS`, a row an individual
    /evaluated        ids in the order in which their evaluations were recorded
    /failures/…       one row a failed attempt, repeated or not
    /sessions/…       one row a start of the controller
    /workers/…        one row a worker that was ready, in each of them

Fixed-length types only; written as a whole to a temporary file and renamed, never in place. How HDF5 is read and
written is `storage.hdf5`'s business, when and why this file is written `file_store`'s.
"""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.individuals import COLUMNS
from hpcnas.evolution.population import Population
from hpcnas.evolution.registry import expectations
from hpcnas.job.session import Session
from hpcnas.messages import Failure, FailureKind, Place, Result
from hpcnas.search import methods, run_values
from hpcnas.search.run_values import FAILURE_COLUMNS, MESSAGE_BYTES, SESSION_COLUMNS, Tables
from hpcnas.storage import allowed, durable, hdf5
from hpcnas.storage.folder import StoreError, holds

FORMAT = hdf5.Format("hpcnas run", 1)
NAME = "population.h5"
RETRAINING = "retrain.h5"  # of a folder that a retraining keeps, and no search may take


def fitting(message: str) -> str:
    """The end of a message that fits the file, as it will be read back."""
    return message.encode(errors="replace")[-MESSAGE_BYTES:].decode(errors="ignore").rstrip("\0")


@dataclass
class StoredRun:
    """What population.h5 holds: the state after the first `records` records of the run."""

    run: str
    records: int
    config: SearchConfig
    population: Population
    sessions: list[Session] = field(default_factory=list)
    workers: list[methods.Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Lets the population know what its strategy expects of it (`Population.best`)."""
        if self.population.expects is not None:  # a search goes on, and its strategy is at hand
            return
        sessions = self.sessions
        self.population.expects = expectations(self.config, lambda: sessions[0].facts if sessions else None)


def write(path: Path, stored: StoredRun) -> None:
    """population.h5, whole; raises OSError."""
    durable.put(path, image(stored))


def image(stored: StoredRun) -> bytes:
    """The file's bytes."""
    return hdf5.image(FORMAT, stored.run, functools.partial(_fill, stored))


def _fill(stored: StoredRun, file: hdf5.Group) -> None:
    population, sessions = stored.population, stored.sessions
    attempts = [(attempt, attempt.outcome) for attempt in population.failed_attempts]
    failures = [(attempt, outcome) for attempt, outcome in attempts if isinstance(outcome, Failure)]
    file.attrs["records"] = stored.records
    file.attrs["space"] = np.bytes_(str(stored.config.space))
    hdf5.write_dataset(file, "configuration", np.bytes_(stored.config.toml().encode()), "all settings, TOML")
    order = "ids in the order in which their evaluations were recorded"
    hdf5.write_dataset(file, "evaluated", population.evaluated, order)
    individuals = file.create_group("individuals")
    hdf5.write_dataset(individuals, "id", np.arange(len(population)), "the row itself, for those who join tables")
    columns = population.recorded
    hdf5.write_table(individuals, columns, {column.name: population.column(column.name) for column in columns})
    hdf5.write_table(
        file.create_group("failures"),
        FAILURE_COLUMNS,
        {
            "individual": [attempt.individual for attempt, _ in failures],
            "attempt": [attempt.attempt for attempt, _ in failures],
            "kind": [failure.kind for _, failure in failures],
            "started": [attempt.started for attempt, _ in failures],
            "finished": [attempt.finished for attempt, _ in failures],
            "rank": [attempt.place.rank for attempt, _ in failures],
            "host": [attempt.place.host.encode() for attempt, _ in failures],
            "device": [attempt.place.device.encode() for attempt, _ in failures],
            "message": [fitting(failure.message).encode() for _, failure in failures],
        },
    )
    hdf5.write_table(
        file.create_group("sessions"),
        SESSION_COLUMNS,
        {
            "started": [session.started for session in sessions],
            "host": [session.host.encode() for session in sessions],
            "pid": [session.pid for session in sessions],
            "ranks": [session.ranks for session in sessions],
            "software": [json.dumps(dict(session.software)).encode() for session in sessions],
            "data": [json.dumps(session.facts.record()).encode() for session in sessions],
        },
    )
    hdf5.write_table(file.create_group("workers"), methods.COLUMNS, methods.columns(stored.workers))


def exists(folder: Path) -> bool:
    """Whether the folder holds a run. Raises StoreError where that cannot be seen."""
    return holds(folder, NAME)


def refuse_retraining(folder: Path) -> None:
    """Raises StoreError where the folder is a retraining's, so that no search begins there."""
    if holds(folder, RETRAINING):
        raise StoreError(f"expected a folder for a search, but {folder} holds a retraining; give another --run")


def read(folder: Path) -> StoredRun:
    """The run as its last population.h5 has it: for tools, also while the run goes on. Raises StoreError."""
    stored, faults = examine(folder)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise StoreError(
            f"{folder / NAME}: {faults[0]}{more}; hpcnas verify names all, and its --repair keeps the rest"
        )
    return stored


def examine(folder: Path) -> tuple[StoredRun, list[str]]:
    """The part of a run that is as a search writes it (`run_values.sound`), and what is wrong with the rest. Raises
    StoreError where there is no such part."""
    path = folder / NAME
    if not exists(folder):
        instead = "; it holds a retraining" if holds(folder, RETRAINING) else ""
        raise StoreError(f"expected a run in {folder}, but there is no {NAME}{instead}")
    try:
        with hdf5.opened(path, FORMAT) as file:
            return _examine(path, file)
    except ConfigError as error:  # such as a plugin that is not there; it says in which file
        raise StoreError(f"expected settings that can be used here: {error}") from None
    except hdf5.DAMAGE as error:
        raise StoreError(f"{path}: expected a whole file of a run, but it cannot be read: {error}") from None


def _examine(path: Path, file: hdf5.Group) -> tuple[StoredRun, list[str]]:
    settings, _ = search_config.parse_toml(bytes(file["configuration"][()]).decode(), str(path))
    where_a_run_does_not_say: search_config.Settings = {"search": {"tournament_draw": "sample"}}  # an older one
    config = search_config.build(where_a_run_does_not_say, settings)
    read = hdf5.read_tables(
        file,
        {
            "individuals": COLUMNS,
            "failures": FAILURE_COLUMNS,
            "sessions": SESSION_COLUMNS,
            "workers": methods.COLUMNS if "workers" in file else (),  # older runs have no such table
        },
    )
    _add_what_older_runs_lack(read["individuals"])
    training = config.training
    tables = Tables(config.space, training.replicates, training.rungs, evaluated=file["evaluated"][()], **read)
    for fault in run_values.misshapen(tables):
        raise ValueError(str(fault))
    wrong = run_values.wrong(tables)
    if wrong:
        tables = run_values.sound(tables, wrong)
    run, records, faults = _attributes(file, config)
    population = Population.from_columns(
        tables.space,
        tables.replicates,
        tables.individuals,
        tables.evaluated,
        _failed_attempts(tables.failures),
        tables.rungs,
    )
    workers = list(methods.workers(tables.workers))
    found = StoredRun(run, records, config, population, _sessions(tables.sessions), workers)
    return found, [*faults, *map(str, wrong)]


def _attributes(file: hdf5.Group, settings: SearchConfig) -> tuple[str, int, list[str]]:
    """The run's name, how many records the file contains, and what is wrong with what the file says of itself."""
    run, records, faults = bytes(file.attrs["run"]).decode(), int(file.attrs["records"]), []
    if not 0 < len(run) <= 100 or not run.isprintable():
        faults.append(f"expected the run's name in up to 100 letters and digits, got {allowed.shown(run)}")
        run = uuid.uuid4().hex
    if not 0 <= records < 1 << 62:
        faults.append(f"expected a number of records, got {records}")
        records = 0
    space = bytes(file.attrs["space"]).decode(errors="replace")
    if space != str(settings.space):
        faults.append(f"expected the space of the configuration, {settings.space}, got {allowed.shown(space)}")
    ids, count = file["individuals/id"][()], len(file["individuals/birth"])
    if not np.array_equal(ids, np.arange(count)):
        faults.append(f"individuals: expected as id the number of the row, 0 to {count - 1}, got others")
    return run, records, faults


def _add_what_older_runs_lack(table: dict[str, np.ndarray]) -> None:
    """Columns that came later: what was true of every fitness before they came."""
    if "replicates_trained" not in table:
        table["replicates_trained"] = (~np.isnan(table["accuracies"])).sum(axis=1).astype(np.uint8)
    if "network_version" not in table and "network" in table:
        table["network_version"] = np.any(table["network"], axis=1).astype(np.uint8)
    if "worker_seconds" not in table:
        table["worker_seconds"] = table["finished"] - table["started"]


def _failed_attempts(table: Mapping[str, np.ndarray]) -> list[Result]:
    return [
        Result(
            individual=int(table["individual"][row]),
            attempt=int(table["attempt"][row]),
            place=Place(int(table["rank"][row]), table["host"][row].decode(), table["device"][row].decode()),
            started=float(table["started"][row]),
            finished=float(table["finished"][row]),
            outcome=Failure(FailureKind(int(table["kind"][row])), table["message"][row].decode()),
        )
        for row in range(len(table["individual"]))
    ]


def _sessions(table: Mapping[str, np.ndarray]) -> list[Session]:
    return [
        Session(
            started=float(table["started"][row]),
            host=table["host"][row].decode(),
            pid=int(table["pid"][row]),
            ranks=int(table["ranks"][row]),
            software=json.loads(table["software"][row]),
            facts=allowed.facts(json.loads(table["data"][row])),
        )
        for row in range(len(table["started"]))
    ]
