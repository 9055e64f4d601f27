"""Batches from processes and from a thread: in order, made again where a process dies, and never waited for in vain."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import mpi as launcher
import pytest
import torch
from counted_images import DEADLY, WITHOUT_MEMORY, Counted
from live_run import await_that

from hpcnas.job.signals import ASKING
from hpcnas.retrain import loaders
from hpcnas.retrain.batch_source import Loaded, NoImages, OwnThread, Waiting
from hpcnas.retrain.feed import never
from hpcnas.retrain.loaders import Processes


@pytest.fixture
def two_loaders() -> Iterator[Processes]:
    source = Processes(2, batch_bytes=100, preload="hpcnas.retrain.loaders")
    with contextlib.closing(source):
        yield source


def numbers(loaded: Loaded | None) -> list[int]:
    assert loaded is not None
    pixels, labels, _ = loaded
    assert pixels.dtype == torch.uint8 and labels.tolist() == [2 * int(pixel) for pixel in pixels[:, 0, 0, 2]]
    return [int(pixel) for pixel in pixels[:, 0, 0, 0]]


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said in warnings."""
    said: list[str] = []
    monkeypatch.setattr(logging.getLogger("hpcnas"), "warning", lambda text, *parts: said.append(text % parts))
    return said


@pytest.mark.parametrize("source", [OwnThread(), Processes(2, 100, "hpcnas.retrain.loaders")])
def test_batches_come_in_order_each_with_its_own_and_another_begins_after_the_last(
    source: OwnThread | Processes, warnings: list[str]
) -> None:
    with contextlib.closing(source):
        for first in (20, 100):
            wanted = [[first + 2 * each, first + 2 * each + 1] for each in range(9)]
            source.begin(Counted(), wanted)
            assert [numbers(source.next(never)) for _ in wanted] == wanted
        source.begin(Counted(), [[], [4, 5]])
        empty, one = source.next(never), source.next(never)
        assert empty is not None and len(empty[1]) == 0
        assert one is not None and one[2] == [("image 5", "it is the fifth")]
    assert warnings == []


def test_a_loader_that_is_killed_is_told_of_once_and_its_batches_come(
    two_loaders: Processes, warnings: list[str]
) -> None:
    wanted = [[each] for each in range(12)]
    two_loaders.begin(Counted(), wanted)
    found = [numbers(two_loaders.next(never)) for _ in range(3)]
    for loader in two_loaders._loaders:
        os.kill(loader.pid, signal.SIGTERM)  # heeds it not
    os.kill(two_loaders._loaders[0].pid, signal.SIGKILL)
    found += [numbers(two_loaders.next(never)) for _ in range(9)]
    assert found == wanted
    (said,) = warnings
    assert said.startswith("a loader process was ended by SIGKILL at ")
    assert said.endswith("; another one takes its place")


def test_an_image_that_ends_every_loader_ends_the_waiting(two_loaders: Processes, warnings: list[str]) -> None:
    two_loaders.begin(Counted(), [[0], [1, DEADLY]])
    assert numbers(two_loaders.next(never)) == [0]
    expected = f"have died one after the other, the last one was ended by SIGKILL; it was to make image {DEADLY}; "
    with pytest.raises(NoImages, match=expected):
        two_loaders.next(never)
    assert warnings == [f"a loader process was ended by SIGKILL at image {DEADLY}; another one takes its place"]
    two_loaders.begin(Counted(), [[WITHOUT_MEMORY]])
    with pytest.raises(NoImages, match="a loader process cannot make images: MemoryError: no more of it"):
        two_loaders.next(never)


@pytest.mark.parametrize("source", [OwnThread(), Processes(1, 100, "hpcnas.retrain.loaders")])
def test_who_is_to_leave_waits_no_longer_for_a_file_that_does_not_answer(
    source: OwnThread | Processes, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with contextlib.closing(source):
        source.begin(Counted(tmp_path / "pipe"), [[0], [1]])
        assert numbers(source.next(never)) == [0]
        asked: list[None] = []

        def at_second() -> bool:
            asked.append(None)
            return len(asked) == 2

        assert source.next(at_second) is None and len(asked) == 2
        source.begin(Counted(), [[2]])
        assert numbers(source.next(never)) == [2]
        (tmp_path / "pipe").write_bytes(b"") if isinstance(source, OwnThread) else None  # lets the lost thread end


def test_waiting_is_told_of_after_half_a_minute_and_ends_after_ten(warnings: list[str]) -> None:
    now = [5.0]
    waiting = Waiting(clock=lambda: now[0])
    asked: list[float] = []

    def where() -> str:
        asked.append(now[0])
        return "train/ape/1.jpg"

    for now[0] in (5.5, 34.9, 35.0, 36.0, 604.9):
        assert waiting.goes_on(never, where)
    assert warnings == ["no images for 30 s: waiting for train/ape/1.jpg"] and asked == [35.0]
    assert not waiting.goes_on(lambda: True, where)
    now[0] = 605.0
    with pytest.raises(NoImages, match="expected images within 600 s, got none: a rank on .* waits for train/ape/1"):
        waiting.goes_on(never, where)


def test_where_there_are_no_memory_files_others_serve_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    def refused(name: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refused)
    with contextlib.closing(loaders._MemoryFile(7)) as file:
        assert os.fstat(file.descriptor).st_size == 7 and os.fstat(file.descriptor).st_nlink == 0
    (said,) = warnings
    assert "which may be slower: there are no memory files here ([Errno 1] Operation not permitted)" in said


def test_too_many_processes_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(context: object, size: int) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(loaders, "_Loader", refused)
    with pytest.raises(NoImages, match="cannot start a loader process: .*Resource temporarily unavailable"):
        Processes(2, 100, "hpcnas.retrain.loaders").begin(Counted(), [[1]])


KILLED = """
import os, sys, time
sys.path[:0] = sys.argv[1:]
from pathlib import Path
from counted_images import Counted
from hpcnas.retrain.loaders import Processes
os.mkfifo("pipe")
source = Processes(1, 100, "hpcnas.retrain.loaders")
source.begin(Counted(Path("pipe")), [[0], [1]])
source.next(bool)
Path("waits").touch()
source.next(bool)
"""


def test_loaders_and_their_server_end_with_a_rank_that_is_killed(tmp_path: Path) -> None:
    """Also where a loader is busy with a file that does not answer."""
    command = [sys.executable, "-c", KILLED, *sys.path]
    with launcher.start_command(command, cwd=tmp_path, env={}) as job:
        await_that(lambda: job.poll() is not None or (tmp_path / "waits").exists(), "a loader at work")
        assert job.poll() is None, job.communicate()
        assert len(job.processes()) >= 3  # the rank, the server and the loader
        job.kill()
        job.wait()
        await_that(lambda: not job.processes(), "the end of loaders and server")


def test_signals_stay_as_they_are_for_the_rank(two_loaders: Processes) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    two_loaders.begin(Counted(), [[1]])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before and not before & set(ASKING)
    assert threading.main_thread() is threading.current_thread()
