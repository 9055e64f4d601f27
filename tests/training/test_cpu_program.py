"""The compiled plan computes what the plain network computes: outputs, gradients, statistics, updates."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from hpcnas import seeds
from hpcnas.architecture import mutation
from hpcnas.architecture.expansion import InvalidGenotype, expand
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.architecture.space import FLAT, HIERARCHICAL, Space
from hpcnas.config.search import DataSettings, TrainingSettings
from hpcnas.data.datasets import load_training
from hpcnas.training.cpu import kernels
from hpcnas.training.cpu.compiled import CompiledTraining, CompiledTrainings, on_threads
from hpcnas.training.cpu.parameters import CpuPlan
from hpcnas.training.cpu.program import CpuProgram
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.method import LossNotFinite, TrainingData
from hpcnas.training.network import Network
from hpcnas.training.plain import PlainTraining

CLOSE = 1e-9  # relative, in float64


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def loaded(number: str, vector_bytes: int) -> kernels.Kernels:
    """Kernels with vectors of just that width, or this test is skipped where the machine has no such vectors."""
    size = np.dtype(number).itemsize
    found = kernels.load(number, vector_bytes // size)
    if found.lanes * size != vector_bytes:
        pytest.skip(f"the vectors here are {found.lanes * size} bytes wide")
    return found


@pytest.fixture(params=[32, 64], ids=lambda width: f"{width} bytes")
def exact(request: pytest.FixtureRequest) -> kernels.Kernels:
    """Kernels in float64 for one width of vectors after the other."""
    return loaded("float64", request.param)


def flat(text: str, nodes: int) -> Genotype:
    """A flat genotype from edges as in the text form."""
    edges = ", ".join(f'"{edge}"' for edge in text.split(", "))
    return Genotype.from_text(f'format = "hpcnas genotype 1"\nspace = "1x{nodes}"\n[level-2]\nM1 = [{edges}]\n')


def pair(genotype: Genotype, skeleton: Skeleton, functions: kernels.Kernels, seed: int = 0) -> tuple[Network, CpuPlan]:
    """The plain network, with weights that are nothing special, and a plan with the same ones."""
    graph = expand(genotype)
    generator = torch.Generator().manual_seed(seed)
    network = Network(graph, skeleton).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            parameter += parameter.ndim == 1
    plan = CpuPlan(graph, skeleton, functions)
    plan.load_state_dict(network.state_dict())
    return network, plan


def batch(skeleton: Skeleton, count: int, height: int, width: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, skeleton.image_channels, height, width)
    images = torch.randn(shape, generator=generator, dtype=torch.float64)
    return images, torch.randint(skeleton.classes, (count,), generator=generator)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    largest = float(theirs.abs().max())
    assert float((ours - theirs).abs().max()) <= CLOSE * max(largest, 1e-6)


def assert_same_function(
    genotype: Genotype,
    skeleton: Skeleton,
    functions: kernels.Kernels,
    seed: int = 0,
    size: tuple[int, int] = (7, 6),
    weights: torch.Tensor | None = None,
) -> None:
    """Loss, every gradient, the running statistics, and the scores in evaluation mode."""
    network, plan = pair(genotype, skeleton, functions, seed)
    images, labels = batch(skeleton, 3, *size, seed)
    loss = functional.cross_entropy(network(images), labels, weights, reduction="none").mean()
    loss.backward()
    program = CpuProgram(plan, 3, *size, training=True, class_weights=weights)
    assert program.learn(images, labels) == pytest.approx(loss.item(), rel=CLOSE)
    ours = plan.gradient_dict()
    theirs = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert set(ours) == set(theirs)
    scale = max(float(gradient.abs().max()) for gradient in theirs.values())
    for name, gradient in theirs.items():
        assert ours[name].shape == gradient.shape
        assert float((ours[name] - gradient).abs().max()) <= CLOSE * scale, name
    statistics = plan.state_dict()
    for name, value in network.state_dict().items():
        if "running" in name:
            assert_close(statistics[name], value)
    evaluation = CpuProgram(plan, 4, 8, 9, training=False)
    images, _ = batch(skeleton, 4, 8, 9, seed + 1)
    with torch.no_grad():
        assert_close(evaluation.classify(images), network.eval()(images))


@pytest.mark.parametrize("space", [HIERARCHICAL, FLAT, Space.parse("3x3/2x3/1x4")], ids=str)
def test_random_genotypes(space: Space, exact: kernels.Kernels) -> None:
    """35 a space, of each 1 or 3 image channels and channel counts around the width of a vector."""
    tried, number = 0, 0
    while tried < 35:
        genotype = mutation.diversified(space, 300, seeds.birth_generator(5, number))
        number += 1
        try:
            expand(genotype)
        except InvalidGenotype:
            continue
        channels = (1, 3, 4, 8, 9)[number % 5] if space != FLAT else (1, 2, 3)[number % 3]
        skeleton = Skeleton((1, 3)[number % 2], 8, 8, 5, channels, (1, 1))
        assert_same_function(genotype, skeleton, exact, seed=number)
        tried += 1


@pytest.mark.parametrize("cells", [1, 2])
def test_the_papers_cell(cells: int, exact: kernels.Kernels) -> None:
    assert_same_function(named("paper"), Skeleton(3, 32, 32, 10, 16, (cells,) * 3), exact)


@pytest.mark.parametrize(
    "edges",
    [
        "1-2 id",
        "1-2 id, 2-3 id, 3-4 id",  # maps that are one and the same
        "1-2 max, 1-3 max, 2-4 id, 3-4 id",  # one pooling, used twice
        "1-2 avg, 1-3 avg, 1-4 avg, 2-4 max, 3-4 max",  # and its copies pooled again
        "1-2 id, 2-3 max, 1-3 max, 3-4 dw",  # equal poolings through an identity
        "1-2 max, 1-4 max, 2-4 id",  # a copy of a slice into the sink
        "1-4 1x1, 1-3 dw, 3-4 sep",
        "1-2 dw, 1-3 1x1, 2-3 id, 2-4 1x1, 3-4 dw",  # a normalised map in two nodes
    ],
)
def test_what_the_plan_folds(edges: str, exact: kernels.Kernels) -> None:
    nodes = max(int(edge.split()[0].split("-")[1]) for edge in edges.split(", "))
    assert_same_function(flat(edges, nodes), Skeleton(3, 8, 8, 4, 8, (1, 1)), exact)


@pytest.mark.parametrize("size", [(1, 1), (2, 17), (9, 8), (25, 3)], ids=lambda size: "{}x{}".format(*size))
def test_images_of_other_sizes(size: tuple[int, int], exact: kernels.Kernels) -> None:
    """Rows longer than the eight pixels that share a vector of winners; more classes than lanes."""
    genotype = flat("1-2 max, 1-3 avg, 2-3 dw, 1-4 1x1, 2-4 sep, 3-4 max", 4)
    assert_same_function(genotype, Skeleton(3, 8, 8, 21, 8, (1, 1)), exact, size=size)


@pytest.mark.parametrize(("number", "close"), [("float32", 1e-4), ("float64", CLOSE)])
@pytest.mark.parametrize("vector_bytes", [32, 64])
@pytest.mark.parametrize("channels", [4, 8, 16])
def test_vectors_of_every_width(number: str, close: float, vector_bytes: int, channels: int) -> None:
    functions = loaded(number, vector_bytes)
    skeleton = Skeleton(3, 8, 8, 5, channels, (1, 1))
    network, plan = pair(named("paper"), skeleton, functions)
    images, labels = batch(skeleton, 6, 9, 7)
    functional.cross_entropy(network(images), labels).backward()
    real = torch.float32 if number == "float32" else torch.float64
    CpuProgram(plan, 6, 9, 7, training=True).learn(images.to(real), labels)
    ours = plan.gradient_dict()
    theirs = {name: parameter.grad for name, parameter in network.named_parameters()}
    scale = max(float(gradient.abs().max()) for gradient in theirs.values())
    for name, gradient in theirs.items():
        assert float((ours[name] - gradient).abs().max()) <= close * scale, name


def test_classes_count_by_their_weights(exact: kernels.Kernels) -> None:
    weights = torch.linspace(0.0, 3.0, 10, dtype=torch.float64)
    assert_same_function(flat("1-2 sep", 2), Skeleton(1, 8, 9, 10, 4, (1,)), exact, weights=weights)


def test_what_fills_up_blocks_stays_zero(exact: kernels.Kernels) -> None:
    """Three channels in blocks of four or eight, over several updates."""
    skeleton = Skeleton(3, 8, 8, 5, 3, (1, 1))
    _, plan = pair(named("paper"), skeleton, exact)
    program = CpuProgram(plan, 4, 8, 8, training=True)
    for step in range(3):
        program.learn(*batch(skeleton, 4, 8, 8, seed=step))
        plan.update(0.1, 0.9, 3e-4)
    shares = [np.count_nonzero(array) / array.size for array in (plan.parameters, plan.velocity)]
    numbers = sum(value.numel() for value in plan.gradient_dict().values())
    assert shares == [numbers / plan.parameters.size] * 2
    assert (numbers, plan.parameters.size) == (9164, {4: 14024, 8: 20568}[exact.lanes])


def test_gradients_take_each_others_place(exact: kernels.Kernels) -> None:
    skeleton = Skeleton(3, 8, 8, 4, exact.lanes, (1,))  # one block a map
    plan = pair(flat("1-2 max, 2-3 max, 3-4 max, 4-5 max", 5), skeleton, exact)[1]
    blocks = CpuProgram(plan, 2, 8, 8, training=True)._tables["blocks"]
    assert len(blocks) == len(set(blocks["map"])) == 6  # of stem, four poolings, reduction
    assert len(set(blocks["d_map"])) == 2


def test_equal_poolings_are_computed_once(exact: kernels.Kernels) -> None:
    plan = pair(flat("1-2 max, 1-3 max, 1-4 max, 2-4 id, 3-4 id", 4), Skeleton(3, 8, 8, 4, 4, (1,)), exact)[1]
    steps = CpuProgram(plan, 2, 8, 8, training=True)._steps["kind"]
    assert [kernels.KINDS[kind] for kind in steps].count("maximum") == 1


def test_several_updates_are_those_of_torchs_sgd(exact: kernels.Kernels) -> None:
    skeleton = Skeleton(3, 8, 8, 5, 4, (1, 1, 1))
    network, plan = pair(named("paper"), skeleton, exact)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=3e-4)
    program = CpuProgram(plan, 5, 8, 8, training=True)
    for step in range(4):
        images, labels = batch(skeleton, 5, 8, 8, seed=step)
        optimiser.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimiser.step()
        program.learn(images, labels)
        plan.update(0.05, 0.9, 3e-4)
    ours = plan.state_dict()
    for name, value in network.state_dict().items():
        if "num_batches" not in name:
            assert float((ours[name] - value).abs().max()) < 1e-6, name  # four steps let rounding grow


def test_a_trained_plan_is_a_state_dict_of_the_plain_network(exact: kernels.Kernels) -> None:
    skeleton = Skeleton(1, 8, 8, 5, 4, (1, 1))
    _, plan = pair(named("paper"), skeleton, exact)
    program = CpuProgram(plan, 5, 8, 8, training=True)
    images, labels = batch(skeleton, 5, 8, 8)
    program.learn(images, labels)
    plan.update(0.1, 0.9, 3e-4)
    network = Network(expand(named("paper")), skeleton).double()
    missing = network.load_state_dict(plan.state_dict(), strict=False).missing_keys
    assert all(name.endswith("num_batches_tracked") for name in missing)
    with torch.no_grad():
        ours = CpuProgram(plan, 5, 8, 8, training=False).classify(images)
        assert_close(ours, network.eval()(images))


def test_a_loss_that_is_not_a_number_shows(exact: kernels.Kernels) -> None:
    skeleton = Skeleton(3, 8, 8, 4, 8, (1, 1))
    _, plan = pair(named("paper"), skeleton, exact)
    program = CpuProgram(plan, 2, 8, 8, training=True)
    images, labels = batch(skeleton, 2, 8, 8)
    images[0, 0, 0, 0] = float("nan")
    assert np.isnan(program.learn(images, labels))


# As a training

SETTINGS = TrainingSettings(replicates=1, steps=6, batch_size=16, learning_rate=0.05)


@pytest.fixture(params=[32, 64], ids=lambda width: f"{width} bytes")
def small(request: pytest.FixtureRequest) -> Skeleton:
    """A network whose trainings have vectors of that width."""
    return Skeleton(1, 8, 8, 10, loaded("float32", request.param).lanes, (1, 1, 1))


@pytest.fixture(scope="module")
def digits() -> TrainingData:
    return TrainingData.prepare(load_training("digits"), DataSettings(), torch.device("cpu"))


def test_it_starts_and_learns_as_the_plain_training_does(digits: TrainingData, small: Skeleton) -> None:
    plain = PlainTraining(named("paper"), small, digits, SETTINGS, seed=3)
    ours = CompiledTraining(named("paper"), small, digits, SETTINGS, seed=3)
    first = (float(plain.make_step()), float(ours.make_step()))
    assert first[0] == pytest.approx(first[1], rel=1e-4)
    second = (float(plain.make_step()), float(ours.make_step()))
    assert second[0] == pytest.approx(second[1], rel=1e-2)


def test_a_resumed_planned_training_is_bit_identical(digits: TrainingData, small: Skeleton) -> None:
    def done(cut: int | None) -> dict[str, torch.Tensor]:
        training = CompiledTraining(named("paper"), small, digits, SETTINGS, seed=3)
        if cut is not None:
            for _ in range(cut):
                training.make_step()
            state = training.state()
            training = CompiledTraining(named("paper"), small, digits, SETTINGS, seed=3)
            training.resume(state)
        training.run(lambda: None)
        assert 0.0 <= training.validate(lambda: None).accuracy <= 1.0
        return training.export()

    whole, cut = done(None), done(3)
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_validation_counts_what_the_exported_network_gets_right(digits: TrainingData, small: Skeleton) -> None:
    training = CompiledTraining(named("paper"), small, digits, SETTINGS, seed=3)
    training.run(lambda: None)
    network = Network(expand(named("paper")), small)
    network.load_state_dict(training.export(), strict=False)
    with torch.no_grad():
        scores = network.eval()(digits.normalise(digits.validation_pixels))
    right = float((scores.argmax(1) == digits.validation_labels).float().mean())
    assert training.validate(lambda: None).accuracy == pytest.approx(right, abs=1.5 / len(digits.validation_labels))


def test_a_state_of_the_other_kind_is_refused(digits: TrainingData, small: Skeleton) -> None:
    kinds = (PlainTraining, CompiledTraining)
    plain, ours = (FitnessInProgress(named("paper"), (3,), small, digits, SETTINGS, kind) for kind in kinds)
    with pytest.raises(ValueError, match="expected the state of"):
        ours.resume(plain.state())


def test_a_state_of_other_vectors_is_refused(digits: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    """On nodes of different processors a plan's arrays are of different lengths."""
    skeleton = Skeleton(1, 8, 8, 10, 16, (1, 1, 1))
    wide, narrow = loaded("float32", 64), loaded("float32", 32)
    for method in (CompiledTraining, on_threads(2)):
        states = []
        for functions in (wide, narrow):
            monkeypatch.setattr(kernels, "load", lambda *_, functions=functions: functions)
            fitness = FitnessInProgress(named("paper"), (3,), skeleton, digits, SETTINGS, method)
            states.append(fitness.state())
        with pytest.raises(ValueError, match="expected the state of"):
            fitness.resume(states[0])
        fitness.resume(states[1])


