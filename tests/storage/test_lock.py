"""The lock of a run's folder: who gets it, who waits, and what stands in for flock where there is none."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stored import no_space

from hpcnas.storage import lock
from hpcnas.storage.folder import RunFolder, StoreError
from hpcnas.storage.lock import Interrupted, Lock, LockHeld, LockLost, take

ROOT = Path(lock.__file__).parents[2]
WITHOUT = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    found = RunFolder(tmp_path)
    yield found
    found.close()


@pytest.fixture
def taken(folder: RunFolder) -> Iterator[Callable[..., Lock]]:
    """Takes locks, which are let go of."""
    held: list[Lock] = []

    def call(*given: Any, **named: Any) -> Lock:
        held.append(take(folder, *given, **named))
        return held[-1]

    yield call
    for one in held:
        one.close()


def without(monkeypatch: pytest.MonkeyPatch, number: int, *calls: str) -> None:
    """A file system that does not have these calls."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    for call in calls:
        monkeypatch.setattr(fcntl, call, refuse)


HOLDER = """
import fcntl, os, sys
from pathlib import Path
from hpcnas.storage.folder import RunFolder
from hpcnas.storage.lock import take
def refuse(*given): raise OSError(38, "Function not implemented")
for name in sys.argv[2:]:
    setattr(fcntl, name, refuse)
held = take(RunFolder(Path(sys.argv[1])))
print("held", flush=True)
sys.stdin.read()
held.close()
print("free", flush=True)
sys.stdin.close()
"""


