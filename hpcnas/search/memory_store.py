"""What a store of a run does, without any file: `file_store` does it on the disk.

Which individuals are born and why is not its business.
"""

from __future__ import annotations

from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import Individual
from hpcnas.evolution.population import Population
from hpcnas.job.session import Session
from hpcnas.messages import Result
from hpcnas.search.methods import Worker


class MemoryStore:
    """A store that forgets when the process ends; the specification of every other one.

    What is told to it is recorded once `commit` has returned, and must not be acted upon before.
    """

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self.population = Population(config.space, config.training.replicates, config.training.rungs)
        self.sessions: list[Session] = []
        self.workers: list[Worker] = []

    def begin(self, session: Session) -> None:
        """A controller has started."""
        self.sessions.append(session)

    def join(self, worker: Worker) -> None:
        """A worker of the last session is ready."""
        self.workers.append(worker)

    def birth(self, individual: Individual) -> None:
        """An individual is born and in flight. Raises ValueError if it does not fit the population."""
        self.population.add(individual)

    def retry(self, result: Result) -> None:
        """An attempt has failed and will be repeated. Raises ValueError if its individual is not in flight."""
        self.population.retry(result)

    def advance(self, result: Result) -> None:
        """Some replicates are trained, more will be. Raises ValueError if they do not fit an individual in flight."""
        self.population.advance(result)

    def settle(self, result: Result) -> None:
        """The last word on an individual in flight. Raises ValueError if it is not in flight."""
        self.population.settle(result)

    def commit(self) -> None:
        """Makes all of the above durable; raises StoreError."""

    def compact(self) -> None:
        """Brings the files that tools read up to date; raises StoreError."""

    def compact_aside(self) -> None:
        """Begins to bring these files up to date and returns; a later `commit` or `compact` raises what went wrong."""

    def close(self) -> None:
        """Lets go of everything; what was not committed is lost."""
