"""population.h5: a run as one HDF5 file, a published format (D1).

    / attributes      format, format_version, hpcnas_version, run, records, space
    /configuration    the whole configuration, TOML
    /individuals/…    one dataset a column of `individuals.COLUMNS`, a row an individual
    /evaluated        ids in the order in which their evaluations were recorded
    /failures/…       one row a failed attempt, repeated or not
    /sessions/…       one row a start of the controller
    /workers/…        one row a worker that was ready, in each of them

Fixed-length types only; written as a whole to a temporary file and renamed, never in place. The only file that imports
h5py. When and why it is written is `file_store`'s business.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcnas import __version__
from hpcnas.config import search as search_config
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.individuals import COLUMNS
from hpcnas.evolution.population import Population
from hpcnas.messages import Failure, FailureKind, Place, Result
from hpcnas.search import methods, run_values
from hpcnas.search.run_values import FAILURE_COLUMNS, MESSAGE_BYTES, SESSION_COLUMNS, Tables
from hpcnas.storage import allowed, durable
from hpcnas.storage.columns import Column
from hpcnas.storage.folder import StoreError as StoreError

FORMAT, FORMAT_VERSION = "hpcnas run", 1


@dataclass(frozen=True)
class Session:
    """One start of the controller. `started` is in seconds since 1970, UTC; `software` maps names to versions."""

    started: float
    host: str
    pid: int
    ranks: int
    software: Mapping[str, str]
    facts: DataFacts


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


def write(path: Path, stored: StoredRun) -> None:
    """population.h5, whole; raises OSError."""
    durable.put(path, image(stored))


def image(stored: StoredRun) -> memoryview:
    """The file's bytes, made in memory: HDF5 that meets a full disk while it writes can crash the process."""
    memory = io.BytesIO()  # HDF5's own driver for memory would hold them twice
    population, sessions = stored.population, stored.sessions
    attempts = [(attempt, attempt.outcome) for attempt in population.failed_attempts]
    failures = [(attempt, outcome) for attempt, outcome in attempts if isinstance(outcome, Failure)]
    with h5py.File(memory, "w") as file:
        file.attrs["format"] = np.bytes_(FORMAT)
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["hpcnas_version"] = np.bytes_(__version__)
        file.attrs["run"] = np.bytes_(stored.run)
        file.attrs["records"] = stored.records
        file.attrs["space"] = np.bytes_(str(stored.config.space))
        write_dataset(file, "configuration", np.bytes_(stored.config.toml().encode()), "all settings, TOML")
        order = "ids in the order in which their evaluations were recorded"
        write_dataset(file, "evaluated", population.evaluated, order)
        individuals = file.create_group("individuals")
        write_dataset(individuals, "id", np.arange(len(population)), "the row itself, for those who join tables")
        write_table(individuals, COLUMNS, {column.name: population.column(column.name) for column in COLUMNS})
        write_table(
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
        write_table(
            file.create_group("sessions"),
            SESSION_COLUMNS,
            {
                "started": [session.started for session in sessions],
                "host": [session.host.encode() for session in sessions],
                "pid": [session.pid for session in sessions],
                "ranks": [session.ranks for session in sessions],
                "software": [json.dumps(dict(session.software)).encode() for session in sessions],
                "data": [json.dumps(asdict(session.facts)).encode() for session in sessions],
            },
        )
        write_table(file.create_group("workers"), methods.COLUMNS, methods.columns(stored.workers))
    return memory.getbuffer()


def write_table(group: h5py.Group, columns: tuple[Column, ...], values: Mapping[str, Any]) -> None:
    """One dataset a column, from values by its name."""
    for column in columns:
        array = np.asarray(values[column.name], dtype=column.dtype)
        kind: Any = array.dtype
        if column.values is not None:
            names = {"NONE": 0} | {item.name: int(item) for item in column.values}
            kind = h5py.enum_dtype(names, basetype=column.dtype)
        write_dataset(group, column.name, array, column.description, column.unit, kind)


def write_dataset(group: h5py.Group, name: str, data: Any, description: str, unit: str = "", kind: Any = None) -> None:
    """A dataset with its two attributes; arrays with checksums."""
    checked = {"fletcher32": True} if np.ndim(data) > 0 and np.size(data) > 0 else {}  # HDF5 checks nothing by itself
    dataset = group.create_dataset(name, data=data, dtype=kind, **checked)
    dataset.attrs["description"] = np.bytes_(description)
    dataset.attrs["unit"] = np.bytes_(unit)


def exists(folder: Path, name: str = "population.h5") -> bool:
    """Whether the folder holds a run, or the file that makes it another thing. Raises StoreError where that cannot be
    seen."""
    try:
        return (folder / name).is_file()
    except OSError as error:  # a folder closed to us, a name that is too long, a server that is gone
        raise StoreError(f"expected a folder that can be looked into, got {folder}: {error.strerror}") from None


def run_in(image: bytes) -> str | None:
    """The run's own name in the bytes of a population.h5; None where they are none that can be read."""
    try:
        with h5py.File(io.BytesIO(image), "r") as file:
            return bytes(file.attrs["run"]).decode()
    except (OSError, LookupError, TypeError, ValueError, RuntimeError):
        return None


def read(folder: Path) -> StoredRun:
    """The run as its last population.h5 has it: for tools, also while the run goes on. Raises StoreError."""
    stored, faults = examine(folder)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise StoreError(
            f"{folder / 'population.h5'}: {faults[0]}{more}; tools/verify.py names all, and its --repair keeps the rest"
        )
    return stored


def examine(folder: Path) -> tuple[StoredRun, list[str]]:
    """The part of a run that is as a search writes it (`run_values.sound`), and what is wrong with the rest. Raises
    StoreError where there is no such part."""
    path = folder / "population.h5"
    if not exists(folder):
        raise StoreError(f"expected a run in {folder}, but there is no population.h5")
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _examine(path, file)
    except ConfigError as error:  # such as a plugin that is not there; it says in which file
        raise StoreError(f"expected settings that can be used here: {error}") from None
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, AttributeError, MemoryError) as error:
        # what h5py, JSON and our own checks make of damaged bytes
        raise StoreError(f"{path}: expected a whole file of a run, but it cannot be read: {error}") from None


