"""Checkpoints of the trainer child: what it saves and where, and how a training goes on from it."""

from __future__ import annotations

import contextlib
import errno
import random
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from trainer_children import children, loaded, outcome
from trainer_runs import (
    TASK,
    SilentPipe,
    Start,
    attended,
    directly,
    nothing,
    same,
    settings,
)

from hpcnas.messages import Evaluation
from hpcnas.storage import durable
from hpcnas.training import checkpoints, trainer_loop
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.pipe import Beat, Remark

torch.set_num_threads(1)


def remarks(attendance: trainer_loop.Attendance) -> list[str]:
    """What was said, in order."""
    sent = attendance._pipe.sent  # type: ignore[attr-defined]
    return [message.text for message in sent if isinstance(message, Remark)]


def interrupted(fitness: FitnessInProgress) -> None:
    """Lets an evaluation go on for some steps of its first training, which then has a state of its own."""
    beats = iter(range(5))

    def beat() -> None:
        if next(beats, None) is None:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        fitness.run(beat, nothing)


@pytest.mark.parametrize(
    ("interval", "finished"),
    [
        (1e6, [1, 2]),
        (0.0, [0] * 21 + [1] * 22 + [2]),  # after 20 steps, a look at the validation images, and each replicate
    ],
)
def test_checkpoints_come_after_every_replicate_and_every_so_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval: float, finished: list[int]
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(torch, "save", lambda state, file: saved.append(len(state["accuracies"])))
    trainer_loop._outcome(*attended(tmp_path, interval))
    assert saved == finished


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:-20],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"no checkpoint",
        lambda whole: bytes(len(whole)),
        lambda whole: whole[:1000] + bytes(3000) + whole[4000:],
    ],
    ids=["empty", "cut", "halved", "text", "zeros", "hole"],
)
def test_a_damaged_checkpoint_is_none(tmp_path: Path, expected: Evaluation, damage: Callable[[bytes], bytes]) -> None:
    fitness, attendance = attended(tmp_path, 1e6)
    assert same(trainer_loop._outcome(fitness, attendance), expected)
    path = tmp_path / "inflight" / "4.pt"
    path.write_bytes(found := damage(path.read_bytes()))
    fitness, attendance = attended(tmp_path, 1e6)
    assert same(trainer_loop._outcome(fitness, attendance), expected)
    (said,) = remarks(attendance)
    assert said.startswith(f"{path} is damaged: ")
    assert said.endswith("; it is kept as 4.pt.damaged, and its evaluation begins anew")
    assert (tmp_path / "inflight" / "4.pt.damaged").read_bytes() == found
    assert checkpoints.load(path)["accuracies"] == list(expected.accuracies)


class Untouched:
    """An evaluation that no state reaches."""

    def resume(self, state: object) -> None:
        raise AssertionError("a damaged state was gone on from")


def test_a_bit_that_has_turned_over_is_found_wherever_it_is(tmp_path: Path) -> None:
    """torch alone goes on from two thirds of such files without a word."""
    fitness, attendance = attended(tmp_path, 1e6)
    interrupted(fitness)
    attendance.save()
    path, draw = tmp_path / "inflight" / "4.pt", random.Random(0)
    whole = path.read_bytes()
    attendance._fitness = Untouched()  # type: ignore[assignment]
    for number in range(1, 401):
        place = draw.randrange(8 * len(whole))
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        attendance._said.clear()
        attendance.resume()
        assert not path.exists() and path.with_name("4.pt.damaged").read_bytes() == changed, f"bit {place}"
        assert len(remarks(attendance)) == number


@pytest.mark.parametrize("state", [[], {}, {"of": "another"}, 3], ids=["list", "empty", "other", "number"])
def test_a_checkpoint_of_something_else_is_none(tmp_path: Path, expected: Evaluation, state: object) -> None:
    (tmp_path / "inflight").mkdir()
    checkpoints.save(tmp_path / "inflight" / "4.pt", state)
    fitness, attendance = attended(tmp_path, 1e6)
    assert same(trainer_loop._outcome(fitness, attendance), expected)
    (said,) = remarks(attendance)
    assert said.startswith(f"checkpoints in {tmp_path}/inflight are not gone on from, their evaluations begin anew: ")


def test_a_checkpoint_of_a_version_without_rungs_is_not_gone_on_from_and_that_is_said(
    tmp_path: Path, expected: Evaluation
) -> None:
    """Its evaluation was described by fewer settings, and it has no curves."""
    fitness, attendance = attended(tmp_path, 1e6)
    interrupted(fitness)
    state = fitness.state()
    earlier = {name: state[name] for name in ("accuracies", "running", "trainings", "seconds")}
    (tmp_path / "inflight").mkdir()
    checkpoints.save(tmp_path / "inflight" / "4.pt", earlier | {"of": state["of"].replace("rungs=(), ", "")})
    fitness, attendance = attended(tmp_path, 1e6)
    assert same(trainer_loop._outcome(fitness, attendance), expected)
    assert remarks(attendance) == [
        f"checkpoints in {tmp_path}/inflight are not gone on from, their evaluations begin anew: they are by another "
        "method, on another type of device or by an earlier version"
    ]


@pytest.mark.parametrize("missing", ["curves", "reached", "judged"])
def test_a_checkpoint_without_what_a_rung_found_is_none_and_that_is_said(
    tmp_path: Path, expected: Evaluation, missing: str
) -> None:
    (tmp_path / "inflight").mkdir()
    fitness, attendance = attended(tmp_path, 1e6)
    state = fitness.state() | {"accuracies": [0.75]}
    del state[missing]
    checkpoints.save(tmp_path / "inflight" / "4.pt", state)
    assert same(trainer_loop._outcome(fitness, attendance), expected)
    assert remarks(attendance) == [
        f"checkpoints in {tmp_path}/inflight are not gone on from, their evaluations begin anew: KeyError: '{missing}'"
    ]


