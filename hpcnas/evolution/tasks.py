"""How the trainings of one fitness become tasks: all in one or each its own, with racing and early stopping in stages.

                      scheduling = fitness        scheduling = replicate
    neither           0 1 2 3                     0 │ 1 │ 2 │ 3           all at once, on any workers
    early stopping    0 1 2 3                     0 ──► 1 │ 2 │ 3         the others once the first was not stopped
    racing, or both   0 ──► 1 2 3                 0 ──► 1 ──► 2 ──► 3     each stage after a verdict (`racing`)

Only the task that begins with replicate 0 can be stopped early. A GPU trains the replicates of a task side by side,
which takes less time than one after another. Knows neither workers nor verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcnas.config.search import SearchSettings


@dataclass(frozen=True, slots=True)
class Replicates:
    """The replicates of a fitness that one task trains: `count` of them, from number `first` on."""

    first: int
    count: int


def next_tasks(search: SearchSettings, missing: Sequence[int], replicates: int) -> list[Replicates]:
    """The tasks to issue for an individual that no worker is training.

    `missing` are the numbers of its replicates that are not trained, ascending, at least one; `replicates` is how many
    a fitness takes. The replicates that these tasks leave out follow when these tasks are done, unless racing has
    given the individual up.
    """
    fresh = len(missing) == replicates
    if search.scheduling == "replicate":
        alone = search.racing or search.early_stopping and fresh
        return [Replicates(number, 1) for number in (missing[:1] if alone else missing)]
    if search.racing and fresh:
        return [Replicates(missing[0], 1)]
    return _consecutive(missing)


def _consecutive(numbers: Sequence[int]) -> list[Replicates]:
    """Numbers that follow one another make one task."""
    tasks: list[Replicates] = []
    for number in numbers:
        if tasks and number == tasks[-1].first + tasks[-1].count:
            tasks[-1] = Replicates(tasks[-1].first, tasks[-1].count + 1)
        else:
            tasks.append(Replicates(number, 1))
    return tasks
