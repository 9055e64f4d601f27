"""What the tables of population.h5 must say of each other, and what is left of them where they do not.

Every value that a column does not allow (`allowed`), and every one that no search can have written: a parent that is
not older than its child, a genotype with an operation that its space does not have, an individual that stands twice in
the order of evaluations. A reader gets a run that holds together, or an error of one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcnas.architecture import genotype
from hpcnas.architecture.network_hash import HASH_BYTES
from hpcnas.architecture.space import Space
from hpcnas.evolution.individuals import COLUMNS, MEASURES, Birth, State
from hpcnas.messages import FailureKind
from hpcnas.search import methods
from hpcnas.storage import allowed
from hpcnas.storage.allowed import Wrong, told
from hpcnas.storage.columns import LATEST, Column

Table = dict[str, np.ndarray]

MESSAGE_BYTES = 2048  # of a failure's message, its end
_MOST_ATTEMPTS = 128  # at one individual that is in flight; `max_attempts` is 100 at the most
_TIME = "s since 1970-01-01"
SESSION_COLUMNS = (  # "S" is as wide as the longest text: half a JSON object is none
    Column("started", "f8", "when the controller started, UTC", _TIME, low=0, high=LATEST, told=True),
    Column("host", "S", "host of the controller", told=True),
    Column("pid", "i8", "process id of the controller", low=0, told=True),
    Column("ranks", "i4", "MPI ranks", "ranks", low=0, told=True),
    Column("software", "S", "names and versions, JSON", told=True),
    Column("data", "S", "what the data set was: sizes and fingerprint, JSON"),
)
FAILURE_COLUMNS = (
    Column("individual", "i8", "id of the individual", low=0),
    Column("attempt", "u1", "number of the attempt at it, from 1", told=True),
    Column("kind", "u1", "kind of failure", values=FailureKind),
    Column("started", "f8", "start of the attempt, UTC", _TIME, low=0, high=LATEST, told=True),
    Column("finished", "f8", "end of the attempt, UTC", _TIME, low=0, high=LATEST, told=True),
    Column("rank", "i4", "MPI rank", low=0, told=True),
    Column("host", "S", "host", told=True),
    Column("device", "S", "device", told=True),
    Column("message", f"S{MESSAGE_BYTES}", "the end of the traceback or of the last output", told=True),
)


@dataclass(frozen=True)
class Tables:
    """The tables of a run, and what they are of."""

    space: Space
    replicates: int
    rungs: tuple[float, ...]
    individuals: Table
    evaluated: np.ndarray
    failures: Table
    sessions: Table
    workers: Table  # without columns in older runs

    def columns(self, name: str) -> tuple[tuple[Column, ...], Table]:
        """Those of one table, as they are meant and as they were read."""
        return {
            "individuals": (COLUMNS, self.individuals),
            "failures": (FAILURE_COLUMNS, self.failures),
            "sessions": (SESSION_COLUMNS, self.sessions),
            "workers": (methods.COLUMNS if self.workers else (), self.workers),
        }[name]


NAMES = ("individuals", "failures", "sessions", "workers")


def misshapen(tables: Tables) -> Iterator[Wrong]:
    """Columns of another type or shape; where there are any, nothing else can be looked at."""
    widths = {
        "edges": tables.space.edges,
        "replicates": tables.replicates,
        "hash": HASH_BYTES,
        "curves": tables.replicates * len(tables.rungs),
        "measured": tables.replicates * _measured(tables),
        "classes": tables.replicates * _classes(tables),
    }
    for name in NAMES:
        columns, table = tables.columns(name)
        rows = len(table[columns[0].name]) if columns else 0
        yield from allowed.wrong_shapes(name, columns, table, rows, widths)
    if tables.evaluated.ndim != 1 or tables.evaluated.dtype != np.int64:
        found = f"{tables.evaluated.dtype} of shape {tables.evaluated.shape}"
        yield Wrong("evaluated", "evaluated", None, "int64 of one dimension", found)


def _measured(tables: Tables) -> bool:
    """Whether there are measures: columns without any are as none."""
    return tables.individuals.get("plain_accuracy", np.empty((0, 1))).shape[1:] != (0,)


def _classes(tables: Tables) -> int:
    """How many classes there are accuracies of."""
    found = tables.individuals.get("class_accuracies")
    return found.shape[1] // tables.replicates if found is not None and found.ndim == 2 else 0


def wrong(tables: Tables) -> list[Wrong]:
    """All that cannot be, of tables that are of the right shapes."""
    found = [item for name in NAMES for item in allowed.wrong_values(name, *tables.columns(name))]
    return [*found, *_wrong_births(tables), *_wrong_results(tables), *_wrong_curves(tables), *_wrong_measures(tables),
            *_wrong_order(tables),
            *_wrong_failures(tables), *_wrong_sessions(tables.sessions), *_without_session(tables),
            *_wrong_workers(tables)]  # fmt: skip


def _without_session(tables: Tables) -> Iterator[Wrong]:
    """Nothing is born before a controller has started: only its session says on what data."""
    if len(tables.individuals["birth"]) and not len(tables.sessions["started"]):
        yield Wrong("individuals", "birth", 0, "a session of the controller before the first birth", "none")


def _wrong_births(tables: Tables) -> Iterator[Wrong]:
    table = tables.individuals
    ids, known = np.arange(len(table["birth"])), len(tables.evaluated)
    yield from told("individuals", "parent", table["parent"] >= ids, "a parent that was born before it", table)
    view = table["view"]
    for id in np.flatnonzero((view > ids) | (view > known)).tolist():
        most = min(id, known)
        yield Wrong("individuals", "view", id, f"a view of 0 to {most} evaluations", allowed.shown(view[id]))
    highest = np.frombuffer(genotype.highest_codes(tables.space), dtype=np.uint8)
    for id in np.flatnonzero((table["genotype"] > highest).any(axis=1)).tolist():
        edge = int(np.flatnonzero(table["genotype"][id] > highest)[0])
        what = f"a genotype whose edge {edge} has an operation 0 to {highest[edge]}"
        yield Wrong("individuals", "genotype", id, what, allowed.shown(table["genotype"][id, edge]))
    for id, codes in enumerate(table["genotype"] if tables.space.leaves_out else ()):
        place = genotype.unchosen(tables.space, codes.tobytes())
        if place is not None and codes[place] <= highest[place]:
            what = f"a genotype whose edge {place} has an operation of the space {tables.space}"
            yield Wrong("individuals", "genotype", id, what, allowed.shown(codes[place]))
    if "network_version" in table and "network" in table:
        looked = table["network"].any(axis=1)
        yield from told("individuals", "network_version", looked != (table["network_version"] > 0),
                        "a network_version where there is a network, and nowhere else", table)  # fmt: skip
    if "repeats" in table:
        repeats = table["repeats"]
        several = (repeats >= 0) & (repeats < ids)
        several[several] = repeats[repeats[several]] < 0
        what = "one before it, which is no repeat itself, as the individual that it repeats"
        yield from told("individuals", "repeats", (repeats >= 0) & ~several, what, table)
        alone = (table["birth"] == Birth.CONFIRMATION) & ((repeats < 0) | (table["parent"] < 0))
        what = "an individual that it repeats, and a parent, for a CONFIRMATION"
        yield from told("individuals", "repeats", alone, what, table)


def _wrong_results(tables: Tables) -> Iterator[Wrong]:
    table = tables.individuals
    state, trained = table["state"], table["replicates_trained"]
    evaluated, stopped = state == State.EVALUATED, state == State.STOPPED
    counted = (~np.isnan(table["accuracies"])).sum(axis=1)
    for id in np.flatnonzero(trained != counted).tolist():
        what = f"{counted[id]} replicates trained, as many as there are accuracies"
        yield Wrong("individuals", "replicates_trained", id, what, str(trained[id]))
    checks = (
        ("accuracies", evaluated & (counted == 0), "accuracies of an individual that is EVALUATED"),
        ("fitness", np.isnan(table["fitness"]) == evaluated,
         "a fitness of an individual that is EVALUATED, and of no other"),
        ("accuracies", stopped & (counted > 0), "no accuracies of an individual that is STOPPED"),
        ("parameters", (evaluated | stopped) & (table["parameters"] < 0),
         "parameters of an individual that is EVALUATED or STOPPED"),
        ("failure", (table["failure"] > 0) != (state == State.FAILED),
         "a kind of failure of an individual that is FAILED, and of no other"),
        ("attempts", (state == State.ISSUED) & (table["attempts"] > _MOST_ATTEMPTS),
         f"at most {_MOST_ATTEMPTS} attempts at an individual that is ISSUED"),
    )  # fmt: skip
    for column, marked, what in checks:
        yield from told("individuals", column, marked, what, table)


def _wrong_curves(tables: Tables) -> Iterator[Wrong]:
    """Each replicate comes to the first rungs and then to no other; those that are stopped come equally far."""
    table, rungs = tables.individuals, len(tables.rungs)
    stopped, rows = table["state"] == State.STOPPED, len(table["state"])
    if missing := [column.name for column in COLUMNS if column.of_curves and column.name not in table]:
        if rungs:
            yield Wrong("individuals", missing[0], None, f"a column {missing[0]}, for there are rungs", "none")
        yield from told("individuals", "state", stopped, "no individual STOPPED, without such columns", table)
        return
    there = ~np.isnan(table["curves"].reshape(rows, tables.replicates, rungs))
    lengths = there.sum(axis=2)
    holes = (there != (np.arange(rungs) < lengths[..., None])).any(axis=(1, 2))
    yield from told("individuals", "curves", holes, "an accuracy at every rung up to the last of each replicate", table)
    judged, counted = table["judged"].astype(np.int64), (lengths > 0).sum(axis=1)
    first = np.logical_and.accumulate(lengths > 0, axis=1).sum(axis=1)  # curves that follow one another from the first
    uneven = ((lengths > 0) & (lengths != lengths[:, :1])).any(axis=1) | (counted == 0)
    what = "curves of one length, of as many replicates as were judged, of an individual that is STOPPED"
    yield from told("individuals", "curves", stopped & (uneven | (judged != first) | (counted != first)), what, table)
    untrained = ((lengths > 0) & ((lengths < rungs) | np.isnan(table["accuracies"]))).any(axis=1)
    what = "curves as long as there are rungs, of replicates that are trained, unless the individual is STOPPED"
    yield from told("individuals", "curves", ~stopped & untrained, what, table)
    what = "as judged at most the curves that follow one another from the first"
    yield from told("individuals", "judged", ~stopped & (judged > first), what, table)
    after, known = table["stopped_after"], len(tables.evaluated)
    what = f"0 to {known} evaluations before an individual was STOPPED, its view or more, and none for any other"
    misplaced = ((after >= 0) != stopped) | (after > known) | (stopped & (after < table["view"]))
    yield from told("individuals", "stopped_after", misplaced, what, table)


def _wrong_measures(tables: Tables) -> Iterator[Wrong]:
    """Measures are of replicates that are trained."""
    table = tables.individuals
    there = [column.name for column in COLUMNS if column.of_measures and column.name in table]
    if there and len(there) < len(MEASURES):
        missing = next(name for name in MEASURES if name not in there)
        yield Wrong("individuals", missing, None, f"a column {missing}, beside {there[0]}", "none")
    elif there and _measured(tables):
        untrained = (~np.isnan(table["plain_accuracy"]) & np.isnan(table["accuracies"])).any(axis=1)
        what = "measures of replicates that are trained"
        yield from told("individuals", "plain_accuracy", np.asarray(untrained), what, table)


def _wrong_order(tables: Tables) -> Iterator[Wrong]:
    state, order = tables.individuals["state"], tables.evaluated
    there = (order >= 0) & (order < len(state))
    good = there.copy()
    good[there] = state[order[there]] == State.EVALUATED
    earliest = np.full(len(state), -1)
    earliest[order[good][::-1]] = np.flatnonzero(good)[::-1]  # of several places, the first is written last
    first = np.zeros(len(order), dtype=bool)
    first[earliest[earliest >= 0]] = True
    what = "an individual that is EVALUATED, each of them once"
    yield from told("evaluated", "evaluated", ~(good & first), what, {"evaluated": order})
    placed = np.zeros(len(state), dtype=bool)
    placed[order[good]] = True
    missing = (state == State.EVALUATED) & ~placed
    for id in np.flatnonzero(missing).tolist():
        yield Wrong("individuals", "evaluated", id, "a place in the order of evaluations, for it is EVALUATED", "none")


def _wrong_failures(tables: Tables) -> Iterator[Wrong]:
    state, table = tables.individuals["state"], tables.failures
    whose, good = table["individual"], ~allowed.not_allowed(FAILURE_COLUMNS[2], table["kind"])
    yield from told("failures", "individual", whose >= len(state), f"an individual from 0 to {len(state) - 1}", table)
    told_of = np.zeros(len(state), dtype=bool)
    told_of[whose[(whose >= 0) & (whose < len(state)) & good]] = True
    for id in np.flatnonzero((state == State.FAILED) & ~told_of).tolist():
        yield Wrong("individuals", "failures", id, "a failed attempt on record, for it is FAILED", "none")


def _wrong_sessions(table: Table) -> Iterator[Wrong]:
    for row in range(len(table["started"])):
        for column, read in (("software", allowed.software), ("data", allowed.facts)):
            try:
                read(json.loads(table[column][row]))
            except (ValueError, RecursionError) as error:
                expected, _, got = str(error).partition(", got ")
                what = expected.removeprefix("expected ") if got else f"{column} in JSON"
                yield Wrong("sessions", column, row, what, got or allowed.shown(table[column][row]))


def _wrong_workers(tables: Tables) -> Iterator[Wrong]:
    if tables.workers:
        count = len(tables.sessions["started"])
        known = f"a session from 0 to {count - 1}" if count else "no worker without a session"
        yield from told("workers", "session", tables.workers["session"] >= count, known, tables.workers)


def sound(tables: Tables, faults: Sequence[Wrong]) -> Tables:
    """The part of the tables that faults have not touched, in which nothing is wrong.

    What is only told (times, hosts) is left away value by value. Workers of a session that is left out go with it.
    Individuals that were evaluated after what is left of the order are in flight again. All other faults cost their
    individual and those that were born after it, whose births may depend on it."""
    tables, lost = _without_told(tables, faults), _lost(tables, faults)
    good, order = _untouched(tables, faults, lost)
    individuals = {name: column[:good] for name, column in tables.individuals.items()}
    failures = _kept_failures(tables.failures, lost["failures"], good)
    again = np.setdiff1d(np.flatnonzero(individuals["state"] == State.EVALUATED), order)
    _put_in_flight(individuals, again, failures)
    if any(name not in individuals for name in MEASURES):
        individuals = {name: column for name, column in individuals.items() if name not in MEASURES}
    if any(column.of_curves and column.name not in individuals for column in COLUMNS):  # the others say nothing then
        individuals = {column.name: individuals[column.name] for column in COLUMNS
                       if column.name in individuals and not column.of_curves}  # fmt: skip
    else:
        individuals["stopped_after"] = recounted(individuals["stopped_after"], tables.evaluated, order)
    sessions, workers = _kept_sessions(tables, lost["sessions"], lost["workers"])
    return replace(
        tables, individuals=individuals, evaluated=order, failures=failures, sessions=sessions, workers=workers
    )


def recounted(counts: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How many evaluations of the order `before` are left in the order `after`, of the first so many, for each of the
    counts; −1 stays. All are int64 of one dimension."""
    left = np.concatenate([[0], np.cumsum(np.isin(before, after))]).astype(np.int64)
    return np.where(counts < 0, counts, left[np.clip(counts, 0, len(before))])


