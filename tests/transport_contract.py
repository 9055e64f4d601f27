"""What every transport must do, as two parts that talk to each other: run by threads, and by ranks under `mpirun`."""

from __future__ import annotations

import sys

from patience import GUARD

from hpcnas.architecture.genotype import named
from hpcnas.config.data_spec import DataFacts
from hpcnas.job.transport import ControllerEnd, WorkerEnd
from hpcnas.messages import Evaluation, Left, Place, Ready, Result, Stop, Task

ROUNDS = 20
FACTS = DataFacts(3, 32, 32, 10, 4, 1, "f")
PAPER = named("paper")


def task(worker: int, number: int) -> Task:
    """A task that tells the receiver from whom and which it is."""
    return Task(individual=1000 * worker + number, attempt=number % 3 + 1, genotype=PAPER, seeds=(2**63 - 1, number))


def controller_part(end: ControllerEnd, workers: int) -> None:
    """Hears every worker, answers each in its own order, hears all answers, stops all."""
    heard: dict[int, list[object]] = {worker: [] for worker in range(1, workers + 1)}

    def listen(count: int) -> None:
        while any(len(messages) < count for messages in heard.values()):
            for worker, message in end.receive(timeout=GUARD):
                heard[worker].append(message)

    listen(1)
    for worker in heard:
        assert heard[worker] == [Ready(Place(worker, "host", "cpu"), FACTS, {"torch": "2"})]
        for number in range(ROUNDS):  # many at once, none of them awaited
            end.send(worker, task(worker, number))
    listen(1 + ROUNDS)
    for worker in heard:
        results = heard[worker][1:]
        assert [result.individual for result in results] == [1000 * worker + number for number in range(ROUNDS)]
        assert results[3].outcome == Evaluation((0.25, 0.75), worker, 0.0, 1e-300, 2.0)
        end.send(worker, Stop(75, 1.5))
    listen(2 + ROUNDS)
    assert all(messages[-1] == Left() for messages in heard.values())
    assert end.receive(timeout=0.05) == []


def worker_part(end: WorkerEnd, rank: int) -> None:
    """Reports, answers every task, and leaves when told to."""
    assert end.receive(timeout=0.0) is None
    end.send(Ready(Place(rank, "host", "cpu"), FACTS, {"torch": "2"}))
    for number in range(ROUNDS):
        message = end.receive(timeout=GUARD)
        assert message == task(rank, number)
        outcome = Evaluation((0.25, 0.75), rank, 0.0, 1e-300, 2.0)
        end.send(Result(message.individual, message.attempt, Place(rank, "host", "cpu"), 1.0, 2.0, outcome))
    assert end.receive(timeout=GUARD) == Stop(75, 1.5)
    end.send(Left())


def main() -> None:
    """This rank's part, and the world's own calls."""
    from hpcnas.job.world import MpiWorld, connect

    world = connect()
    assert isinstance(world, MpiWorld)
    assert world.broadcast({"from": 0} if world.rank == 0 else None) == {"from": 0}
    assert world.gather(10 * world.rank) == [10 * rank for rank in range(world.size)]
    assert world.gather(str(world.rank)) == [str(rank) for rank in range(world.size)]
    if world.rank == 0:
        controller_part(world.controller(), world.size - 1)
        print(f"contract held by {world.size} ranks")
    else:
        worker_part(world.worker(), world.rank)
    assert world.finish()


if __name__ == "__main__":
    sys.exit(main())
