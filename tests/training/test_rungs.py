"""Validation at rungs: on the average of the weights, without a trace in the training; where trainings end there, and
how they go on from any moment. On the CPU; `test_stacked` has the same of the way on a GPU."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from test_cpu_program import flat

from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.search import DataSettings, TrainingSettings
from hpcnas.data.datasets import load_training
from hpcnas.messages import Evaluation, Stopped
from hpcnas.training import averaging
from hpcnas.training.cpu.compiled import CompiledTraining, on_threads
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.method import LossNotFinite, TrainingData, Trainings
from hpcnas.training.network import Network
from hpcnas.training.plain import PlainTraining

GENOTYPE = flat("1-2 sep, 2-3 max, 1-3 1x1", 3)
SKELETON = Skeleton(1, 8, 8, 10, 4, (1,))
RUNGS = TrainingSettings(
    replicates=3, steps=14, batch_size=20, crop=1.0, flip=False, rungs=(0.4, 0.8), learning_rate=0.5
)
AT = (6, 11)  # steps, of those
PLAIN = dataclasses.replace(RUNGS, rungs=())
SEEDS = (5, 6, 7)
WAYS = (PlainTraining, CompiledTraining, on_threads(2))
BELOW_ANY = -math.inf


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """1,437 images for training, 360 for validation in two batches."""
    return TrainingData.prepare(load_training("digits"), DataSettings(), torch.device("cpu"))


@pytest.fixture(params=WAYS, ids=("plain", "compiled", "threads"))
def way(request: pytest.FixtureRequest) -> type[Trainings]:
    found: type[Trainings] = request.param
    return found


def nothing() -> None:
    """Called back where a test does not care."""


def begun(way: type[Trainings], data: TrainingData, settings: TrainingSettings = RUNGS) -> Trainings:
    """As many trainings as the way makes at a time."""
    found = way.of(GENOTYPE, SKELETON, data, settings, SEEDS[: way.side_by_side])
    found.prepare()
    return found


def fitness(
    way: type[Trainings],
    data: TrainingData,
    floors: tuple[float, ...] = (),
    settings: TrainingSettings = RUNGS,
) -> FitnessInProgress:
    return FitnessInProgress(GENOTYPE, SEEDS, SKELETON, data, settings, way, floors)


def bits(state: object, without: str = "averages") -> list[object]:
    """All that a state consists of but for its averages, to be compared to the last bit."""
    if isinstance(state, torch.Tensor):
        return [state.numpy().tobytes()]
    if isinstance(state, dict):
        return [one for key, value in state.items() if key != without for one in (key, *bits(value))]
    if isinstance(state, list | tuple):
        return [one for value in state for one in bits(value)]
    return [state]


# ── the average ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_first_weights_are_taken_whole_and_later_ones_less_and_less() -> None:
    assert [averaging.share(step) for step in (1, 2, 6, 96)] == [1.0, 5 / 6, 0.5, 0.05]


def test_an_average_is_needed_up_to_the_last_rung() -> None:
    assert RUNGS.rung_steps == AT
    assert averaging.averaged_steps(RUNGS) == 11 and averaging.averaged_steps(PLAIN) == 0


def mean_of(snapshots: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The weights after steps 1, 2, …, averaged with the weights t (t + 1) (t + 2) (t + 3)."""
    numbers = [math.prod(range(step, step + 4)) for step in range(1, len(snapshots) + 1)]
    shares = [number / sum(numbers) for number in numbers]
    return {
        name: sum(share * snapshot[name].double() for share, snapshot in zip(shares, snapshots, strict=True)).float()
        for name in snapshots[0]
        if snapshots[0][name].is_floating_point()
    }


def accuracy_of(weights: dict[str, torch.Tensor], data: TrainingData, genotype: Genotype, skeleton: Skeleton) -> float:
    """What the plain network with these weights classifies correctly."""
    network = Network(expand(genotype), skeleton).to(data.pixels.device)
    assert not network.load_state_dict(weights, strict=False).unexpected_keys
    with torch.no_grad():
        found = network.eval()(data.normalise(data.validation_pixels)).argmax(1)
    return float((found == data.validation_labels).double().mean())


def exported(trainings: Any) -> list[dict[str, torch.Tensor]]:
    """Copies of the weights of each training."""
    each = trainings._all if hasattr(trainings, "_all") else [trainings]
    states = [one.network.state_dict() if isinstance(one, PlainTraining) else one.export() for one in each]
    return [{name: value.clone() for name, value in state.items()} for state in states]


def test_rungs_validate_the_average_and_the_end_the_weights(way: type[Trainings], data: TrainingData) -> None:
    plain, ours = begun(way, data, PLAIN), begun(way, data)
    snapshots: list[list[dict[str, torch.Tensor]]] = []
    averaged, of_weights = [], []
    for step in range(1, RUNGS.steps + 1):
        plain.run(nothing, until=step)
        snapshots.append(exported(plain))
        ours.run(nothing, until=step)
        if step <= AT[-1]:
            each = [mean_of([them[number] for them in snapshots]) for number in range(len(snapshots[0]))]
            expected = [accuracy_of(weights, data, GENOTYPE, SKELETON) for weights in each]
            averaged += (found := ours.accuracies(nothing, averaged=True))
            assert found == pytest.approx(expected, abs=1.5 / 360)  # rounding may turn an image over
            assert averaging_error(ours, each) < 1e-5
            of_weights += ours.accuracies(nothing)
    assert sum(abs(one - other) > 2.5 / 360 for one, other in zip(averaged, of_weights, strict=True)) >= 2
    assert ours.accuracies(nothing) == plain.accuracies(nothing)


def averaging_error(trainings: Any, expected: list[dict[str, torch.Tensor]]) -> float:
    """How far the averages of trainings are from these weights, at the most."""
    found = []
    for one, weights in zip(getattr(trainings, "_all", [trainings]), expected, strict=True):
        if isinstance(one, PlainTraining):
            ours = dict(zip(one._learner._named(), one._averages, strict=True))
        else:
            plan = one._plan.twin()
            plan.parameters[:], plan.running[:] = (average.numpy() for average in one._averages)
            ours = plan.state_dict()
        assert set(ours) == set(weights)
        found += [float((ours[name] - weights[name]).abs().max()) for name in weights]
    return max(found)


def test_rungs_leave_no_trace_in_the_training(way: type[Trainings], data: TrainingData) -> None:
    plain, ours = begun(way, data, PLAIN), begun(way, data)
    for step in range(1, RUNGS.steps + 1):
        plain.run(nothing, until=step)
        ours.run(nothing, until=step)
        if step <= AT[-1]:
            ours.accuracies(nothing, averaged=True)
        assert bits(ours.state()) == bits(plain.state())
    assert ours.accuracies(nothing) == plain.accuracies(nothing)
    assert bits(ours.state()) == bits(plain.state())


def averages(state: dict[str, Any]) -> list[torch.Tensor]:
    """What a state has of them."""
    found: list[torch.Tensor] = [one for part in state.get("each", [state]) for one in part["averages"]]
    return found


def test_an_average_is_kept_no_longer_than_to_the_last_rung(way: type[Trainings], data: TrainingData) -> None:
    ours = begun(way, data)
    assert averages(ours.state())
    ours.run(nothing, until=AT[-1])
    assert averages(ours.state())
    ours.run(nothing, until=AT[-1] + 1)
    assert not averages(ours.state())
    assert not averages(begun(way, data, PLAIN).state())
