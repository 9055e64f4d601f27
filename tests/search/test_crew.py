"""The crew and the backlog, each asked directly: literal cases."""

from __future__ import annotations

import math

from examples import CONFIG, individual
from scripted_crew import GOOD, place, result

from hpcnas.evolution.population import Population
from hpcnas.evolution.tasks import Replicates
from hpcnas.messages import Refused, Task
from hpcnas.search.attention import Attention
from hpcnas.search.backlog import Backlog, Work
from hpcnas.search.crew import Crew

ONE, TWO = (Work(individual(id), Replicates(0, 2), 1, frozenset()) for id in (0, 1))


def crew(*ready: int, ranks: range = range(1, 4), device_failures: int = 1) -> Crew:
    """A crew of which these workers are ready, each on a host of its own."""
    found = Crew(ranks, Attention(ranks, math.inf), device_failures)
    for rank in ready:
        found.report(rank, place(rank))
        found.admit(rank)
    return found


def task(work: Work) -> Task:
    return Task(work.individual.id, work.attempt, work.individual.genotype, (0, 0), work.replicates.first)


def test_a_worker_that_got_nothing_asks_again_after_all_others() -> None:
    some = crew(2, 1, 3)
    assert some.fill(2, lambda rank: None) == []
    assert some.idle() == [1, 3, 2] and some.busy == 0


def test_a_worker_that_holds_a_task_is_busy_until_it_answers_just_that() -> None:
    some, works = crew(1), [ONE, TWO]
    assert some.fill(1, lambda rank: works.pop(0)) == [ONE], "it has room for one"
    assert some.idle() == [] and some.busy == 1
    assert some.answer(1, result(1, task(TWO), GOOD), turn=0.0) is None
    assert some.answer(2, result(2, task(ONE), GOOD), turn=0.0) is None, "another holds it"
    assert some.answer(1, result(1, task(ONE), GOOD), turn=0.0) is ONE
    assert some.idle() == [1] and some.busy == 0


def test_what_is_taken_back_is_held_no_longer() -> None:
    some = crew(1)
    some.fill(1, lambda rank: ONE)
    assert some.take_back(1) == [ONE]
    assert some.take_back(1) == [] and some.busy == 0 and some.idle() == []
    assert some.take_back(2) == [], "it has not reported"


def test_a_refused_worker_gets_nothing_more_but_may_answer() -> None:
    some = crew(1, 2)
    some.fill(1, lambda rank: ONE)
    for rank in (1, 2):
        some.refuse(rank, Refused(place(rank), "no room"))
    assert some.idle() == [] and some.in_use == 1 and some.able() == {}
    assert some.answer(1, result(1, task(ONE), GOOD), turn=0.0) is ONE
    assert some.idle() == []


def test_the_last_worker_in_use_is_not_on_a_bad_device() -> None:
    some = crew(1, 2, ranks=range(1, 3))
    for rank, other in ((1, 2), (2, 1)):
        some.note_failure(result(rank, task(ONE), GOOD))
        some.note_success(result(other, task(ONE), GOOD))
        for bad in some.on_bad_devices():
            some.refuse(bad, Refused(place(bad), "bad"))
    assert list(some.refused) == [1]


def test_work_that_all_have_failed_at_suits_each_of_them() -> None:
    some = crew(1, 2, 3)
    failed = Work(individual(0), Replicates(0, 2), 2, frozenset({1, 2}))
    assert [some.suits(rank, failed) for rank in (1, 2, 3)] == [False, False, True]
    some.refuse(3, Refused(place(3), "no room"))
    assert [some.suits(rank, failed) for rank in (1, 2)] == [True, True]


def test_a_task_has_the_seeds_of_its_own_replicates() -> None:
    born = individual(3)
    assert Work(born, Replicates(1, 2), 4, frozenset()).task((10, 11, 12, 13)) == Task(3, 4, born.genotype, (11, 12), 1)


def test_the_backlog_begins_with_what_is_in_flight_by_birth() -> None:
    population = Population(CONFIG.space, CONFIG.training.replicates)
    for id in (0, 1):
        population.add(individual(id))
    backlog = Backlog(CONFIG, population)
    assert backlog.trainings == 2 * CONFIG.training.replicates
    found = [backlog.take(lambda work: True) for _ in range(2)]
    assert [work.individual.id for work in found if work is not None] == [0, 1] and not backlog
    backlog.settle(0)
    backlog.put_back([work for work in found if work is not None])
    left = backlog.take(lambda work: True)
    assert left is found[1] and not backlog, "the other is settled"
