"""Records of the journal (FORMAT.md): how births, results and sessions are written, and read again.

What is read may have been written by another program or by hand, whatever its check sum says: every value is checked,
as those of population.h5 are (`allowed`). When records are written and what they do is `file_store`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, TypeVar

from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.space import Space
from hpcnas.evolution.individuals import BIRTH_COLUMNS, COLUMNS, MEASURES, Individual
from hpcnas.evolution.population import Population
from hpcnas.job.session import Session
from hpcnas.messages import Evaluation, Failure, FailureKind, Outcome, Place, Result, Stopped
from hpcnas.search import run_file
from hpcnas.search.methods import COLUMNS as WORKER_COLUMNS
from hpcnas.search.methods import Worker
from hpcnas.search.run_values import FAILURE_COLUMNS, SESSION_COLUMNS
from hpcnas.storage import allowed
from hpcnas.storage.columns import Column

KINDS = ("begin", "worker", "birth", "retry", "advance", "settle")
ERRORS = (AttributeError, KeyError, TypeError, ValueError)
"""What reading a record raises that no store has written."""

_LEFT_OUT = ("network_version", "repeats")
"""Keys of a birth that are not written where there is nothing to say; all others are null there."""

_COSTS = ("parameters", "setup_seconds", "training_seconds", "validation_seconds")

Code = TypeVar("Code", bound=IntEnum)
_INDIVIDUALS, _FAILURES, _SESSIONS, _WORKERS = (
    {column.name: column for column in columns}
    for columns in (COLUMNS, FAILURE_COLUMNS, SESSION_COLUMNS, WORKER_COLUMNS)
)


def birth(individual: Individual) -> dict[str, Any]:
    """What is written of a birth."""
    record: dict[str, Any] = {"id": individual.id}
    for name, value in individual.recorded():
        if value is not None or name not in _LEFT_OUT:
            record[name] = _written(value)
    return record


def _written(value: Any) -> Any:
    """A value of a birth as JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    return value.name if isinstance(value, IntEnum) else value


def result(result: Result) -> dict[str, Any]:
    """What is written of a result."""
    place, outcome = result.place, result.outcome
    record: dict[str, Any] = {
        "individual": result.individual,
        "attempt": result.attempt,
        "place": {"rank": place.rank, "host": place.host, "device": place.device},
        "started": result.started,
        "finished": result.finished,
        "first": result.first,
    }
    if isinstance(outcome, Failure):
        record["failure"] = {"kind": outcome.kind.name, "message": run_file.fitting(outcome.message)}
        return record
    costs = {name: getattr(outcome, name) for name in _COSTS}
    if outcome.waiting_seconds is not None:
        costs["waiting_seconds"] = outcome.waiting_seconds
    if isinstance(outcome, Stopped):
        record["stopped"] = {"curves": outcome.curves, **costs}
        return record
    record["evaluation"] = {"accuracies": outcome.accuracies, **costs}
    if outcome.curves:
        record["evaluation"] |= {"curves": outcome.curves, "judged": outcome.judged}
    if outcome.measures:
        record["evaluation"] |= {"measures": outcome.measures}
    if outcome.objective is not None:
        record["evaluation"] |= {"objective": outcome.objective}
    return record


