"""Trainings on a few made-up images: reproducible to the bit, resumable, as scheduled, validated by counting."""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_expansion import build
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook

from hpcnas.architecture import sizes
from hpcnas.architecture.expansion import expand
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import DataSettings, TrainingSettings
from hpcnas.data.datasets import DataSet, Images, load_training
from hpcnas.messages import Evaluation
from hpcnas.training import single
from hpcnas.training.fitness import FitnessInProgress, Stopwatch
from hpcnas.training.method import LossNotFinite, TrainingData, ValidationScores, learning_rate
from hpcnas.training.plain import PlainTraining

torch.set_num_threads(1)

GENOTYPE = build("1x3", ["1-2 sep, 2-3 max, 1-3 1x1"])
SKELETON = Skeleton(3, 8, 8, 10, channels=4, cells=(1, 1))
SETTINGS = TrainingSettings(replicates=2, steps=12, batch_size=16)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """160 images of 8×8 pixels for training, 40 for validation."""
    return TrainingData.prepare(load_training("synthetic:200:3x8x8"), DataSettings(), CPU)


def nothing() -> None:
    """Called back where a test does not care."""


def trained(data: TrainingData, seed: int, settings: TrainingSettings = SETTINGS) -> PlainTraining:
    one = PlainTraining(GENOTYPE, SKELETON, data, settings, seed)
    one.run(nothing)
    return one


def fitness(data: TrainingData, seeds: tuple[int, ...], settings: TrainingSettings = SETTINGS) -> Evaluation:
    return FitnessInProgress(GENOTYPE, seeds, SKELETON, data, settings, PlainTraining).run(nothing, nothing)


def bits(network: nn.Module) -> bytes:
    """All weights and statistics of a network."""
    return b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())


@pytest.fixture
def steps() -> Iterator[list[dict[str, Any]]]:
    """The optimiser's parameter group at each of its steps."""
    seen: list[dict[str, Any]] = []

    def note(optimiser: torch.optim.Optimizer, *_: object) -> None:
        (group,) = optimiser.param_groups
        seen.append(dict(group))

    handle = register_optimizer_step_pre_hook(note)
    yield seen
    handle.remove()


# Data


def test_the_data_are_split_and_described(data: TrainingData) -> None:
    assert data.pixels.shape == (160, 8, 8, 3) and data.pixels.dtype == torch.uint8
    assert data.labels.shape == (160,) and data.labels.dtype == torch.int64
    assert data.validation_pixels.shape == (40, 8, 8, 3) and data.validation_labels.shape == (40,)
    fingerprint = load_training("synthetic:200:3x8x8").fingerprint
    assert data.facts == DataFacts(3, 8, 8, 10, training_images=160, validation_images=40, fingerprint=fingerprint)


