"""Silent workers: who is known to be one, and what becomes of the tasks that they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from examples import FACTS
from scripted_crew import CRASH, GOOD, HANG, Crew, Numbered, Search, place, result, settings, states

from hpcnas import messages
from hpcnas.evolution.population import Population
from hpcnas.messages import Alive, Died, Evaluation, FromWorker, Left, Outcome, Ready, Stop, Task, ToWorker
from hpcnas.search import attention
from hpcnas.search.attention import Attention, Audible

PATIENCE = 40.0


# ── who is silent ───────────────────────────────────────────────────────────────────────────────────────────────────
class Ear:
    """An Attention of workers 1 to 3 by a scripted clock."""

    def __init__(self) -> None:
        self.time = 0.0
        self.attention = Attention((1, 2, 3), PATIENCE, lambda: self.time)

    def listen(self, seconds: int) -> list[int]:
        """Looks every second; who has become silent meanwhile."""
        found = []
        for _ in range(seconds):
            self.time += 1.0
            if self.attention.due():
                found += self.attention.look((1, 2, 3))
        return found


def test_whoever_says_nothing_for_longer_than_the_patience_is_silent_once() -> None:
    ear = Ear()
    ear.listen(30)
    assert not ear.attention.heard(2)
    assert ear.listen(10) == []
    assert ear.listen(6) == [1, 3]
    assert ear.listen(20) == []
    assert ear.attention.silent == {1, 3}
    assert ear.listen(10) == [2]
    assert ear.attention.heard(1) and ear.attention.silent == {2, 3}


def test_who_gets_something_to_do_has_its_time_from_then_on() -> None:
    ear = Ear()
    ear.listen(39)
    ear.attention.expect(1)
    assert ear.listen(10) == [2, 3]
    assert ear.listen(31) == [1]


def test_time_in_which_the_controller_stood_still_makes_nobody_silent() -> None:
    ear = Ear()
    for _ in range(10):
        ear.time += 3600.0
        assert ear.attention.due() in (True, False)
        assert ear.attention.look((1, 2, 3)) == []


@pytest.mark.parametrize(("hang_timeout", "seconds"), [(600.0, 600.0), (0.1, 30.0)])
def test_a_rank_is_given_seconds_at_the_least(hang_timeout: float, seconds: float) -> None:
    assert attention.patience(hang_timeout) == seconds


class Wire:
    """A WorkerEnd that takes down what is sent."""

    def __init__(self) -> None:
        self.sent: list[FromWorker] = []

    def send(self, message: FromWorker) -> None:
        self.sent.append(message)

    def receive(self, timeout: float) -> ToWorker | None:
        return None


def test_a_worker_says_that_it_is_alive_where_it_says_nothing_else() -> None:
    time, wire = [0.0], Wire()
    end = Audible(wire, PATIENCE, lambda: time[0])
    heard = []
    for second in range(1, 31):
        time[0] = float(second)
        if second == 15:
            end.send(Ready(place(1), FACTS, {}))
        end.receive(0.05)
        if wire.sent:
            heard.append((second, type(wire.sent.pop())))
    assert heard == [(10, Alive), (15, Ready), (25, Alive)]


# ── what becomes of their tasks ─────────────────────────────────────────────────────────────────────────────────────
class Stopped(Crew):
    """Workers of which some are stopped: what is sent to them waits until they are let go on, with that answer. Whoever
    else works says that it is alive. Every look for messages takes a second, where none has come."""

    def __init__(self, workers: int, stopped: set[int]) -> None:
        super().__init__(workers)
        self.stopped = stopped
        self.late: Outcome = GOOD
        self.waiting: list[tuple[int, ToWorker]] = []
        self.time = 0.0
        self.at: dict[float, Callable[[], None]] = {}  # what happens at some second

    def send(self, rank: int, message: ToWorker) -> None:
        if rank not in self.stopped:
            super().send(rank, message)
            return
        self.waiting.append((rank, message))
        if isinstance(message, Stop):
            self.stops[rank] = message
        else:
            self.tasks.append((rank, message))

    def go_on(self, rank: int) -> None:
        self.stopped.discard(rank)
        self.inbox.append((rank, Alive()))
        for _, message in [one for one in self.waiting if one[0] == rank]:
            if isinstance(message, Task):
                self.inbox.append((rank, result(rank, message, self.late)))
            else:
                self.inbox.append((rank, Left()))
        self.waiting = [one for one in self.waiting if one[0] != rank]

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        if self.inbox:
            return super().receive(timeout)
        self.time += 1.0
        assert self.time < 1000.0, "the search goes on for ever"
        self.at.pop(self.time, lambda: None)()
        return [(rank, Alive()) for rank in self.ranks if rank not in self.stopped]


def search(crew: Stopped, **changes: dict[str, object]) -> Search:
    return Search(crew, settings(**changes), attention=Attention(crew.ranks, PATIENCE, lambda: crew.time))


def settled(found: Search) -> list[tuple[int, int]]:
    """Individuals, and the ranks whose answers have settled them, in order."""
    return [(one.individual, one.place.rank) for one in found.listener.results]


def test_what_a_silent_worker_holds_is_done_by_one_that_has_nothing_else() -> None:
    crew = Stopped(2, {2})
    found = search(crew)
    found.run()
    assert found.states() == states("EEEEE")
    assert crew.given == [(1, 0, 1), (2, 1, 1), (1, 2, 1), (1, 3, 1), (1, 4, 1), (1, 1, 1)]
    assert crew.tasks[1][1] == crew.tasks[5][1]
    (warning,) = found.listener.warnings
    assert warning.startswith("nothing heard for 40 s of rank 2 on node-2 (cuda:0): stopped, swapped out or cut off?")
    assert PATIENCE < crew.time < PATIENCE + 10.0
    assert found.population.column("attempts").tolist() == [1] * 5


def wait(
    crew: Stopped, seconds: Mapping[tuple[int, int], float], outcome: Outcome = GOOD, others: Outcome = GOOD
) -> None:
    """Answers of a worker to an individual that come at that second; all others come at once."""

    def answer(rank: int, task: Task) -> Outcome | None:
        second = seconds.get((rank, task.individual))
        if second is None:
            return others
        crew.at[second] = lambda: crew.inbox.append((rank, result(rank, task, outcome)))
        return None

    crew.answer = answer


def test_the_first_answer_counts_and_that_of_the_silent_worker_comes_too_late() -> None:
    crew = Stopped(3, {2})
    wait(crew, {(3, 2): 90.0})
    crew.at[80.0] = lambda: crew.go_on(2)
    found = search(crew)
    found.run()
    assert crew.given == [(1, 0, 1), (2, 1, 1), (3, 2, 1), (1, 3, 1), (1, 4, 1), (1, 1, 1)]
    assert settled(found) == [(0, 1), (3, 1), (4, 1), (1, 1), (2, 3)]
    assert found.listener.warnings[1:] == ["rank 2 on node-2 (cuda:0) is heard again"]
    assert found.population.column("attempts").tolist() == [1] * 5
    assert found.population.trainings == 10


def test_the_first_answer_may_be_that_of_the_silent_worker() -> None:
    """It then goes on like any other, and so does the one that is told too late."""
    crew = Stopped(3, {2})
    wait(crew, {(3, 2): 90.0, (1, 1): 85.0})
    crew.at[80.0] = lambda: crew.go_on(2)
    found = search(crew)
    found.run()
    assert crew.given[-1] == (1, 1, 1)
    assert settled(found)[-2:] == [(1, 2), (2, 3)]
    assert found.population.trainings == 10


class Barred(Numbered):
    """A strategy whose search may be stopped early."""

    def bar(self, population: Population, view: int) -> float | None:
        return None


@pytest.mark.parametrize("first", [1, 2])
def test_what_was_lent_may_be_stopped_at_a_rung_whoever_answers_first(first: int) -> None:
    halted = messages.Stopped(((0.1,), (0.2,)), 1000, 0.0, 0.5, 0.0)
    crew = Stopped(3, {2})
    wait(crew, {(3, 2): 90.0, (1, 1): 85.0 if first == 2 else 60.0}, outcome=halted)
    crew.late = halted if first == 2 else GOOD
    crew.at[80.0] = lambda: crew.go_on(2)
    found = search(crew, search={"early_stopping": True}, training={"rungs": [0.5]})
    found.strategy = Barred
    found.run()
    assert [state[0] for state in found.states()] == list("ESSEE")
    assert settled(found)[-2:] == [(1, first), (2, 3)]
    assert (found.population.stopped, found.population.trainings) == (2, 3 * 2 + 4 * 0.5)


def test_parts_of_a_fitness_are_counted_once() -> None:
    """The third of three replicates is under way when the second is answered for the second time."""
    one = Evaluation((0.5,), 1000, 0.0, 1.0, 0.0)
    crew = Stopped(3, {2})
    crew.late = one
    wait(crew, {(3, 0): 90.0}, one, others=one)
    crew.at[80.0] = lambda: crew.go_on(2)
    found = search(crew, search={"scheduling": "replicate", "budget": 1}, training={"replicates": 3})
    found.run()
    assert [(rank, task.first) for rank, task in crew.tasks] == [(1, 0), (2, 1), (3, 2), (1, 1)]
    assert found.states() == states("E") and found.population.trainings == 3
    assert crew.time >= 90.0


def test_the_first_answer_counts_also_where_it_is_a_failure() -> None:
    crew = Stopped(3, {2})
    wait(crew, {(1, 1): 60.0, (3, 2): 90.0}, CRASH)
    crew.at[80.0] = lambda: crew.go_on(2)
    found = search(crew)
    found.run()
    assert found.states() == states("EEEEE")
    assert found.population.column("attempts").tolist() == [1, 2, 2, 1, 1]


def test_a_failure_of_the_silent_worker_counts_for_nothing_while_another_is_at_it() -> None:
    """It has been swapped out, and finds that its trainer has said nothing for too long."""
    crew = Stopped(3, {2})
    crew.late = HANG
    wait(crew, {(3, 2): 90.0, (1, 1): 85.0})
    crew.at[80.0] = lambda: crew.go_on(2)
    found = search(crew)
    found.run()
    assert settled(found)[-2:] == [(1, 1), (2, 3)]
    assert found.population.column("attempts").tolist() == [1] * 5
    failed = "individual 1 failed (hang, attempt 1) on rank 2 on node-2 (cuda:0): hang"
    assert found.listener.warnings[-1] == f"{failed}; another worker is at it"


def test_and_where_that_other_dies_the_work_is_done_again() -> None:
    crew = Stopped(3, {2})
    crew.late = HANG
    wait(crew, {(3, 2): 90.0, (1, 1): 900.0})
    crew.at[80.0] = lambda: crew.go_on(2)
    crew.at[85.0] = lambda: crew.inbox.append((1, Died()))
    found = search(crew)
    found.run()
    assert [one for one in crew.given if one[1] == 1] == [(2, 1, 1), (1, 1, 1), (2, 1, 1)]
    assert found.states() == states("EEEEE")
    assert found.population.column("attempts").tolist() == [1] * 5


def test_work_is_lent_again_where_the_next_worker_falls_silent_too() -> None:
    crew = Stopped(3, {2})
    wait(crew, {(1, 1): 900.0, (3, 2): 60.0})
    crew.at[55.0] = lambda: crew.stopped.add(1)
    found = search(crew)
    found.run()
    assert [one for one in crew.given if one[1] == 1] == [(2, 1, 1), (1, 1, 1), (3, 1, 1)]
    assert found.states() == states("EEEEE")


def test_work_that_others_have_failed_at_is_not_kept_for_a_silent_worker() -> None:
    """Individual 0 has crashed on worker 1; only worker 2 has not failed at it, and is stopped."""
    crew = Stopped(2, {2})
    wait(crew, {(1, 0): 1.0}, CRASH)
    crew.answer = lambda rank, task, usual=crew.answer: usual(rank, task) if task.attempt == 1 else GOOD
    found = search(crew)
    found.run()
    assert found.states() == states("EEEEE")
    assert [one for one in crew.given if one[1] == 0] == [(1, 0, 1), (1, 0, 2)]


def test_a_silent_worker_whose_death_becomes_known_leaves_nothing_that_another_has_taken_over() -> None:
    crew = Stopped(3, {2})
    wait(crew, {(3, 2): 90.0, (1, 1): 80.0})
    crew.at[70.0] = lambda: crew.inbox.append((2, Died()))
    found = search(crew)
    found.run()
    assert [one for one in crew.given if one[1] == 1] == [(2, 1, 1), (1, 1, 1)]
    assert found.states() == states("EEEEE")
    assert found.listener.warnings[1:] == ["going on without rank 2 on node-2 (cuda:0): its process has died"]


def test_nobody_waits_for_silent_workers_at_the_end() -> None:
    crew = Stopped(2, {2})
    search(crew, run={"grace": 1e6}).run()
    assert set(crew.stops) == {1, 2}


def test_a_worker_that_is_not_ready_in_time_is_told_of_and_not_waited_for() -> None:
    crew = Stopped(2, {2})
    crew.inbox.pop()
    wait(crew, {(1, 4): 60.0})
    found = search(crew, run={"grace": 1e6})
    found.run()
    (warning,) = found.listener.warnings
    assert "of worker 2 (not yet ready): stopped" in warning


def test_many_that_fall_silent_together_are_one_line() -> None:
    crew = Stopped(6, {2, 3, 4, 5, 6})
    found = search(crew, search={"budget": 12})
    found.run()
    (warning,) = found.listener.warnings
    ranks = ", ".join(str(place(rank)) for rank in (2, 3, 4))
    assert f"of {ranks} and 2 other ranks: stopped" in warning
    assert found.states() == states("E" * 12)


def test_all_may_be_silent_until_one_is_heard_again() -> None:
    crew = Stopped(1, {1})
    crew.at[300.0] = lambda: crew.go_on(1)
    found = search(crew)
    found.run()
    assert found.states() == states("EEEEE")