def _column(tables: Tables, fault: Wrong) -> Column | None:
    """The column that is wrong; None where it is none of the table's, but what other tables say of a row."""
    columns, _ = tables.columns(fault.table)
    return next((column for column in columns if column.name == fault.column), None)


def _without_told(tables: Tables, faults: Sequence[Wrong]) -> Tables:
    """A copy, without the values that are wrong and only told."""
    copy = replace(
        tables,
        individuals=_copied(tables.individuals),
        failures=_copied(tables.failures),
        sessions=_copied(tables.sessions),
        workers=_copied(tables.workers),
    )
    for fault in faults:
        if fault.row is None or fault.table not in NAMES:
            continue
        if (column := _column(tables, fault)) is not None and column.told:
            none = b"{}" if column.name == "software" else b""
            _, table = copy.columns(fault.table)
            table[column.name][fault.row] = none if column.dtype.startswith("S") else column.missing
    return copy


def _copied(table: Table) -> Table:
    return {name: column.copy() for name, column in table.items()}


def _lost(tables: Tables, faults: Sequence[Wrong]) -> dict[str, set[int]]:
    """The rows of each table that are wrong in themselves. An individual without its place in the order, or without a
    failed attempt on record, is none: what it lacks depends on what is left of other tables."""
    lost: dict[str, set[int]] = {name: set() for name in NAMES}
    for fault in faults:
        if fault.table not in NAMES or fault.row is None:
            continue
        column = _column(tables, fault)
        if not (column.told if column is not None else fault.table == "individuals"):
            lost[fault.table].add(fault.row)
    return lost


