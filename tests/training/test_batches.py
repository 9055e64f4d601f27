"""Images that stay on the host, since a device has no memory for them: the same values, and so the same results to the
last bit, as those of images that lie on the device. A CPU stands for the device, told to have no room."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_cpu_program import flat
from test_cuda_program import DEVICE

from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.search import DataSettings, TrainingSettings
from hpcnas.data import arrays
from hpcnas.data.datasets import DataSet, Images, load_training
from hpcnas.messages import Evaluation, Stopped
from hpcnas.training import probing
from hpcnas.training.batches import BatchesFromHost, BatchesInPlace
from hpcnas.training.choice import on_threads
from hpcnas.training.cpu.compiled import CompiledTraining
from hpcnas.training.cuda.stacked import StackedTraining
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.method import TrainingData, Trainings
from hpcnas.training.plain import PlainTraining

CPU = torch.device("cpu")
GENOTYPE = flat("1-2 sep, 1-3 dw, 2-3 max, 3-4 1x1", 4)
SKELETON = Skeleton(5, 8, 8, 3, 8, (1, 1))
SETTINGS = TrainingSettings(
    replicates=2, steps=9, batch_size=8, crop=0.875, padding=1, learning_rate=0.05, rungs=(0.5,), precision="fp32"
)
SEEDS = (3, 4)


def nothing() -> None:
    """Called back where a test does not care."""


@pytest.fixture(scope="module", params=["uint16", "float32"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images, of which 45 are trained on: an epoch ends within a batch, and 9 batches need two."""
    folder = tmp_path_factory.mktemp(request.param) / "train"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 60_000, (60, 8, 8, 5))
    np.save(folder / "images.npy", values.astype(request.param))
    np.save(folder / "labels.npy", np.arange(60) % 3)
    return folder.parent


def data(
    folder: Path, room: int | None, device: torch.device = CPU, settings: TrainingSettings = SETTINGS
) -> TrainingData:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(arrays, "_SHARED", 0)  # mapped
        dataset = load_training(f"arrays:{folder}")
    kept = DataSettings(validation_fraction=0.25)
    return TrainingData.prepare(dataset, kept, device, settings.padding, room=room)


def fitness(
    method: type[Trainings], found: TrainingData, settings: TrainingSettings = SETTINGS, **more: Any
) -> FitnessInProgress:
    torch.set_num_threads(1)
    return FitnessInProgress(GENOTYPE, SEEDS, SKELETON, found, settings, method, **more)


def told(outcome: Evaluation | Stopped) -> Evaluation | Stopped:
    """Without what differs from time to time."""
    return dataclasses.replace(
        outcome, setup_seconds=0.0, training_seconds=0.0, validation_seconds=0.0, waiting_seconds=None
    )


@pytest.mark.parametrize("method", [PlainTraining, CompiledTraining, on_threads(2)], ids=lambda one: one.stored_name)
def test_a_fitness_is_the_same_to_the_last_bit(method: type[Trainings], folder: Path) -> None:
    resident, host = data(folder, None), data(folder, 0)
    assert host.on_host and not resident.on_host and host.facts == resident.facts
    expected, found = (fitness(method, one).run(nothing, nothing) for one in (resident, host))
    assert told(found) == told(expected) and isinstance(found, Evaluation) and found.measures and found.curves
    assert expected.waiting_seconds is None
    assert found.waiting_seconds is not None
    assert 0 < found.waiting_seconds < found.setup_seconds + found.training_seconds + found.validation_seconds


def test_it_goes_on_from_either_in_the_other(folder: Path) -> None:
    """Saved within an epoch, when the next images are on their way."""
    resident, host = data(folder, None), data(folder, 0)
    expected = told(fitness(CompiledTraining, resident).run(nothing, nothing))
    for first, second in ((resident, host), (host, resident)):
        begun, states = fitness(CompiledTraining, first), []

        def beat(one: FitnessInProgress = begun, states: list[Any] = states) -> None:
            states.append(one.state())
            if len(states) == 3:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            begun.run(beat, nothing)
        resumed = fitness(CompiledTraining, second)
        resumed.resume(states[-1])
        found = resumed.run(nothing, nothing)
        assert told(found) == expected
        if second is host:
            continue
        older = fitness(CompiledTraining, second)
        older.resume({name: value for name, value in states[-1].items() if name != "waited"})
        assert told(older.run(nothing, nothing)) == expected


def test_what_is_stopped_at_a_rung_tells_how_long_it_waited(folder: Path) -> None:
    found = fitness(PlainTraining, data(folder, 0), floors=(1.01,)).run(nothing, nothing)
    assert isinstance(found, Stopped) and found.waiting_seconds is not None and found.waiting_seconds > 0


def test_trainings_side_by_side_on_the_device() -> None:
    """By the kernels for GPUs, interpreted where there is none, and so of small images."""
    values = np.random.default_rng(0).integers(0, 60_000, (12, 4, 4, 1), dtype=np.uint16)
    dataset = DataSet("x", ("a", "b"), Images(values, np.arange(12) % 2), "")
    settings = dataclasses.replace(SETTINGS, steps=2, batch_size=2, crop=1.0, rungs=())
    found = []
    for room in (None, 0):
        images = TrainingData.prepare(dataset, DataSettings(validation_fraction=0.25), DEVICE, padding=1, room=room)
        assert images.on_host == (room == 0) and images.full_size == (6, 6) and images.facts.validation_images == 3
        trainings = StackedTraining.of(flat("1-2 1x1", 2), Skeleton(1, 4, 4, 2, 2, (1,)), images, settings, SEEDS)
        if room == 0:
            trainings.prepare()
        trainings.run(nothing)
        found.append((trainings, trainings.validated(nothing)))
    (resident, expected), (host, ours) = found
    tolerance = 1e-5 if DEVICE.type == "cuda" else 0.0
    for name in ("parameters", "velocity", "running"):
        torch.testing.assert_close(host.state()[name], resident.state()[name], rtol=0, atol=tolerance)
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine.scores, theirs.scores, rtol=0, atol=tolerance)
        assert len(mine.scores) == 3 and mine.right == theirs.right
    assert resident.waited is None and host.waited is not None and host.waited > 0


