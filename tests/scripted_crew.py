"""A search in one process whose workers answer by script: what its controller is tested with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from examples import FACTS, SPACE

from hpcnas.architecture.genotype import Genotype
from hpcnas.config import search as search_config
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import Birth, State
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Proposal, Strategy
from hpcnas.job.session import Session
from hpcnas.messages import (
    Evaluation,
    Failure,
    FailureKind,
    FromWorker,
    Left,
    Outcome,
    Place,
    Ready,
    Result,
    Stop,
    Task,
    ToWorker,
)
from hpcnas.search.attention import Attention
from hpcnas.search.controller import Controller, SearchStopped
from hpcnas.search.memory_store import MemoryStore

GOOD = Evaluation((0.5, 0.7), 1000, 0.0, 1.0, 0.0)
CRASH, OOM, HANG, OVERRUN, NAN, ERROR = (Failure(kind, kind.name.lower()) for kind in FailureKind)


def settings(**changes: dict[str, object]) -> SearchConfig:
    return search_config.build(
        {"search": {"space": str(SPACE), "budget": 5, "initial_population": 3, "initial_mutations": 5, "seed": 9}},
        {"training": {"replicates": 2}, "run": {"grace": 0.0}},
        changes,
    )


def place(rank: int) -> Place:
    return Place(rank, f"node-{rank}", "cuda:0")


Answer = Callable[[int, Task], Outcome | None]


class Crew:
    """ControllerEnd with workers that answer each task at once by `answer`, or never where that gives None.

    Messages arrive one at a time, in the order in which they were caused. Told to stop, a worker says what stands in
    `parting` for it, then Left.
    """

    def __init__(
        self,
        workers: int,
        answer: Answer = lambda rank, task: GOOD,
        place: Callable[[int], Place] = place,
    ) -> None:
        self.ranks = range(1, workers + 1)
        self.place = place
        self.answer = answer
        self.tasks: list[tuple[int, Task]] = []
        self.stops: dict[int, Stop] = {}
        self.parting: dict[int, list[FromWorker]] = {}
        self.inbox: deque[tuple[int, FromWorker]] = deque((rank, Ready(place(rank), FACTS, {})) for rank in self.ranks)
        self.silent: set[int] = set()  # these do not even say Left

    def send(self, rank: int, message: ToWorker) -> None:
        if isinstance(message, Stop):
            self.stops[rank] = message
            farewell = [*self.parting.get(rank, []), Left()]
            self.inbox.extend((rank, said) for said in farewell if rank not in self.silent)
            return
        self.tasks.append((rank, message))
        outcome = self.answer(rank, message)
        if outcome is not None:
            self.inbox.append((rank, replace(result(rank, message, outcome), place=self.place(rank))))

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        return [self.inbox.popleft()] if self.inbox else []

    @property
    def given(self) -> list[tuple[int, int, int]]:
        """Rank, individual and attempt of every task, in order."""
        return [(rank, task.individual, task.attempt) for rank, task in self.tasks]


def result(rank: int, task: Task, outcome: Outcome) -> Result:
    return Result(task.individual, task.attempt, place(rank), 100.0, 110.0, outcome, task.first)


@dataclass
class Listener:
    """An observer that remembers."""

    sessions: list[Session] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def began(self, session: Session) -> None:
        self.sessions.append(session)

    def warned(self, text: str) -> None:
        self.warnings.append(text)

    def settled(self, result: Result, store: MemoryStore) -> None:
        self.results.append(result)

    def turned(self, store: MemoryStore, busy: int, workers: int) -> None:
        pass

    def leaving(self, reason: str) -> None:
        self.warnings.append(f"leaving: {reason}")


class Numbered:
    """A strategy whose genotypes tell the birth."""

    def __init__(self, facts: DataFacts) -> None:
        pass

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        return Proposal(genotype(id), Birth.INITIAL, None, 0)


def genotype(id: int) -> Genotype:
    return Genotype(SPACE, bytes([id % 7, id // 7 % 7, id // 49, 0, 0, 0, 0, 0, 1]))


@dataclass
class Search:
    """One session: what it runs on, and what there is to see afterwards."""

    crew: Crew
    config: SearchConfig = field(default_factory=settings)
    store: MemoryStore | None = None
    reason: Callable[[], str | None] = lambda: None
    strategy: Callable[[DataFacts], Strategy] = Numbered
    now: Callable[[], float] = lambda: 2000.0
    listener: Listener = field(default_factory=Listener)
    attention: Attention | None = None

    def __post_init__(self) -> None:
        self.store = self.store or MemoryStore(self.config)
        self.population = self.store.population

    def run(self) -> None:
        assert self.store is not None
        one = Controller(
            self.config, self.store, self.strategy, self.crew, list(self.crew.ranks), {"hpcnas": "1"}, self.listener,
            reason_to_leave=self.reason, now=self.now, attention=self.attention,
        )  # fmt: skip
        one.run()

    def stopped(self) -> SearchStopped:
        """What stops the search; the workers are told the same."""
        with pytest.raises(SearchStopped) as caught:
            self.run()
        assert {stop.exit_code for stop in self.crew.stops.values()} == {caught.value.exit_code}
        assert set(self.crew.stops) == set(self.crew.ranks)
        return caught.value

    def states(self) -> list[str]:
        return [State(state).name for state in self.population.column("state")]


def states(text: str) -> list[str]:
    """`EFI` stands for evaluated, failed, issued."""
    return [{"E": "EVALUATED", "F": "FAILED", "I": "ISSUED"}[letter] for letter in text]


def by_individual(plan: dict[int, Sequence[Failure]]) -> Answer:
    """Answers of attempts 1, 2, … at an individual; after them, and for all others, it is good."""

    def answer(rank: int, task: Task) -> Outcome:
        failures = plan.get(task.individual, ())
        return failures[task.attempt - 1] if task.attempt <= len(failures) else GOOD

    return answer


class Brief(Crew):
    """Workers whose evaluations take so many seconds. A round of the loop takes a millisecond."""

    seconds = 0.0
    time = 0.0

    def now(self) -> float:
        return self.time

    def round(self, result: Result, store: MemoryStore) -> None:
        self.time += 0.001

    def send(self, rank: int, message: ToWorker) -> None:
        before = len(self.inbox)
        super().send(rank, message)
        while len(self.inbox) > before:  # what it has just caused
            sender, said = self.inbox.pop()
            before += 1
            if isinstance(said, Result):
                said = replace(said, finished=said.started + self.seconds)
            self.inbox.append((sender, said))