def refuse_other_files(group: h5py.Group) -> None:
    """Raises ValueError for what does not lie in this file: whoever made it may have pointed it at others."""
    for name in group:
        place = f"{group.name.rstrip('/')}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"expected {place} itself, got a link")
        item = group[name]
        if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
            raise ValueError(f"expected {place} in this file, but it lies in another one")
        if isinstance(item, h5py.Group) and group.name == "/":  # no group of ours has groups
            refuse_other_files(item)


def _examine(path: Path, file: h5py.File) -> tuple[StoredRun, list[str]]:
    refuse_other_files(file)
    name, version = file.attrs.get("format", b""), file.attrs.get("format_version", 0)
    if name != FORMAT.encode():
        found = name.decode(errors="replace") if isinstance(name, bytes) else name
        raise StoreError(f"{path}: expected the format {FORMAT!r}, got {found!r}")
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{path}: expected format version {FORMAT_VERSION}, got {version}; "
            f"use hpcnas {bytes(file.attrs['hpcnas_version']).decode()}, which wrote it"
        )
    settings, _ = search_config.parse_toml(bytes(file["configuration"][()]).decode(), str(path))
    stored = search_config.build(
        {"search": {"tournament_draw": "sample"}}, settings
    )  # where a run does not say: an older one
    individuals, failed, sessions, workers = (
        {item.name: file[group][item.name][()] for item in columns if item.name in file[group] or not item.added}
        for group, columns in (
            ("individuals", COLUMNS),
            ("failures", FAILURE_COLUMNS),
            ("sessions", SESSION_COLUMNS),
            ("workers", methods.COLUMNS if "workers" in file else ()),  # older runs have no such table
        )
    )
    _add_what_older_runs_lack(individuals)
    replicates = stored.training.replicates
    tables = Tables(stored.space, replicates, individuals, file["evaluated"][()], failed, sessions, workers)
    for fault in run_values.misshapen(tables):
        raise ValueError(str(fault))
    wrong = run_values.wrong(tables)
    if wrong:
        tables = run_values.sound(tables, wrong)
    run, records, faults = _attributes(file, stored)
    population = Population.from_columns(
        stored.space, replicates, tables.individuals, tables.evaluated, _failed_attempts(tables.failures)
    )
    found = StoredRun(
        run, records, stored, population, _sessions(tables.sessions), list(methods.workers(tables.workers))
    )
    return found, [*faults, *map(str, wrong)]


def _attributes(file: h5py.File, settings: SearchConfig) -> tuple[str, int, list[str]]:
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