def _untouched(tables: Tables, faults: Sequence[Wrong], lost: dict[str, set[int]]) -> tuple[int, np.ndarray]:
    """How many individuals stay, from the first on, and the order in which they were evaluated: int64, one
    dimension."""
    individuals, count = tables.individuals, len(tables.individuals["birth"])
    good = min([count, *lost["individuals"]])
    if len(lost["sessions"]) == len(tables.sessions["started"]):
        good = 0
    good = min([good, *_without_failure(individuals, tables.failures, lost["failures"])])
    places = [fault.row for fault in faults if fault.table == "evaluated" and fault.row is not None]
    end = min([len(tables.evaluated), *(place for place in places if not good <= tables.evaluated[place] < count)])
    good = min([good, *_unknown(individuals, tables.evaluated, end)])
    order = tables.evaluated[:end]
    return good, order[order < good]


def _kept_failures(failures: Table, lost: set[int], good: int) -> Table:
    """Failed attempts at individuals that stay."""
    whose = failures["individual"]
    kept = [row for row in range(len(whose)) if row not in lost and whose[row] < good]
    return {name: column[kept] for name, column in failures.items()}


def _put_in_flight(individuals: Table, ids: np.ndarray, failures: Table) -> None:
    """Leaves of evaluated individuals no more than their births, and how many attempts at them have failed."""
    for column in COLUMNS[[column.name for column in COLUMNS].index("attempts") :]:
        if column.name in individuals:
            individuals[column.name][ids] = column.missing
    individuals["state"][ids] = State.ISSUED
    again = set(ids.tolist())
    for id, attempt in zip(failures["individual"].tolist(), failures["attempt"].tolist(), strict=True):
        if id in again:
            individuals["attempts"][id] = min(attempt, _MOST_ATTEMPTS)