def opened(record: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The kind of a record, and what it says. Raises one of ERRORS."""
    ((kind, data),) = record.items()
    if kind not in KINDS:
        raise ValueError(f"expected a record of {', '.join(KINDS[:-1])} or {KINDS[-1]}, got {allowed.shown(kind)}")
    if not isinstance(data, dict):
        raise ValueError(f"expected an object of keys and values, got {allowed.shown(data)}")
    return kind, data


def _value(data: Mapping[str, Any], name: str, columns: Mapping[str, Column] = _INDIVIDUALS) -> Any:
    """What a record says for a column, None where it says that there is nothing. Raises KeyError or ValueError."""
    return allowed.checked(columns[name], data[name])


def born(data: Mapping[str, Any], population: Population) -> Individual:
    """The individual of a birth that is the next of a population. Raises one of ERRORS."""
    view, known = _value(data, "view"), min(len(population), len(population.evaluated))
    if view > known:
        raise ValueError(f"expected a view of 0 to {known} evaluations, got {view}")
    said = {"network_version": 1, **data}  # of the first hash, whose journals did not name it
    found = {
        column.name: _read(column, said[column.name], population.space)
        for column in BIRTH_COLUMNS
        if column.name in said or not column.added  # else the journal is older than the column
    }
    return Individual(id=_natural(data, "id"), **found)


def _read(column: Column, written: Any, space: Space) -> Any:
    """What `_written` was given. Raises one of ERRORS."""
    if column.width == "edges":
        return Genotype(space, bytes.fromhex(written))
    if column.width == "hash":
        return None if written is None else bytes.fromhex(written)
    return allowed.checked(column, written) if column.values is None else _code(column.values, written)


def outcome(data: Mapping[str, Any]) -> Result:
    """The result of an advance, settle or retry. Raises one of ERRORS."""
    found: Outcome
    if "failure" in data:
        failure = data["failure"]
        message = _value(failure, "message", _FAILURES)
        found = Failure(_code(FailureKind, failure["kind"]), message)
    elif "stopped" in data:
        stopped = data["stopped"]
        parameters, setup, training, validation = (_value(stopped, name) for name in _COSTS)
        found = Stopped(_curves(stopped["curves"]), parameters, setup, training, validation, _waiting(stopped))
    else:
        evaluation = data["evaluation"]
        parameters, setup, training, validation = (_value(evaluation, name) for name in _COSTS)
        found = Evaluation(
            _accuracies(evaluation["accuracies"], "accuracies"),
            parameters,
            setup,
            training,
            validation,
            curves=_curves(evaluation["curves"]) if "curves" in evaluation else (),
            judged=_value(evaluation, "judged") if "curves" in evaluation else 0,
            measures=_measures(evaluation["measures"]) if "measures" in evaluation else (),
            objective=_objective(evaluation["objective"]) if "objective" in evaluation else None,
            waiting_seconds=_waiting(evaluation),
        )
    place = _place(data)
    started, finished = (_value(data, name, _FAILURES) for name in ("started", "finished"))
    whose, attempt = _natural(data, "individual"), _value(data, "attempt", _FAILURES)
    return Result(whose, attempt, place, started, finished, found, _natural({"first": 0, **data}, "first"))


def _waiting(data: Mapping[str, Any]) -> float | None:
    """Seconds for images, where there is a word of them. Raises ValueError."""
    if "waiting_seconds" not in data:
        return None
    seconds = _value(data, "waiting_seconds")
    if seconds is None:
        raise ValueError("expected waiting_seconds, got null")
    return float(seconds)


def _accuracies(written: object, column: str) -> tuple[float, ...]:
    """Numbers of one of the columns of accuracies, at least one. Raises ValueError."""
    if not isinstance(written, list) or not written or any(number != number for number in written):
        raise ValueError(f"expected {column}, got {allowed.shown(written)}")
    return tuple(float(allowed.checked(_INDIVIDUALS[column], number)) for number in written)


def _curves(written: object) -> tuple[tuple[float, ...], ...]:
    """Learning curves, at least one. Raises ValueError."""
    if not isinstance(written, list) or not written:
        raise ValueError(f"expected curves, got {allowed.shown(written)}")
    return tuple(_accuracies(curve, "curves") for curve in written)


def _measures(written: object) -> tuple[tuple[float | None, ...], ...]:
    """All measures of each replicate, at least one; null where there is no such number. Raises ValueError."""
    if not isinstance(written, list) or not written or not all(isinstance(row, list) for row in written):
        raise ValueError(f"expected measures, got {allowed.shown(written)}")
    *names, of_classes = MEASURES
    found = []
    for row in written:
        columns = [*names, *[of_classes] * (len(row) - len(names))]
        if len(row) < len(names) or row[0] is None or any(number != number for number in row):
            raise ValueError(f"expected measures, got {allowed.shown(row)}")
        found.append(
            tuple(
                None if number is None else float(allowed.checked(_INDIVIDUALS[column], number))
                for column, number in zip(columns, row, strict=True)
            )
        )
    return tuple(found)


def _objective(written: object) -> tuple[float, float | None]:
    """A cost and its spread, null where it has none. Raises ValueError."""
    if not isinstance(written, list) or len(written) != 2 or written[0] is None or any(one != one for one in written):
        raise ValueError(f"expected a cost and its spread as objective, got {allowed.shown(written)}")
    value, spread = written
    allowed.checked(_INDIVIDUALS["objective"], value)
    return float(value), None if spread is None else float(allowed.checked(_INDIVIDUALS["objective_spread"], spread))


def session(data: Mapping[str, Any]) -> Session:
    """The start of a controller. Raises one of ERRORS."""
    started, host, pid, ranks = (_value(data, name, _SESSIONS) for name in ("started", "host", "pid", "ranks"))
    return Session(started, host, pid, ranks, allowed.software(data["software"]), allowed.facts(data["facts"]))


def worker(data: Mapping[str, Any], session: int) -> Worker:
    """A worker that was ready in the session of that number. Raises one of ERRORS."""
    training, numbers, slower = (_value(data, name, _WORKERS) for name in ("training", "numbers", "slower"))
    if session < 0:
        raise ValueError("expected a session before its workers")
    return Worker(session, _place(data), training, numbers, slower)


def _place(data: Mapping[str, Any]) -> Place:
    return Place(*(_value(data["place"], name, _FAILURES) for name in ("rank", "host", "device")))


def _natural(data: Mapping[str, Any], name: str) -> int:
    """An id, or a number of replicates. Raises KeyError or ValueError."""
    number = data[name]
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 62:
        raise ValueError(f"expected {name} an integer ≥ 0, got {allowed.shown(number)}")
    return number


def _code(codes: type[Code], name: object) -> Code:
    """A member of an enumeration by its name. Raises ValueError."""
    if not isinstance(name, str) or name not in codes.__members__:
        raise ValueError(f"expected one of {', '.join(codes.__members__)}; got {allowed.shown(name)}")
    return codes[name]