# ── side by side, a thread each ─────────────────────────────────────────────────────────────────────────────────────
SEEDS = (3, 4, 5)


def beside(
    digits: TrainingData, small: Skeleton, threads: int, settings: TrainingSettings = SETTINGS
) -> FitnessInProgress:
    return FitnessInProgress(named("paper"), SEEDS, small, digits, settings, on_threads(threads))


def nothing() -> None:
    """Called back where a test does not care."""


def test_threads_change_no_bit(digits: TrainingData, small: Skeleton) -> None:
    found = CompiledTrainings.of(named("paper"), small, digits, SETTINGS, SEEDS)
    found.run(nothing)
    for seed, ours in zip(SEEDS, found._all, strict=True):
        alone = CompiledTraining(named("paper"), small, digits, SETTINGS, seed)
        alone.run(nothing)
        theirs = alone.export()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.export().items())
    assert found.accuracies(nothing) == tuple(one.validate(nothing).accuracy for one in found._all)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("threads", [2, 5])
def test_a_fitness_is_the_same_on_any_number_of_threads(threads: int, digits: TrainingData, small: Skeleton) -> None:
    """Two rounds of threads, and more threads than there are replicates."""
    alone, several = (beside(digits, small, number).run(nothing, nothing) for number in (1, threads))
    assert (several.accuracies, several.parameters) == (alone.accuracies, alone.parameters)