@pytest.fixture
def holder(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock, on a file system without the calls of the parameter."""
    missing = getattr(request, "param", ())
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), *missing],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def let_go(holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None and holder.stdout is not None
    holder.stdin.close()
    assert holder.stdout.readline() == "free\n"


# ── who gets it ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_it_says_who_holds_it_and_has_the_permissions_that_the_umask_leaves(
    tmp_path: Path, taken: Callable[..., Lock]
) -> None:
    before = os.umask(0o002)
    try:
        taken()
    finally:
        os.umask(before)
    assert (tmp_path / "lock").read_text() == f"host {lock.socket.gethostname()}, pid {os.getpid()}\n"
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize("calls", [(), ("flock",), ("flock", "lockf")])
def test_nobody_else_of_this_process_gets_it_before_it_is_let_go(
    folder: RunFolder, taken: Callable[..., Lock], monkeypatch: pytest.MonkeyPatch, calls: tuple[str, ...]
) -> None:
    without(monkeypatch, errno.ENOSYS, *calls)
    first = taken()
    with pytest.raises(LockHeld, match=rf"already has a controller: host \S+, pid {os.getpid()}$"):
        take(folder)
    first.close()
    taken().check()


@pytest.mark.parametrize("holder", [(), ("flock",), ("flock", "lockf")], indirect=True)
def test_another_process_is_kept_out_for_as_long_as_it_is_held(
    folder: RunFolder, holder: subprocess.Popen[str], taken: Callable[..., Lock], request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    without(monkeypatch, errno.ENOSYS, *request.node.callspec.params["holder"])
    with pytest.raises(LockHeld, match=rf"already has a controller: host \S+, pid {holder.pid}$"):
        take(folder)
    let_go(holder)
    taken().check()


def test_a_file_that_no_run_has_made_is_not_overwritten(tmp_path: Path, folder: RunFolder) -> None:
    for content in ("notes\n", "host", "host a, pid 1\n" + 1000 * "x"):
        (tmp_path / "lock").write_text(content)
        if content == "host":  # what a kill has left of a lock's text
            take(folder).close()
            continue
        with pytest.raises(StoreError, match=r"lock: expected the lock of a run, which says who holds it, but it is"):
            take(folder)
        assert (tmp_path / "lock").read_text() == content


def test_zeros_that_a_power_cut_has_left_are_a_lock(tmp_path: Path, taken: Callable[..., Lock]) -> None:
    (tmp_path / "lock").write_bytes(bytes(30))
    taken()


def test_a_lock_of_somebody_who_lets_nobody_in_is_refused_with_the_way_out(
    tmp_path: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lock").write_text("host a, pid 1\n")

    def closed(*given: object, **named: object) -> int:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", closed)  # root may do everything
    with pytest.raises(StoreError, match=r"Permission denied; its owner can let others in: chmod g\+w .*lock$"):
        take(folder)


def test_a_full_disk_leaves_no_lock_behind(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StoreError, match=r"^expected to lock .*lock: No space left on device$"):
            take(folder)
    take(folder).close()


# ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_it_is_waited_for_and_said_on_whom_once(
    folder: RunFolder, holder: subprocess.Popen[str], taken: Callable[..., Lock]
) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        let_go(holder)  # only now

    taken(3600.0, say=say).check()
    assert said == [
        f"the run {folder.path} already has a controller: host {lock.socket.gethostname()}, pid {holder.pid}; "
        "waiting up to 3600 s for it to end (--lock-wait)"
    ]


@pytest.mark.usefixtures("holder")
def test_a_wait_ends_with_a_refusal(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(lock.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    with pytest.raises(LockHeld, match=r"already has a controller: .*, pid \d+; waited 60 s for it \(--lock-wait\)$"):
        take(folder, 60.0)
    assert 1060.0 <= clock[0] < 1061.0


@pytest.mark.usefixtures("holder")
def test_a_signal_ends_the_wait(folder: RunFolder) -> None:
    answers = [None, None, "SIGTERM"]
    with pytest.raises(Interrupted, match=rf"^SIGTERM received while waiting for {folder.path}; start the same"):
        take(folder, 3600.0, leave=lambda: answers.pop(0))


# ── file systems without ────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("number", WITHOUT)
def test_without_flock_fcntl_is_asked_and_a_line_says_so(
    tmp_path: Path, taken: Callable[..., Lock], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    without(monkeypatch, number, "flock")
    remark = taken().remark
    assert remark is not None and remark.startswith(f"the file system of {tmp_path} has no flock: its lock is one of")
    assert sorted(os.listdir(tmp_path)) == ["lock"]


@pytest.mark.parametrize("number", WITHOUT)
def test_without_either_a_heartbeat_says_who_lives(
    tmp_path: Path, taken: Callable[..., Lock], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    without(monkeypatch, number, "flock", "lockf")
    held = taken()
    assert held.remark is not None and "has neither flock nor fcntl locks" in held.remark
    assert sorted(os.listdir(tmp_path)) == ["heartbeat", "lock"]
    assert (tmp_path / "heartbeat").read_text() == (tmp_path / "lock").read_text().rstrip()
    held.close()
    assert sorted(os.listdir(tmp_path)) == ["lock"]


def test_a_heartbeat_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, taken: Callable[..., Lock], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, WITHOUT[0], "flock", "lockf")
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as full:
        full.setattr(os, "write", no_space)
        with pytest.raises(StoreError, match="No space left on device"):
            taken()
    assert len(os.listdir("/proc/self/fd")) == before and sorted(os.listdir(tmp_path)) == ["lock"]
    taken().close()


def test_another_error_of_flock_is_no_reason_to_do_without(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, errno.EIO, "flock")
    with pytest.raises(StoreError, match=r"^expected to lock .*lock: Input/output error$"):
        take(folder)


def test_a_heartbeat_is_kept_fresh(
    tmp_path: Path, taken: Callable[..., Lock], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, errno.ENOSYS, "flock", "lockf")
    monkeypatch.setattr(lock, "_BEAT", 0.01)
    taken()
    os.utime(tmp_path / "heartbeat", (1e9, 1e9))
    while (tmp_path / "heartbeat").stat().st_mtime < 2e9 / 1.5:
        time.sleep(0.01)


@pytest.mark.parametrize("calls", [(), ("flock",), ("flock", "lockf")])  # a host may have locks where another has none
@pytest.mark.parametrize(("silent", "held"), [(40.0, True), (50.0, False)])
def test_who_has_been_silent_for_long_is_gone(
    tmp_path: Path, folder: RunFolder, taken: Callable[..., Lock], monkeypatch: pytest.MonkeyPatch, silent: float,
    held: bool, calls: tuple[str, ...],
) -> None:  # fmt: skip
    without(monkeypatch, errno.ENOSYS, *calls)
    (tmp_path / "heartbeat").write_text("host elsewhere, pid 7\n")
    then = (tmp_path / "heartbeat").stat().st_mtime - silent
    os.utime(tmp_path / "heartbeat", (then, then))
    if held:
        with pytest.raises(LockHeld, match="already has a controller: host elsewhere, pid 7$"):
            take(folder)
    else:
        taken().check()
        assert (tmp_path / "heartbeat").exists() == (len(calls) == 2)
    assert [name for name in os.listdir(tmp_path) if name.endswith(".tmp")] == []


def test_a_heartbeat_that_no_run_has_made_stays(
    tmp_path: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, errno.ENOSYS, "flock", "lockf")
    (tmp_path / "heartbeat").write_text("0.81\n")
    os.utime(tmp_path / "heartbeat", (1e9, 1e9))
    with pytest.raises(StoreError, match="heartbeat: expected the lock of a run"):
        take(folder)
    assert (tmp_path / "heartbeat").read_text() == "0.81\n"


# ── lost ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("name", "calls"), [("lock", ()), ("heartbeat", ("flock", "lockf"))])
def test_a_lock_that_is_removed_or_replaced_is_noticed(
    tmp_path: Path, taken: Callable[..., Lock], monkeypatch: pytest.MonkeyPatch, name: str, calls: tuple[str, ...]
) -> None:
    without(monkeypatch, errno.ENOSYS, *calls)
    held = taken()
    held.check()
    (tmp_path / name).unlink()
    with pytest.raises(LockLost, match=rf"/{name} was removed$") as removed:
        held.check()
    (tmp_path / name).write_text("host elsewhere, pid 7\n")
    with pytest.raises(LockLost, match=rf"/{name} was replaced: another job may be at work there$") as replaced:
        held.check()
    assert (removed.value.replaced, replaced.value.replaced) == (False, True)
    held.close()
    assert (tmp_path / name).read_text() == "host elsewhere, pid 7\n"


def test_a_host_that_gets_another_name_keeps_its_lock(
    taken: Callable[..., Lock], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = taken()
    monkeypatch.setattr(lock.socket, "gethostname", lambda: "another")
    held.check()


def test_a_lock_that_is_removed_while_it_is_taken_is_none(
    tmp_path: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        (tmp_path / "lock").unlink()  # by its last holder, who has just let go of it
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(LockHeld, match="already has a controller: another process$"):
        take(folder)
