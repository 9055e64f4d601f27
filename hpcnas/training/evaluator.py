"""The interface of what a worker evaluates with, and the checks of its answers. No implementation.

`trainer_process` trains, in a child process; `synthetic` computes. Ranks load only the one they use (D8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hpcnas import answers
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.measures import ACCURACY, BUILT_IN, MOST, MOST_CLASSES, NAMES, FitnessMeasure
from hpcnas.messages import Evaluation, Failure, FailureKind, Outcome, Stopped, Task, first_below

_LOG_LOSS = NAMES.index("log-loss")
SECONDS = ("setup_seconds", "training_seconds", "validation_seconds")


class EvaluatorRefused(Exception):
    """Evaluations cannot begin, or cannot go on: one line. `passes`: the cause may pass, so another job may succeed;
    else a person must remove it. `of_data`: the data are the cause."""

    def __init__(self, reason: str, passes: bool = False, of_data: bool = False) -> None:
        super().__init__(reason)
        self.passes = passes
        self.of_data = of_data


@dataclass(frozen=True)
class Loaded:
    """The evaluator has its data and its device. Software maps names to versions; `slower` says why it evaluates more
    slowly than it could, and is empty where it does not."""

    facts: DataFacts
    software: Mapping[str, str]
    slower: str = ""


class Evaluator(Protocol):
    """What a worker evaluates tasks with, one at a time."""

    def ready(self, timeout: float) -> Loaded | None:
        """What the evaluations depend on; None if that is not known within `timeout` seconds.

        Raises EvaluatorRefused."""
        ...

    def start(self, task: Task) -> None:
        """Begins an evaluation; the one before must have ended. Raises EvaluatorRefused, as `poll` does."""
        ...

    def poll(self, timeout: float) -> Outcome | None:
        """The outcome of what was started, with an accuracy from 0 to 1 for each of the task's seeds, or, of another
        `training.fitness`, a number within its bounds; None if it is still running after `timeout` seconds. Raises
        EvaluatorRefused where this worker cannot evaluate any more: the task then goes to another one, as if it had not
        begun."""
        ...

    def save(self, timeout: float) -> None:
        """Lets what runs be saved, to be continued by another attempt, for `timeout` seconds at most."""
        ...

    def close(self) -> None:
        """Ends whatever runs, at once."""
        ...


def warnings(evaluator: Evaluator) -> list[str]:
    """Faults since the last call that evaluations have gone on in spite of, a line each. An evaluator with such lines
    has a method `warnings`; one of a plugin needs none."""
    take: Callable[[], list[str]] | None = getattr(evaluator, "warnings", None)
    return [] if take is None else take()


def described(evaluator: Evaluator) -> str:
    """What messages about an evaluator's answers call it: its `whose`, if it has one, as those of plugins."""
    return getattr(evaluator, "whose", "the evaluator")


class _NoAnswer(Exception):
    """What an evaluator has given is no answer to its task: what was expected, and what came."""

    def __init__(self, message: str, kind: FailureKind = FailureKind.ERROR) -> None:
        super().__init__(message)
        self.kind = kind


def checked(
    outcome: Outcome,
    task: Task,
    whose: str = "the evaluator",
    measure: FitnessMeasure = ACCURACY,
    classes: int | None = None,
) -> Outcome:
    """An evaluator's answer to a task, in Python's numbers; a Failure, which names `whose`, where it is no answer.

    `measure` is what the fitness is; `classes` those of the data, unless nobody asks for all measures."""
    if isinstance(outcome, Failure):
        kind: object = outcome.kind
        known = FailureKind(kind) if isinstance(kind, int) and kind in set(FailureKind) else FailureKind.ERROR
        message: object = outcome.message
        return Failure(known, message if isinstance(message, str) else answers.told(message))
    try:
        match outcome:
            case Evaluation():
                accuracies = _accuracies(outcome.accuracies, len(task.seeds), "one a seed, ", whose, measure)
                curves = _curves(outcome.curves, task, whose, measure) if _each(outcome.curves) else ()
                judged = _judged(outcome.judged, curves, task, whose)
                every = () if classes is None else _measures(outcome.measures, len(task.seeds), classes, whose)
                weighed = _objective(outcome.objective, whose)
                waited = _waiting(outcome, whose)
                return Evaluation(accuracies, *_costs(outcome, whose), curves, judged, every, weighed, waited)
            case Stopped():
                curves = _curves_so_far(outcome.curves, task, whose, measure)
                return Stopped(curves, *_costs(outcome, whose), _waiting(outcome, whose))
    except _NoAnswer as error:
        return Failure(error.kind, str(error))
    message = f"expected an Evaluation or a Failure from {whose}, got {type(outcome).__name__}"
    return Failure(FailureKind.ERROR, message)


def _accuracies(given: object, count: int, what: str, whose: str, measure: FitnessMeasure) -> tuple[float, ...]:
    """So many numbers within the measure's bounds. Raises _NoAnswer."""
    found = _each(given)
    accuracies = [number for one in found if (number := answers.real(one)) is not None]
    called = "accuracies" if measure is ACCURACY else f"numbers of {measure.name}"
    if len(found) == len(accuracies) == count and not all(map(math.isfinite, accuracies)):
        raise _NoAnswer(f"expected finite {called} from {whose}, got {_shown(found)}", FailureKind.NAN)
    low, high = measure.low, measure.high
    if len(found) != count or len(accuracies) != count or not all(low <= one <= high for one in accuracies):
        bounds = f"from {low:.15g} to {high:.15g}"
        raise _NoAnswer(f"expected {count} {called} {bounds} from {whose}, {what}got {_shown(found)}")
    return tuple(accuracies)


