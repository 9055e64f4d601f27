"""Which individuals of a search a page asks for: filters of an address, as rows of the table, and a sample of many.

    birth=MUTATION,RANDOM  state=EVALUATED  host=…  parameters=1e5,2e5  fitness=0.8,  hours=,3  step=1,500  id=,99
    network_of=ID          those of one network           child_of=ID   mutants of one individual

Bounds are inclusive, and either may be left out. All filters hold at once; several hosts are alternatives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np

from hpcnas.analysis.distinct import distinct
from hpcnas.analysis.runs import AnalysisError
from hpcnas.dashboard.followed import FollowedSearch
from hpcnas.evolution.individuals import Birth, State
from hpcnas.job import terminal

Query = Mapping[str, Sequence[str]]  # the values of each name, in the order in which they were given
RANGES = ("parameters", "fitness", "hours", "step", "id")


def one(query: Query, name: str, default: str = "") -> str:
    """The last value of a name."""
    values = query.get(name) or [default]
    return values[-1]


def whole(query: Query, name: str, low: int, high: int, default: int | None = None) -> int:
    """A whole number within inclusive bounds. Raises AnalysisError."""
    text = one(query, name, "" if default is None else str(default))
    try:
        number = int(text) if len(text) <= 20 else high + 1
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise AnalysisError(f"{name}: expected a whole number from {low} to {high}, got {terminal.one_line(text)[:60]}")
    return number


def individual_named(run: FollowedSearch, query: Query, name: str = "id") -> int:
    """An individual that is there. Raises AnalysisError."""
    count = len(run.stored.population)
    if not count:
        raise AnalysisError("no individual has been born yet")
    return whole(query, name, 0, count - 1)


# ── columns that are derived ────────────────────────────────────────────────────────────────────────────────────────
def steps(run: FollowedSearch) -> np.ndarray:
    """Evolution step of each individual, its place in the order of evaluations from 1; 0 without one: int64
    (individuals,)."""

    def made() -> np.ndarray:
        population = run.stored.population
        found = np.zeros(len(population), dtype=np.int64)
        found[population.evaluated] = np.arange(1, len(population.evaluated) + 1)
        return found

    return run.cached("steps", made)


def hours(run: FollowedSearch) -> np.ndarray:
    """When each individual's last training ended, in hours since the first session began; NaN while it has not:
    float64 (individuals,)."""
    stored = run.stored
    start = stored.sessions[0].started if stored.sessions else 0.0
    return run.cached("hours", lambda: (stored.population.column("finished") - start) / 3600)


def host_names(run: FollowedSearch) -> list[str]:
    """The names of all hosts in their order; one that has come just now may be missing."""
    return run.lately("hosts", lambda: _names(run.stored.population.column("host"))[0])


def hosts(run: FollowedSearch, ids: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The names of hosts, and for each of these individuals (n,) which of them, −1 for none: int64 (n,)."""
    names, codes = _names(run.stored.population.column("host")[ids])
    known = list(dict.fromkeys([*host_names(run), *names]))
    places = np.array([*map(known.index, names), -1], dtype=np.int64)
    return known, places[codes]


def _names(column: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The hosts of a column in their order, and for each row which of them, −1 for none."""
    texts, codes = distinct(column)
    there = texts != b""
    places = np.where(there, np.cumsum(there) - 1, -1)
    return [terminal.one_line(text.decode(errors="replace")) for text in texts[there].tolist()], places[codes]


# ── filters ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def chosen(run: FollowedSearch, query: Query) -> np.ndarray:
    """Ids of the individuals that pass all filters, rising: int64 (matching,). Raises AnalysisError."""
    population = run.stored.population
    mask = np.ones(len(population), dtype=bool)
    for name, codes in (("birth", Birth), ("state", State)):
        if text := ",".join(query.get(name, ())):
            mask &= np.isin(population.column(name), _codes(name, text, codes))
    if wanted := [text for text in query.get("host", ()) if text]:
        names, of_rows = hosts(run, np.arange(len(population)))
        mask &= np.isin(of_rows, [number for number, name in enumerate(names) if name in wanted])
    for name in RANGES:
        if text := one(query, name):
            low, high = _bounds(name, text)
            values = _values(run, name)
            known = values > 0 if name == "step" else values >= 0 if name == "parameters" else ~np.isnan(values)
            mask &= known & (values >= low) & (values <= high)
    if one(query, "network_of"):
        mask &= _same_network(run, individual_named(run, query, "network_of"))
    if one(query, "child_of"):
        mask &= population.column("parent") == individual_named(run, query, "child_of")
    return np.flatnonzero(mask)


def _values(run: FollowedSearch, name: str) -> np.ndarray:
    if name == "id":
        return np.arange(len(run.stored.population))
    if name == "step":
        return steps(run)
    return hours(run) if name == "hours" else run.stored.population.column(name)


def _codes(name: str, text: str, codes: type[IntEnum]) -> list[int]:
    found = []
    for word in filter(None, text.split(",")):
        if word not in codes.__members__:
            shown = terminal.one_line(word)[:60]
            raise AnalysisError(f"{name}: expected some of {', '.join(codes.__members__)}, got {shown}")
        found.append(int(codes[word]))
    return found


def _bounds(name: str, text: str) -> tuple[float, float]:
    """Of `low,high`, either of which may be empty. Raises AnalysisError."""
    parts = text.split(",")
    try:
        low, high = (
            float(part) if part else bound for part, bound in zip(parts, (-math.inf, math.inf), strict=True)
        )
    except ValueError:
        low = high = math.nan
    if not low <= high:
        raise AnalysisError(f"{name}: expected two rising numbers such as 0.5,0.9, got {terminal.one_line(text)[:60]}")
    return low, high


def _same_network(run: FollowedSearch, id: int) -> np.ndarray:
    """Which individuals have the network of this one, as far as somebody has looked: bool (individuals,)."""
    population = run.stored.population
    networks, versions = population.column("network"), population.column("network_version")
    found = np.zeros(len(population), dtype=bool)
    found[id] = True
    if versions[id]:
        found |= (networks == networks[id]).all(axis=1) & (versions == versions[id])
    repeats = population.column("repeats")
    first = repeats[id] if repeats[id] >= 0 else id
    found |= repeats == first
    found[first] = True
    return found


# ── a sample ────────────────────────────────────────────────────────────────────────────────────────────────────────
def sampled(ids: np.ndarray, limit: int, always: np.ndarray) -> np.ndarray:
    """At most about `limit` of these ids (n,), rising: those of `always` among them, and of the others every 2^k-th by
    id, so that a point which is shown stays while others come."""
    if len(ids) <= limit:
        return ids
    kept = np.intersect1d(ids, always, assume_unique=True)[-limit:]
    every = 1 << max(0, math.ceil(math.log2(len(ids) / max(1, limit - len(kept)))))
    regular = ids[ids % every == 0]
    if len(regular) < limit // 8:  # ids that are not spread evenly, say those of one host
        regular = ids[:: max(1, math.ceil(len(ids) / limit))]
    return np.union1d(kept, regular)