def _kept_sessions(tables: Tables, lost_sessions: set[int], lost_workers: set[int]) -> tuple[Table, Table]:
    """Sessions that stay, and the workers of these, numbered anew."""
    stay = [row for row in range(len(tables.sessions["started"])) if row not in lost_sessions]
    sessions = {name: column[stay] for name, column in tables.sessions.items()}
    if not tables.workers:
        return sessions, {}
    of = np.flatnonzero(np.isin(tables.workers["session"], stay))
    there = [row for row in of.tolist() if row not in lost_workers]
    workers = {name: column[there] for name, column in tables.workers.items()}
    workers["session"][:] = np.searchsorted(stay, workers["session"])
    return sessions, workers


def _unknown(individuals: Table, order: np.ndarray, end: int) -> Iterable[int]:
    """The first individual that was born knowing more than `end` evaluations, if there is one."""
    late = np.flatnonzero((individuals["view"] > end) & (individuals["birth"] != Birth.FOUNDER))
    return late[:1].tolist() if end < len(order) else []


def _without_failure(individuals: Table, failures: Table, lost: set[int]) -> Iterable[int]:
    """The first FAILED individual of which no failed attempt is left, if there is any."""
    kept = {int(id) for row, id in enumerate(failures["individual"]) if row not in lost}
    return [id for id in np.flatnonzero(individuals["state"] == State.FAILED).tolist() if id not in kept][:1]
