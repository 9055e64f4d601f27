"""The backlog: what is still to be trained of the individuals in flight, before anything new is born.

Work that was in flight at the last end, attempts that have to be repeated, and the next stages of a fitness that has
several (`tasks`). Knows of workers only which should not get a piece of work; which worker gets what is `crew`'s and
`controller`'s business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import Individual
from hpcnas.evolution.population import Population
from hpcnas.evolution.tasks import Replicates, next_tasks
from hpcnas.messages import Evaluation, Result, Task


@dataclass(frozen=True, slots=True)
class Work:
    """Replicates of an individual to be trained, and the workers that have failed at them."""

    individual: Individual
    replicates: Replicates
    attempt: int  # 1, 2, …
    avoid: frozenset[int]
    answered: bool = False  # by another worker meanwhile: the answer of this one will be ignored

    def task(self, drawn: tuple[int, ...], rungs: int = 0, floors: tuple[float, ...] = ()) -> Task:
        """What a worker is told to do; `drawn` are the seeds of all trainings of the individual, `rungs` and `floors`
        as a Task has them."""
        first, count = self.replicates.first, self.replicates.count
        of, seeds = self.individual, drawn[first : first + count]
        return Task(of.id, self.attempt, of.genotype, seeds, first, rungs, floors)

    def is_answered_by(self, result: Result) -> bool:
        """Whether the result is of just this work."""
        of = (result.individual, result.attempt, result.first)
        whole = not isinstance(result.outcome, Evaluation) or len(result.outcome.accuracies) == self.replicates.count
        return of == (self.individual.id, self.attempt, self.replicates.first) and whole


class Backlog:
    """Work that waits, and how many trainings of each individual are still to come."""

    def __init__(self, config: SearchConfig, population: Population) -> None:
        """Begins with what is left of the individuals that are in flight, by birth."""
        self._config = config
        self._population = population
        self._to_come: dict[int, int] = {}  # trainings of an individual that wait here or are under way
        self._waiting: deque[Work] = deque()
        for id in population.issued:
            self._waiting.extend(self._rest(population.individual(id)))

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    @property
    def trainings(self) -> int:
        """How many trainings wait or are under way, of all individuals."""
        return sum(self._to_come.values())

    def expects(self, id: int) -> bool:
        """Whether results of an individual are still awaited: it is not settled."""
        return id in self._to_come

    def take(self, suits: Callable[[Work], bool]) -> Work | None:
        """Removes and returns the first work that suits; None where none does."""
        for work in self._waiting:
            if suits(work):
                self._waiting.remove(work)
                return work
        return None

    def begin(self, individual: Individual) -> Work:
        """Takes in all the work of a newborn individual, and returns the first of it, which does not wait."""
        whole = self._population.replicates_of(individual.id)
        first, *others = self._works(individual, range(whole), attempt=1)
        self._waiting.extend(others)
        return first

    def go_on(self, individual: Individual) -> None:
        """Puts the next stage of a fitness, all of whose replicates so far are trained, before everything else."""
        self._waiting.extendleft(reversed(self._rest(individual)))

    def count(self, id: int, trained: int) -> int:
        """Notes that so many more replicates of an individual are trained; returns how many are still to come."""
        self._to_come[id] -= trained
        return self._to_come[id]

    def repeat(self, work: Work, avoid: frozenset[int]) -> None:
        """Adds another attempt at work that has failed, which workers in `avoid` get only if there is no other."""
        self._waiting.append(replace(work, attempt=work.attempt + 1, avoid=work.avoid | avoid))

    def put_back(self, works: Iterable[Work]) -> None:
        """Puts work that a worker has given back before everything else, as far as its results are still awaited."""
        self._waiting.extendleft(reversed([work for work in works if self.expects(work.individual.id)]))

    def settle(self, id: int) -> None:
        """Drops what is left of an individual that is evaluated, was stopped or has failed."""
        if self._to_come.pop(id):  # where not all of it was trained
            self._waiting = deque(work for work in self._waiting if work.individual.id != id)

    def _rest(self, individual: Individual) -> list[Work]:
        """What is to be done next for an individual in flight of which nothing is under way."""
        attempts = int(self._population.column("attempts")[individual.id])
        return self._works(individual, self._population.missing(individual.id), attempts + 1)

    def _works(self, individual: Individual, missing: Sequence[int], attempt: int) -> list[Work]:
        """The next tasks of an individual of which the replicates of these numbers are not trained."""
        tasks = next_tasks(self._config.search, missing, self._config.training.replicates)
        self._to_come[individual.id] = sum(task.count for task in tasks)
        return [Work(individual, task, attempt, frozenset()) for task in tasks]
