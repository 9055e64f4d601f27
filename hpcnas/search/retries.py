"""Which failed tasks are tried again, and by whom (D4).

    crash, oom, hang   again, up to --max-attempts: another worker may do better
    nan                once more, where there is another device: so one that calculates wrongly is found out; a network
                       whose loss is not finite there either diverges by itself
    overrun, error     not again: they would come again

Another device is preferred to another worker, and another worker to the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hpcnas.messages import Failure, FailureKind, Place, Result
from hpcnas.search.crew import device

_REPEATED = frozenset({FailureKind.CRASH, FailureKind.OOM, FailureKind.HANG})


def wanted(result: Result, before: Iterable[Result], most: int, able: Mapping[int, Place]) -> bool:
    """Whether a failed task is tried again. `before`: attempts that have failed so far, of whatever task; `most`:
    attempts at a task; `able`: where workers are that can take it."""
    assert isinstance(result.outcome, Failure), "a task that has failed"
    if result.attempt >= most:
        return False
    if result.outcome.kind is not FailureKind.NAN:
        return result.outcome.kind in _REPEATED
    task = result.individual, result.first
    known = any((one.individual, one.first) == task and _diverged(one) for one in before)
    return not known and any(device(place) != device(result.place) for place in able.values())


def avoided(worker: int, failed: Place, able: Mapping[int, Place]) -> frozenset[int]:
    """Workers that should not get what this one has failed at."""
    same = frozenset(other for other, place in able.items() if device(place) == device(failed))
    return same | {worker} if len(same) < len(able) else frozenset({worker})


def _diverged(result: Result) -> bool:
    return isinstance(result.outcome, Failure) and result.outcome.kind is FailureKind.NAN