def _measures(given: object, count: int, classes: int, whose: str) -> tuple[tuple[float | None, ...], ...]:
    """All measures of each of so many replicates, or of none (`measuring.every`). Raises _NoAnswer."""
    own = classes if classes <= MOST_CLASSES else 0
    rows = [tuple(map(answers.plain, _each(row))) for row in _each(given)]
    good = all(len(row) == len(BUILT_IN) + own and _are_measures(row) for row in rows)
    if not good or len(rows) not in (0, count):
        expected = f"{len(BUILT_IN)} measures and {own} class-wise accuracies"
        raise _NoAnswer(f"expected of each of {count} replicates, or of none, {expected} from {whose}, got others")
    return tuple(tuple(None if one is None else answers.real(one) for one in row) for row in rows)


def _objective(given: object, whose: str) -> tuple[float, float | None] | None:
    """A cost and its spread. Raises _NoAnswer."""
    if given is None:
        return None
    found = list(map(answers.plain, _each(given)))
    number, width = (answers.real(found[0]), answers.amount(found[1])) if len(found) == 2 else (None, None)
    if number is None or not abs(number) <= answers.LARGEST or (width is None and found[1] is not None):
        told = answers.told(given)
        raise _NoAnswer(f"expected a cost and its spread, or None, as objective from {whose}, got {told}")
    return number, width


def _are_measures(row: Sequence[object]) -> bool:
    """Whether files hold them: an accuracy, and others or None, from 0 to 1 each but the log loss."""
    numbers = [answers.real(one) for one in row]
    return row[0] is not None and all(
        given is None or number is not None and 0 <= number <= (MOST if place == _LOG_LOSS else 1)
        for place, (given, number) in enumerate(zip(row, numbers, strict=True))
    )


def _curves(given: object, task: Task, whose: str, measure: FitnessMeasure) -> tuple[tuple[float, ...], ...]:
    """A whole learning curve for each seed. Raises _NoAnswer."""
    found, count = _each(given), len(task.seeds)
    if len(found) != count or not task.rungs:
        curves = f"{count} learning curves, one a seed," if task.rungs else "no learning curves, without rungs,"
        raise _NoAnswer(f"expected {curves} from {whose}, got {len(found)}")
    return tuple(_accuracies(curve, task.rungs, "one a rung, ", whose, measure) for curve in found)


def _judged(given: object, curves: tuple[tuple[float, ...], ...], task: Task, whose: str) -> int:
    """How many of the first curves went on, together, at every rung for being above its floor. Raises _NoAnswer."""
    judged = answers.whole(given)
    if judged is None or judged > len(curves) or judged and not task.floors:
        most = len(curves) if task.floors else 0
        raise _NoAnswer(f"expected 0 to {most} curves judged from {whose}, got {answers.told(given)}")
    if judged and first_below(curves[:judged], task.floors) is not None:
        raise _NoAnswer(f"expected trainings below the floor of a rung to be stopped by {whose}, but they went on")
    return judged


def _curves_so_far(given: object, task: Task, whose: str, measure: FitnessMeasure) -> tuple[tuple[float, ...], ...]:
    """The curves of trainings that were stopped at the first rung whose floor they are below. Raises _NoAnswer."""
    found = [_each(curve) for curve in _each(given)]
    length = len(found[0]) if found else 0
    if not 0 < len(found) <= len(task.seeds) or not 0 < length <= task.rungs or not task.floors:
        raise _NoAnswer(
            f"expected a training with floors to be stopped by {whose} at one of {task.rungs} rungs, got "
            f"{len(found)} curves of {length} for {len(task.seeds)} seeds and {len(task.floors)} floors"
        )
    curves = tuple(_accuracies(curve, length, "of one length, ", whose, measure) for curve in found)
    if first_below(curves, task.floors) != length - 1:
        raise _NoAnswer(f"expected trainings to be stopped by {whose} where they are below a floor, not elsewhere")
    return curves


def _costs(outcome: Evaluation | Stopped, whose: str) -> tuple[int, float, float, float]:
    """Parameters, and the seconds of set-up, training and validation. Raises _NoAnswer."""
    parameters = answers.whole(outcome.parameters)
    if parameters is None:
        said = answers.told(outcome.parameters)
        raise _NoAnswer(f"expected a whole number of parameters from {whose}, got {said}")
    setup, training, validation = (_amount(getattr(outcome, name), name, whose) for name in SECONDS)
    return parameters, setup, training, validation


def _waiting(outcome: Evaluation | Stopped, whose: str) -> float | None:
    """Seconds for images, where there were such. Raises _NoAnswer."""
    given: object = outcome.waiting_seconds
    return None if given is None else _amount(given, "waiting_seconds", whose)


def _amount(given: object, name: str, whose: str) -> float:
    """Raises _NoAnswer."""
    value = answers.amount(given)
    if value is None:
        said = answers.told(given)
        raise _NoAnswer(f"expected {name} from 0 to {answers.LARGEST:g} from {whose}, got {said}")
    return value


def _each(accuracies: object) -> list[object]:
    """What has been given, one by one; what has no parts is one."""
    try:
        return list(accuracies) if isinstance(accuracies, Iterable) else [accuracies]
    except Exception:  # an array or a tensor without axes, or code of others
        return [accuracies]


def _shown(accuracies: Sequence[object]) -> str:
    plain = map(answers.plain, accuracies[:20])
    texts = (f"{one:g}" if isinstance(one, float) else answers.told(one) for one in plain)
    return f"{len(accuracies)}: {' '.join(texts):.200}"