def test_a_checkpoint_without_a_checksum_is_not_gone_on_from_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "inflight").mkdir()
    fitness, attendance = attended(tmp_path, 1e6)
    torch.save(fitness.state() | {"accuracies": [0.75]}, tmp_path / "inflight" / "4.pt")
    attendance.resume()
    assert fitness.state()["accuracies"] == []
    assert remarks(attendance) == [
        f"checkpoints in {tmp_path}/inflight are not gone on from, their evaluations begin anew: they carry no "
        "checksum: an earlier version has written them"
    ]


def test_a_checkpoint_that_cannot_be_read_is_none_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "inflight" / "4.pt").mkdir(parents=True)
    _, attendance = attended(tmp_path, 1e6)
    attendance.resume()
    assert remarks(attendance) == [
        f"checkpoints in {tmp_path}/inflight are not gone on from, their evaluations begin anew: they cannot be read: "
        "Is a directory"
    ]


LOSS = (
    "; an evaluation that is cut off, by the end of the job or a kill, loses its work since its last checkpoint or, "
    "without one, its start"
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (OSError(errno.EROFS, "Read-only file system", "/a/.4.pt.77.tmp"), "Read-only file system"),
        (RuntimeError("[enforce fail] file write failed\nat 0x77"), "RuntimeError: [enforce fail] file write failed"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_costs_no_more_and_is_told_of_once(
    tmp_path: Path, expected: Evaluation, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(path: Path, write: object) -> None:
        raise error

    monkeypatch.setattr(durable, "replace", fail)
    fitness, attendance = attended(tmp_path, 0.0)
    assert same(trainer_loop._outcome(fitness, attendance), expected)
    assert remarks(attendance) == [f"no checkpoints in {tmp_path}/inflight: {words}{LOSS}"]


def test_what_torch_makes_of_a_full_disk_is_called_by_its_name(tmp_path: Path) -> None:
    _, attendance = attended(tmp_path, 1e6)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        attendance.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert remarks(attendance) == [f"no checkpoints in {tmp_path}/inflight: File too large{LOSS}"]
    assert list((tmp_path / "inflight").iterdir()) == []


def test_a_run_that_its_worker_does_not_see_is_told_of(tmp_path: Path) -> None:
    _, attendance = attended(tmp_path / "there", 1e6)
    attendance.save()
    reason = f"the folder {tmp_path}/there is not there on the host of this worker"
    assert remarks(attendance) == [f"no checkpoints in {tmp_path}/there/inflight: {reason}{LOSS}"]


def test_checkpoints_may_lie_on_another_disk_and_a_link_to_nowhere_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "inflight").symlink_to(tmp_path / "fast")
    _, attendance = attended(tmp_path / "run", 1e6)
    attendance.save()
    reason = f"it is a link to {tmp_path}/fast, where no folder is on the host of this worker"
    assert remarks(attendance) == [f"no checkpoints in {tmp_path}/run/inflight: {reason}{LOSS}"]
    (tmp_path / "fast").mkdir()
    attendance.save()
    assert [path.name for path in (tmp_path / "fast").iterdir()] == ["4.pt"]
    assert (tmp_path / "run" / "inflight").is_symlink()


def test_something_else_in_the_place_of_the_checkpoints_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "inflight").touch()
    _, attendance = attended(tmp_path, 1e6)
    attendance.resume()
    attendance.save()
    assert remarks(attendance) == [f"no checkpoints in {tmp_path}/inflight: Not a directory{LOSS}"]


def test_a_full_disk_under_a_real_child(start: Start, tmp_path: Path, expected: Evaluation) -> None:
    one = start(run={"checkpoint_interval": 0.0})
    loaded(one)
    resource.prlimit(children()[0].pid, resource.RLIMIT_FSIZE, (4096, 4096))  # what torch writes is cut there
    assert same(outcome(one, TASK), expected)
    assert [path.name for path in (tmp_path / "inflight").iterdir()] == ["4.pt"]  # the last one is small; no halves
    assert one.warnings() == [f"no checkpoints in {tmp_path}/inflight: File too large{LOSS}"]


def test_what_a_child_warns_of_while_it_loads_reaches_its_worker(start: Start) -> None:
    code = (
        "import logging\n"
        "from hpcnas.training import trainer, trainer_loop\n"
        "load = trainer_loop.load_training\n"
        "def warning(*given, **named):\n"
        "    logging.getLogger('hpcnas.data.image_folder').warning('made %s', 'anew')\n"
        "    return load(*given, **named)\n"
        "trainer_loop.load_training = warning\n"
        "trainer.main()"
    )
    one = start((sys.executable, "-c", code))
    loaded(one)
    assert one.warnings() == ["made anew"]


def test_signs_of_life_come_often_enough_for_the_hang_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for timeout, beats in ((600.0, 3), (2.0, 6)):  # in three seconds
        clock = iter(number * 0.0625 for number in range(100))
        monkeypatch.setattr(trainer_loop.time, "monotonic", lambda clock=clock: next(clock))
        chosen = settings(tmp_path, run={"hang_timeout": timeout, "checkpoint_interval": 1e6})
        pipe = SilentPipe()
        attendance = trainer_loop.Attendance(pipe, chosen, "4.pt", directly(chosen))  # type: ignore[arg-type]
        for _ in range(48):
            attendance.beat()
        assert pipe.sent == [Beat()] * beats