def test_they_go_on_from_a_state_on_another_number_of_threads(digits: TrainingData, small: Skeleton) -> None:
    class Left(Exception):
        pass

    begun, beats = beside(digits, small, 2), iter(range(100))

    def leave() -> None:
        if next(beats) == 3:
            raise Left

    with pytest.raises(Left):
        begun.run(leave, nothing)
    state = begun.state()
    resumed = beside(digits, small, 3)
    resumed.resume(state)
    assert resumed._running == 2
    assert resumed.run(nothing, nothing).accuracies == beside(digits, small, 1).run(nothing, nothing).accuracies


def test_leaving_while_threads_validate_does_not_wait_for_them(digits: TrainingData, small: Skeleton) -> None:
    found = CompiledTrainings.of(named("paper"), small, digits, dataclasses.replace(SETTINGS, steps=1), SEEDS)
    found.run(nothing)
    began = threading.Event()

    def validate(beat: Callable[[], None], averaged: bool) -> float:
        while True:  # until nobody wants it
            began.set()
            beat()

    def leave() -> None:
        assert began.wait(60.0)
        raise SystemExit(0)

    for one in found._all:
        one.validate = validate  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        found.accuracies(leave)
    found._pool.shutdown(wait=True)


def test_a_loss_that_is_not_finite_ends_all(digits: TrainingData, small: Skeleton) -> None:
    settings = dataclasses.replace(SETTINGS, learning_rate=9e18, steps=4)
    with pytest.raises(LossNotFinite, match="by step 4 of 4"):
        beside(digits, small, 2, settings).run(nothing, nothing)
