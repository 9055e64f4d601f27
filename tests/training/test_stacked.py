"""Trainings side by side: what is drawn for them, what they reach, and that they go on where they stopped.

Interpreted on the CPU, and so small, unless there is a GPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_cpu_program import flat
from test_cuda_program import DEVICE, GPU
from test_training_rungs import accuracy_of, mean_of
from torch.nn import functional

from hpcnas.architecture.expansion import expand
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.search import DataSettings, TrainingSettings
from hpcnas.data.augment import Normaliser
from hpcnas.data.datasets import load_training
from hpcnas.messages import Stopped, mean
from hpcnas.training.cuda import stacked
from hpcnas.training.cuda.stacked import StackedTraining
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.method import LossNotFinite, TrainingData, learning_rate
from hpcnas.training.network import Network
from hpcnas.training.plain import PlainTraining

GENOTYPE = flat("1-2 1x1", 2)
SKELETON = Skeleton(1, 8, 8, 10, 2, (1,))
SETTINGS = TrainingSettings(
    replicates=2, steps=3, batch_size=3, crop=0.5, precision="fp32", milestones=(0.5,), learning_rate=0.05
)
SEEDS = (3, 11)


def nothing() -> None:
    """Called back where a test does not care."""


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return TrainingData.prepare(load_training("synthetic:50:1x8x8"), DataSettings(), DEVICE)


def trained(
    data: TrainingData, settings: TrainingSettings = SETTINGS, seeds: tuple[int, ...] = SEEDS
) -> StackedTraining:
    found = StackedTraining.of(GENOTYPE, SKELETON, data, settings, seeds)
    found.run(nothing)
    return found


def test_preparing_changes_nothing(
    data: TrainingData, whole: StackedTraining, reached: tuple[float, ...]
) -> None:
    """Before the first step, and before one in the middle."""
    found = StackedTraining.of(GENOTYPE, SKELETON, data, SETTINGS, SEEDS)
    found.prepare()
    found._advance()
    found.prepare()
    found.run(nothing)
    found.prepare()
    for ours, theirs in zip(
        (found._plan.parameters, found._plan.running, found._draws.losses),
        (whole._plan.parameters, whole._plan.running, whole._draws.losses),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    assert found.accuracies(nothing) == reached


@pytest.fixture(scope="module")
def whole(data: TrainingData) -> StackedTraining:
    """Both trainings, complete."""
    return trained(data)


@pytest.fixture(scope="module")
def reached(whole: StackedTraining) -> tuple[float, ...]:
    """Their accuracies."""
    return whole.accuracies(nothing)


def test_the_same_as_plain_trainings_on_the_same_draws(data: TrainingData, whole: StackedTraining) -> None:
    ours = whole
    for number, seed in enumerate(SEEDS):
        torch.manual_seed(seed)
        network = Network(expand(GENOTYPE), SKELETON).to(DEVICE)
        optimiser = torch.optim.SGD(network.parameters(), 0.1, SETTINGS.momentum, weight_decay=SETTINGS.weight_decay)
        for step in range(SETTINGS.steps):
            crops = []
            for image, (top, left, mirrored) in zip(
                ours._draws.order[number, step].long(), ours._draws.offsets[number, step].tolist(), strict=True
            ):
                crop = data.pixels[image, top : top + 4, left : left + 4]
                crops.append(crop.flip(1) if mirrored else crop)
            optimiser.param_groups[0]["lr"] = learning_rate(SETTINGS, step)
            optimiser.zero_grad()
            labels = data.labels[ours._draws.order[number, step].long()]
            functional.cross_entropy(network(data.normalise(torch.stack(crops))), labels).backward()
            optimiser.step()
        for name, value in ours.export(number).items():
            torch.testing.assert_close(value, network.state_dict()[name].cpu(), rtol=1e-3, atol=1e-4)


def test_accuracies_are_those_of_the_exported_networks(
    data: TrainingData, whole: StackedTraining, reached: tuple[float, ...]
) -> None:
    ours = whole
    images = data.normalise(data.validation_pixels)
    for number, accuracy in enumerate(reached):
        network = Network(expand(GENOTYPE), SKELETON).to(DEVICE)
        network.load_state_dict(ours.export(number), strict=False)
        with torch.no_grad():
            right = (network.eval()(images).argmax(1) == data.validation_labels).sum().item()
        assert accuracy == right / len(images)


def test_a_seed_means_the_same_alone_and_beside_others(data: TrainingData, whole: StackedTraining) -> None:
    alone, beside = trained(data, seeds=SEEDS[1:]), whole
    for name, value in alone.export(0).items():
        torch.testing.assert_close(value, beside.export(1)[name], rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(value, beside.export(0)[name]) for name, value in alone.export(0).items())


def test_it_goes_on_from_its_state_as_if_it_had_never_stopped(data: TrainingData, whole: StackedTraining) -> None:
    begun = StackedTraining.of(GENOTYPE, SKELETON, data, SETTINGS, SEEDS)
    begun._advance()
    state = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in begun.state().items()}
    resumed = StackedTraining.of(GENOTYPE, SKELETON, data, SETTINGS, SEEDS)
    resumed.resume(state)
    resumed.run(nothing)
    assert resumed.step == SETTINGS.steps
    for number in range(2):
        for name, value in whole.export(number).items():
            torch.testing.assert_close(resumed.export(number)[name], value, rtol=1e-4, atol=1e-5)


def test_every_image_comes_once_an_epoch_and_every_place_and_side_comes(data: TrainingData) -> None:
    settings = dataclasses.replace(SETTINGS, steps=20, batch_size=10)
    drawn = stacked._draws(data, settings, SEEDS, (4, 4))
    for order in drawn.order:
        assert all(sorted(epoch.tolist()) == list(range(40)) for epoch in order.reshape(-1, 40))
    assert not torch.equal(drawn.order[0], drawn.order[1])
    assert drawn.offsets[..., :2].unique().tolist() == [0, 1, 2, 3, 4] and drawn.offsets[..., 2].unique().tolist() == [
        0,
        1,
    ]
    unflipped = stacked._draws(data, dataclasses.replace(settings, flip=False), SEEDS, (4, 4))
    assert not unflipped.offsets[..., 2].any()


def test_crops_of_padded_images(data: TrainingData) -> None:
    padded = TrainingData.prepare(load_training("synthetic:50:1x8x8"), DataSettings(), DEVICE, padding=2)
    drawn = stacked._draws(padded, dataclasses.replace(SETTINGS, crop=1.0), SEEDS, (8, 8))
    assert padded.pixels.shape[1:3] == (12, 12) and drawn.offsets[..., 0].max() <= 4


def test_a_loss_that_is_not_finite_ends_it(data: TrainingData) -> None:
    nowhere = torch.tensor([float("nan")], device=DEVICE)
    broken = dataclasses.replace(data, normalise=Normaliser(nowhere, nowhere))
    with pytest.raises(LossNotFinite, match="by step 3 of 3"):
        trained(broken)


# ── at rungs ────────────────────────────────────────────────────────────────────────────────────────────────────────
RUNGS = dataclasses.replace(SETTINGS, crop=1.0, rungs=(0.34, 0.67))
AT = (1, 2)  # steps, of those
SMALLER = Skeleton(1, 4, 4, 10, 2, (1,))


@pytest.fixture(scope="module")
def tiny(data: TrainingData) -> TrainingData:
    """A corner of the images, 4×4 pixels."""
    facts = dataclasses.replace(data.facts, height=4, width=4)
    pixels, validated = data.pixels[:, :4, :4].contiguous(), data.validation_pixels[:, :4, :4].contiguous()
    return dataclasses.replace(data, pixels=pixels, validation_pixels=validated, facts=facts)


@dataclasses.dataclass
class Followed:
    """Trainings with rungs that were looked at after every step."""

    trainings: StackedTraining
    states: list[dict[str, Any]]
    averaged: list[tuple[float, ...]]  # their accuracies by the average of the weights, up to the last rung


def copied(state: dict[str, Any]) -> dict[str, Any]:
    """A state that the steps to come leave alone."""
    found = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in state.items()}
    return {**found, "averages": [average.clone() for average in state["averages"]]}


@pytest.fixture(scope="module")
def followed(tiny: TrainingData) -> Followed:
    found = Followed(StackedTraining.of(GENOTYPE, SMALLER, tiny, RUNGS, SEEDS), [], [])
    for step in range(1, RUNGS.steps + 1):
        found.trainings.run(nothing, until=step)
        if step <= AT[-1]:
            found.averaged.append(found.trainings.accuracies(nothing, averaged=True))
        found.states.append(copied(found.trainings.state()))
    return found


def test_rungs_leave_no_trace_in_the_training(tiny: TrainingData, followed: Followed) -> None:
    plain = StackedTraining.of(GENOTYPE, SMALLER, tiny, dataclasses.replace(RUNGS, rungs=()), SEEDS)
    plain.run(nothing)
    for name in ("parameters", "velocity", "running"):
        torch.testing.assert_close(followed.states[-1][name], plain.state()[name], rtol=0, atol=1e-5 if GPU else 0)


def test_rungs_validate_the_mean_of_weights_and_statistics(tiny: TrainingData, followed: Followed) -> None:
    for last, accuracies in enumerate(followed.averaged):
        for number, accuracy in enumerate(accuracies):
            snapshots = []
            for state in followed.states[: last + 1]:
                plan = followed.trainings._plan.with_numbers(state["parameters"], state["running"])
                snapshots.append(plan.state_dict(number))
            expected = mean_of(snapshots)
            averages = followed.states[last]["averages"]
            for name, value in followed.trainings._plan.with_numbers(*averages).state_dict(number).items():
                torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)
            assert accuracy == pytest.approx(accuracy_of(expected, tiny, GENOTYPE, SMALLER), abs=1.5 / 10)


def test_the_average_is_what_is_validated_and_nothing_else_is_touched(tiny: TrainingData) -> None:
    """Weights at random, by which the images are of many classes: averages that training makes are seldom so soon."""
    found = StackedTraining.of(GENOTYPE, SMALLER, tiny, RUNGS, SEEDS)
    found._advance()
    draw = torch.Generator().manual_seed(1)
    for places in found._plan.graph.indices.values():  # what fills up blocks stays zero
        for average in found._averages[0]:
            average[torch.from_numpy(places)] = 3 * torch.randn(places.shape, generator=draw).to(DEVICE)
    before = copied(found.state())
    plan = found._plan.with_numbers(*found._averages)
    networks = [accuracy_of(plan.state_dict(number), tiny, GENOTYPE, SMALLER) for number in range(2)]
    assert networks[0] != networks[1] and found.accuracies(nothing, averaged=True) == tuple(networks)
    assert found.accuracies(nothing) not in (tuple(networks), tuple(networks[::-1]))
    after = found.state()
    assert all(torch.equal(after[name], before[name]) for name in ("parameters", "velocity", "running"))
    assert all(map(torch.equal, after["averages"], before["averages"]))


def test_there_is_an_average_where_there_are_rungs(tiny: TrainingData, followed: Followed) -> None:
    assert [len(state["averages"]) for state in followed.states] == [2, 2, 2]
    assert StackedTraining.of(GENOTYPE, SMALLER, tiny, SETTINGS, SEEDS).state()["averages"] == []


@pytest.mark.parametrize("step", [1, 2])
def test_it_goes_on_with_its_average(tiny: TrainingData, followed: Followed, step: int) -> None:
    """And what is compiled then changes no average."""
    resumed = StackedTraining.of(GENOTYPE, SMALLER, tiny, RUNGS, SEEDS)
    resumed.resume(copied(followed.states[step - 1]))
    resumed.prepare()
    resumed.run(nothing, until=AT[-1])
    for ours, theirs in zip(resumed.state()["averages"], followed.states[AT[-1] - 1]["averages"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 if GPU else 0)
    resumed.run(nothing)
    for name in ("parameters", "velocity", "running"):
        torch.testing.assert_close(resumed.state()[name], followed.states[-1][name], rtol=0, atol=1e-5 if GPU else 0)


def test_trainings_side_by_side_are_stopped_together(tiny: TrainingData, followed: Followed) -> None:
    first, second = (mean(followed.averaged[step - 1]) for step in AT)
    floors = (first - 0.2, second + 0.2)
    found = FitnessInProgress(GENOTYPE, SEEDS, SMALLER, tiny, RUNGS, StackedTraining, floors).run(nothing, nothing)
    assert isinstance(found, Stopped)
    for rung, accuracies in zip(zip(*found.curves, strict=True), followed.averaged, strict=True):
        assert rung == pytest.approx(accuracies, abs=0.1 * GPU)


def test_a_loss_that_is_not_finite_shows_at_a_rung(tiny: TrainingData) -> None:
    nowhere = torch.tensor([float("nan")], device=DEVICE)
    broken = dataclasses.replace(tiny, normalise=Normaliser(nowhere, nowhere))
    fitness = FitnessInProgress(GENOTYPE, SEEDS, SMALLER, broken, RUNGS, StackedTraining)
    with pytest.raises(LossNotFinite, match="by step 1 of 3"):
        fitness.run(nothing, nothing)


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────
class TooMany(PlainTraining):
    """Trainings that pretend to need the memory of a device for each two of them."""

    side_by_side = 4
    groups: list[int] = []
    error: Exception = torch.OutOfMemoryError("CUDA out of memory")

    @classmethod
    def of(cls, genotype: Any, skeleton: Any, data: Any, settings: Any, seeds: tuple[int, ...]) -> Any:
        cls.groups.append(len(seeds))
        if len(seeds) > 1:
            raise cls.error
        return PlainTraining.of(genotype, skeleton, data, settings, seeds)


def evaluation(data: TrainingData, done: Callable[[], None]) -> FitnessInProgress:
    TooMany.groups.clear()
    cpu = TrainingData.prepare(load_training("synthetic:50:1x8x8"), DataSettings(), torch.device("cpu"))
    return FitnessInProgress(GENOTYPE, (1, 2, 3, 4), SKELETON, cpu, SETTINGS, TooMany)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("HIP error: hipErrorOutOfMemory"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_met_with_half_as_many_side_by_side(
    data: TrainingData, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TooMany, "error", error)
    found = evaluation(data, nothing).run(nothing, nothing)
    assert len(found.accuracies) == 4 and TooMany.groups == [4, 2, 1, 1, 1, 1]


def test_any_other_error_is_not_met_with_fewer(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TooMany, "error", RuntimeError("Triton Error [CUDA]: misaligned address"))
    with pytest.raises(RuntimeError, match="misaligned"):
        evaluation(data, nothing).run(nothing, nothing)
    assert TooMany.groups == [4]


def test_a_saved_state_of_more_than_fit_is_begun_anew_with_fewer(data: TrainingData) -> None:
    fitness = evaluation(data, nothing)
    fitness.resume({**fitness.state(), "running": 4, "trainings": {"step": 2}})
    assert len(fitness.run(nothing, nothing).accuracies) == 4 and TooMany.groups == [4, 2, 1, 1, 1, 1]


def test_out_of_memory_for_a_single_training_is_a_failure(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    fitness = evaluation(data, nothing)
    monkeypatch.setattr(PlainTraining, "of", none)
    with pytest.raises(torch.OutOfMemoryError):
        fitness.run(nothing, nothing)