def test_training_images_are_normalised_by_their_own_statistics(data: TrainingData) -> None:
    inputs = data.normalise(data.pixels).double()
    torch.testing.assert_close(inputs.mean(dim=(0, 2, 3)), torch.zeros(3).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(inputs.std(dim=(0, 2, 3), correction=0), torch.ones(3).double(), rtol=0, atol=1e-5)


def test_the_configured_seed_decides_who_is_held_out() -> None:
    dataset = load_training("synthetic:200:3x8x8")
    first, same, other = (TrainingData.prepare(dataset, DataSettings(split_seed=seed), CPU) for seed in (0, 0, 1))
    assert torch.equal(first.validation_pixels, same.validation_pixels)
    assert not torch.equal(first.validation_pixels, other.validation_pixels)


# Reproducibility


def test_the_same_seeds_give_the_same_accuracies(data: TrainingData) -> None:
    assert fitness(data, (7, 8)).accuracies == fitness(data, (7, 8)).accuracies


def test_the_same_seed_gives_the_same_weights(data: TrainingData) -> None:
    assert bits(trained(data, 7).network) == bits(trained(data, 7).network)


def test_another_seed_gives_other_weights(data: TrainingData) -> None:
    assert bits(trained(data, 7).network) != bits(trained(data, 8).network)


def test_the_seed_decides_the_first_weights(data: TrainingData) -> None:
    first, same, other = (bits(PlainTraining(GENOTYPE, SKELETON, data, SETTINGS, seed).network) for seed in (7, 7, 8))
    assert first == same != other


def test_the_seed_decides_what_the_network_is_shown(data: TrainingData) -> None:
    """Two trainings from the same weights, not of the same seed."""
    first, second = (PlainTraining(GENOTYPE, SKELETON, data, SETTINGS, seed) for seed in (7, 8))
    second.network.load_state_dict(first.network.state_dict())
    first.run(nothing)
    second.run(nothing)
    assert bits(first.network) != bits(second.network)


def test_a_seed_does_not_feel_what_ran_before(data: TrainingData) -> None:
    alone = bits(trained(data, 7).network)
    torch.manual_seed(1)
    torch.rand(5)
    np.random.default_rng(1).random(5)
    trained(data, 8)
    assert bits(trained(data, 7).network) == alone


def test_the_order_of_seeds_is_the_order_of_accuracies(data: TrainingData) -> None:
    seeds = (7, 8, 9)
    each = [fitness(data, (seed,)).accuracies[0] for seed in seeds]
    assert len(set(each)) > 1  # else the order shows nothing
    assert fitness(data, seeds).accuracies == tuple(each)
    assert fitness(data, seeds[::-1]).accuracies == tuple(each[::-1])


def test_a_training_leaves_the_global_generator_alone(data: TrainingData) -> None:
    torch.manual_seed(12345)
    before = torch.get_rng_state()
    trained(data, 7)
    assert torch.equal(torch.get_rng_state(), before)


# Interruption


class Interrupted(Exception):
    """What a test ends a training with."""


def interrupted(work: Callable[[Callable[[], None]], object], after: int) -> None:
    """Runs `work(beat)` and breaks it off at the beat of that number."""
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1
        if beats == after:
            raise Interrupted

    with pytest.raises(Interrupted):
        work(beat)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """The state as a new process would read it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("step", [1, 5, 10, 11, 12])
def test_a_resumed_training_is_the_same_to_the_bit(data: TrainingData, step: int) -> None:
    """The order of images is drawn anew at step 11: it takes 10 batches of 16 to see 160 of them."""
    begun = PlainTraining(GENOTYPE, SKELETON, data, SETTINGS, 7)
    interrupted(begun.run, after=step)
    resumed = PlainTraining(GENOTYPE, SKELETON, data, SETTINGS, 7)
    resumed.resume(through_a_file(begun.state()))
    assert resumed.step == step
    resumed.run(nothing)
    assert bits(resumed.network) == bits(trained(data, 7).network)


# 12 beats of steps and one of validation a replicate
@pytest.mark.parametrize("beat", [1, 12, 13, 14, 25, 26])
def test_a_resumed_evaluation_is_the_same(data: TrainingData, beat: int) -> None:
    begun = FitnessInProgress(GENOTYPE, (7, 8), SKELETON, data, SETTINGS, PlainTraining)
    interrupted(lambda call: begun.run(call, nothing), after=beat)
    resumed = FitnessInProgress(GENOTYPE, (7, 8), SKELETON, data, SETTINGS, PlainTraining)
    resumed.resume(through_a_file(begun.state()))
    assert resumed.run(nothing, nothing).accuracies == fitness(data, (7, 8)).accuracies


def test_an_evaluation_resumes_between_two_replicates(data: TrainingData, steps: list[dict[str, Any]]) -> None:
    begun = FitnessInProgress(GENOTYPE, (7, 8), SKELETON, data, SETTINGS, PlainTraining)
    interrupted(lambda call: begun.run(nothing, call), after=1)
    resumed = FitnessInProgress(GENOTYPE, (7, 8), SKELETON, data, SETTINGS, PlainTraining)
    resumed.resume(through_a_file(begun.state()))
    steps.clear()
    evaluation = resumed.run(nothing, nothing)
    assert len(steps) == SETTINGS.steps  # only the second one is trained
    assert evaluation.accuracies == fitness(data, (7, 8)).accuracies


@pytest.mark.parametrize(
    "other",
    [
        {"genotype": build("1x3", ["1-2 sep, 2-3 avg, 1-3 1x1"])},
        {"seeds": (7, 9)},
        {"settings": dataclasses.replace(SETTINGS, steps=13)},
        {"skeleton": dataclasses.replace(SKELETON, channels=3)},
    ],
    ids=lambda other: "".join(other),
)
def test_the_state_of_another_evaluation_is_refused(data: TrainingData, other: dict[str, Any]) -> None:
    same = {"genotype": GENOTYPE, "seeds": (7, 8), "skeleton": SKELETON, "data": data, "settings": SETTINGS}
    same["method"] = PlainTraining
    state = FitnessInProgress(**same).state()
    FitnessInProgress(**same).resume(state)
    with pytest.raises(ValueError, match="expected the state of .*, got that of "):
        FitnessInProgress(**same | other).resume(state)


# Optimisation


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.1), (3999, 0.1), (4000, 0.01), (4499, 0.01), (4500, 0.001), (4999, 0.001)]
)
def test_the_papers_learning_rate(step: int, rate: float) -> None:
    assert learning_rate(TrainingSettings(), step) == pytest.approx(rate, rel=1e-12)


def test_the_papers_large_network_has_three_milestones() -> None:
    settings = TrainingSettings(steps=80_000, milestones=(0.5, 0.75, 0.875))
    rates = [learning_rate(settings, step) for step in (39_999, 40_000, 60_000, 70_000, 79_999)]
    assert rates == pytest.approx([0.1, 0.01, 0.001, 0.0001, 0.0001], rel=1e-12)


def test_the_optimiser_follows_the_settings(data: TrainingData, steps: list[dict[str, Any]]) -> None:
    settings = dataclasses.replace(SETTINGS, steps=5, learning_rate=0.2, milestones=(0.4, 0.8), momentum=0.7)
    network = trained(data, 7, settings).network
    assert [group["lr"] for group in steps] == pytest.approx([0.2, 0.2, 0.02, 0.02, 0.002])
    assert {(group["momentum"], group["nesterov"], group["weight_decay"]) for group in steps} == {(0.7, False, 3e-4)}
    assert {id(parameter) for parameter in steps[0]["params"]} == {id(parameter) for parameter in network.parameters()}


def test_the_loss_falls(data: TrainingData) -> None:
    """Coarsely: patterns under noise, 30 steps. Of ten classes the first loss is about ln 10."""
    settings = dataclasses.replace(SETTINGS, steps=30, batch_size=40, crop=1.0, flip=False)
    one = PlainTraining(GENOTYPE, dataclasses.replace(SKELETON, channels=8), data, settings, 7)

    def loss() -> float:
        with torch.no_grad():
            return float(functional.cross_entropy(one.network.train()(data.normalise(data.pixels)), data.labels))

    first = loss()
    one.run(nothing)
    assert loss() < 0.7 * first


@pytest.mark.parametrize("interval", [1, 5, 50])
def test_an_infinite_loss_is_no_fitness(data: TrainingData, monkeypatch: pytest.MonkeyPatch, interval: int) -> None:
    monkeypatch.setattr(single, "CHECK_INTERVAL", interval)
    with pytest.raises(LossNotFinite, match=r"the loss was not finite by step \d+ of 12"):
        fitness(data, (7,), dataclasses.replace(SETTINGS, learning_rate=1e18))


def test_one_infinite_loss_is_enough(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, float("nan")] + [1.0] * 10)
    monkeypatch.setattr(
        functional, "cross_entropy", lambda scores, labels: scores.sum() * 0 + torch.tensor(next(losses))
    )
    with pytest.raises(LossNotFinite, match="by step 12 of 12"):
        trained(data, 7)


def test_a_sign_of_life_after_every_step(data: TrainingData) -> None:
    one = PlainTraining(GENOTYPE, SKELETON, data, SETTINGS, 7)
    beats: list[int] = []
    one.run(lambda: beats.append(one.step))
    assert beats == list(range(1, 13))


# What the network is shown


class Constant(nn.Module):
    """A network that always says the same class, and notes what it was shown."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(functional.one_hot(torch.tensor(answer), 10).float())
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images)
        return self.scores.expand(len(images), -1)