def test_what_works_is_found_out_as_images_come(folder: Path) -> None:
    way = probing.find(CPU, 1, SETTINGS, SKELETON, data(folder, 0))
    assert way.method is CompiledTraining and way.slower == ""


# ── where images lie ────────────────────────────────────────────────────────────────────────────────────────────────
def test_images_that_take_more_than_their_share_of_the_memory_stay_on_the_host(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    width = data(folder, None).pixels.element_size()
    taken = (45 * (8 * 8 + 10 * 10) + 15 * 8 * 8) * 5 * width  # padded, beside those as they were; and validation's
    assert not data(folder, taken * 4 // 3 + 4).on_host and not caplog.records
    assert data(folder, taken * 4 // 3 - 4).on_host
    (warning,) = caplog.messages
    assert warning.startswith("images stay on the host, and each batch is copied to the device: they take 0.00 GiB, ")
    assert "more than 75 % of the 0.00 GiB that a worker finds free there" in warning


def batches(folder: Path) -> tuple[BatchesFromHost, BatchesInPlace]:
    found = data(folder, 0)
    assert found.places is not None
    return (
        BatchesFromHost(found.pixels, found.places, CPU, padding=1),
        BatchesInPlace(found.pixels, found.places, padding=1),
    )


def test_batches_are_those_that_were_asked_for(folder: Path) -> None:
    """Whatever was thought to come next, and as long as they are kept."""
    host, expected = batches(folder)
    asked = [torch.tensor(one) for one in ([3, 44, 3], [7, 0, 1], [2, 2, 2], [5], [7, 0, 1])]
    thought = [asked[1], torch.tensor([9, 9, 9]), None, asked[4], None]
    kept = [host.take(chosen, upcoming) for chosen, upcoming in zip(asked, thought, strict=True)]
    for found, chosen in zip(kept, asked, strict=True):
        assert torch.equal(found, expected.take(chosen)) and found.shape == (len(chosen), 10, 10, 5)
    assert torch.equal(host.take(slice(40, 60)), expected.take(slice(40, 60)))


def test_the_next_batch_is_brought_ahead_and_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, _ = batches(folder)
    brought: list[list[int]] = []
    bring = BatchesFromHost._brought

    def counted(self: BatchesFromHost, rows: torch.Tensor) -> Any:
        brought.append(rows.tolist())
        return bring(self, rows)

    monkeypatch.setattr(BatchesFromHost, "_brought", counted)
    first, second = torch.tensor([0, 1]), torch.tensor([2, 3])
    host.take(first, second)
    host.take(second)
    assert brought == [host._rows[one].tolist() for one in (first, second)]


def test_a_fault_of_the_host_shows_where_images_are_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, _ = batches(folder)

    def broken(*_: Any, **__: Any) -> None:
        raise MemoryError("no room for a batch")

    monkeypatch.setattr(torch, "index_select", broken)
    with pytest.raises(MemoryError, match="no room for a batch"):
        host.take(torch.tensor([1]))


# ── on a GPU ────────────────────────────────────────────────────────────────────────────────────────────────────────
class MadeUpEvent:
    """In place of torch.cuda.Event: tells what is done with it."""

    said: list[str] = []
    made = 0

    def __init__(self, enable_timing: bool = False) -> None:
        self.timed = enable_timing
        MadeUpEvent.made += 1

    def record(self, stream: Any) -> None:
        self.said.append(f"{'time' if self.timed else 'mark'} on {stream}")

    def synchronize(self) -> None:
        if not self.timed:
            self.said.append("buffer is free")

    def elapsed_time(self, end: MadeUpEvent) -> float:
        return 250.0


class MadeUpStream:
    """In place of torch.cuda.Stream, of this name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def wait_event(self, event: MadeUpEvent) -> None:
        assert not event.timed
        MadeUpEvent.said.append(f"{self} waits")

    def __enter__(self) -> None:
        MadeUpEvent.said.append(f"copy on {self}")

    def __exit__(self, *_: object) -> None:
        pass


def test_a_gpu_waits_for_copies_on_a_stream_of_their_own_and_that_is_timed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, expected = batches(folder)
    said = MadeUpEvent.said = []
    monkeypatch.setattr(host, "_stream", MadeUpStream("side"))
    monkeypatch.setattr(torch.cuda, "Event", MadeUpEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: MadeUpStream("main"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, stream: said.append(f"memory kept for {stream}"))
    make, pinned = torch.empty, []

    def empty(*shape: Any, pin_memory: bool = False, **kinds: Any) -> torch.Tensor:
        pinned.append(pin_memory)
        return make(*shape, **kinds)

    monkeypatch.setattr(torch, "empty", empty)
    copy = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda one, *where, non_blocking: copy(one, *where, copy=True))
    asked = [torch.tensor(one) for one in ([3, 44], [7, 0], [2, 2])]
    found = [host.take(one) for one in asked]
    assert all(torch.equal(ours, expected.take(one)) for ours, one in zip(found, asked, strict=True))
    one = ["time on main", "copy on side", "mark on side", "main waits", "time on main", "memory kept for main"]
    assert said == [*one, *one, one[0], "buffer is free", *one[1:]]
    assert pinned == [True, True]  # two buffers, by turns
    assert host.waited == pytest.approx(0.75) and host.waited == pytest.approx(0.75)