def constant(one: PlainTraining, answer: int = 0) -> Constant:
    """Replaces the network of a training."""
    found = Constant(answer)
    one._learner.network = found  # type: ignore[assignment]
    return found


@pytest.mark.parametrize("answer", range(10))
def test_validation_counts_right_answers(data: TrainingData, answer: int) -> None:
    one = PlainTraining(GENOTYPE, SKELETON, data, SETTINGS, 7)
    constant(one, answer)
    assert one.validate(nothing).accuracy == data.validation_labels.tolist().count(answer) / 40


def test_validation_is_shown_each_whole_validation_image_once(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single, "VALIDATION_BATCH", 7)
    one = PlainTraining(GENOTYPE, SKELETON, data, SETTINGS, 7)
    network = constant(one)
    one.validate(nothing)
    assert [len(part) for part in network.shown] == [7, 7, 7, 7, 7, 5]
    assert torch.equal(torch.cat(network.shown), data.normalise(data.validation_pixels))


def test_the_size_of_validation_batches_does_not_matter(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    one = trained(data, 7)
    whole = one.validate(nothing).accuracy
    monkeypatch.setattr(single, "VALIDATION_BATCH", 7)
    assert one.validate(nothing).accuracy == whole


def test_validation_changes_nothing(data: TrainingData) -> None:
    one = trained(data, 7)
    before = bits(one.network)
    one.validate(nothing)
    assert bits(one.network) == before


def shown_in_training(data: TrainingData, settings: TrainingSettings) -> Tensor:
    """All inputs of one training, one after the other."""
    one = PlainTraining(GENOTYPE, SKELETON, data, settings, 7)
    network = constant(one)
    one.run(nothing)
    return torch.cat(network.shown)


@pytest.mark.parametrize(("side", "crop", "shown"), [(32, 0.75, 24), (8, 0.75, 6), (28, 0.75, 21), (8, 1.0, 8)])
def test_training_is_shown_crops(side: int, crop: float, shown: int) -> None:
    images = load_training(f"synthetic:20:1x{side}x{side}")
    data = TrainingData.prepare(images, DataSettings(), CPU)
    inputs = shown_in_training(data, dataclasses.replace(SETTINGS, crop=crop, steps=2))
    assert inputs.shape == (2 * 16, 1, shown, shown)


def two_kinds_of_images() -> TrainingData:
    """Training images dark to the left and bright to the right, validation images all 7."""
    ramps = torch.arange(0, 80, 10, dtype=torch.uint8).view(1, 1, 8, 1).expand(16, 8, 8, 1)
    images = DataSet("ramps", ("a", "b"), Images(ramps.numpy(), np.arange(16) % 2), fingerprint="")
    prepared = TrainingData.prepare(images, DataSettings(), CPU)
    return dataclasses.replace(prepared, validation_pixels=torch.full_like(prepared.validation_pixels, 7))


def test_training_is_shown_no_validation_images() -> None:
    data = two_kinds_of_images()
    inputs = shown_in_training(data, SETTINGS)
    assert not torch.isin(inputs, data.normalise(data.validation_pixels)).any()
    assert torch.isin(inputs, data.normalise(data.pixels)).all()


@pytest.mark.parametrize(("flip", "kinds"), [(True, {-1.0, 1.0}), (False, {1.0})])
def test_images_are_mirrored_if_wanted(flip: bool, kinds: set[float]) -> None:
    inputs = shown_in_training(two_kinds_of_images(), dataclasses.replace(SETTINGS, flip=flip))
    assert set((inputs[:, 0, 0, -1] - inputs[:, 0, 0, 0]).sign().tolist()) == kinds


# Fitness


def test_an_evaluation_has_an_accuracy_for_each_seed_and_their_mean(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len(data.validation_labels)
    assert count % 4 == 0
    found = iter([ValidationScores(count * fourths // 4, torch.zeros(count, 10)) for fourths in (2, 1, 3, 1)])
    monkeypatch.setattr(PlainTraining, "validate", lambda self, beat, averaged: next(found))
    evaluation = fitness(data, (1, 2, 3, 4), dataclasses.replace(SETTINGS, steps=1))
    assert evaluation.accuracies == (0.5, 0.25, 0.75, 0.25)
    assert evaluation.fitness == 0.4375


def test_an_evaluation_counts_the_parameters_of_its_network(data: TrainingData) -> None:
    parameters = sum(parameter.numel() for parameter in trained(data, 7).network.parameters())
    assert fitness(data, (7,)).parameters == parameters == sizes.size(expand(GENOTYPE), SKELETON).parameters


def test_the_end_of_every_replicate_is_told(data: TrainingData) -> None:
    told: list[int] = []
    FitnessInProgress(GENOTYPE, (7, 8, 9), SKELETON, data, SETTINGS, PlainTraining).run(nothing, lambda: told.append(1))
    assert len(told) == 3


def test_seconds_are_put_down_to_what_they_were_spent_on(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 101.0, 103.0, 107.0, 115.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    clock = Stopwatch()
    for name in ("setup", "training", "setup", "validation"):
        clock.lap(name)
    assert clock.seconds == {"setup": 1.0 + 4.0, "training": 2.0, "validation": 8.0}
