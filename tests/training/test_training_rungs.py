"""Validation at rungs: on the average of the weights, without a trace in the training; where trainings end there, and
how they go on from any moment. On the CPU; `test_stacked` has the same of the way on a GPU."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from test_cpu_program import flat

from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.search import DataSettings, TrainingSettings
from hpcnas.data.datasets import load_training
from hpcnas.messages import Evaluation, Stopped, mean_curve
from hpcnas.training import averaging, probing
from hpcnas.training.cpu.compiled import CompiledTraining, on_threads
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.method import LossNotFinite, TrainingData, Trainings, ValidationScores
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


def test_a_loss_that_is_not_finite_shows_at_a_rung(way: type[Trainings], data: TrainingData) -> None:
    """What is validated there had a finite loss, however seldom it is looked at otherwise."""
    endless = dataclasses.replace(RUNGS, learning_rate=9e18)
    with pytest.raises(LossNotFinite, match="by step 6 of 14"):
        fitness(way, data, settings=endless).run(nothing, nothing)


# ── a fitness with real trainings ───────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def whole(way: type[Trainings], data: TrainingData) -> Evaluation:
    """A fitness with rungs and without floors."""
    found = fitness(way, data).run(nothing, nothing)
    assert isinstance(found, Evaluation)
    return found


def outcome(found: Evaluation | Stopped) -> tuple[object, ...]:
    """An outcome but for its seconds."""
    if isinstance(found, Evaluation):
        return found.accuracies, found.parameters, found.curves, found.judged
    return found.curves, found.parameters


def test_curves_are_what_rungs_find_and_the_fitness_is_as_without(
    way: type[Trainings], data: TrainingData, whole: Evaluation
) -> None:
    plain = fitness(way, data, settings=PLAIN).run(nothing, nothing)
    assert isinstance(plain, Evaluation) and plain.curves == ()
    assert (whole.accuracies, whole.parameters, whole.judged) == (plain.accuracies, plain.parameters, 0)
    ours, first = begun(way, data), way.side_by_side
    for rung, step in enumerate(AT):
        ours.run(nothing, until=step)
        assert tuple(curve[rung] for curve in whole.curves[:first]) == ours.accuracies(nothing, averaged=True)
    assert [len(curve) for curve in whole.curves] == [2, 2, 2]
    assert len({*whole.curves}) == 3  # else the order of seeds shows nothing


def test_a_training_below_a_floor_ends_there(way: type[Trainings], data: TrainingData, whole: Evaluation) -> None:
    """At the mean accuracy itself it goes on; a hair above, it ends."""
    curves = whole.curves[: way.side_by_side]
    first, second = mean_curve(curves)
    assert outcome(fitness(way, data, (math.nextafter(first, 1), second)).run(nothing, nothing)) == (
        tuple(curve[:1] for curve in curves),
        whole.parameters,
    )
    stopped = fitness(way, data, (first, math.nextafter(second, 1))).run(nothing, nothing)
    assert isinstance(stopped, Stopped) and outcome(stopped) == (curves, whole.parameters)
    assert stopped.setup_seconds > 0 and stopped.training_seconds > 0 and stopped.validation_seconds > 0
    for floors in ((first, second), (BELOW_ANY, second), (BELOW_ANY, BELOW_ANY)):
        found = fitness(way, data, floors).run(nothing, nothing)
        assert outcome(found) == (whole.accuracies, whole.parameters, whole.curves, len(curves))


def test_the_trial_of_a_way_has_its_rungs_too(way: type[Trainings], data: TrainingData) -> None:
    """Of three steps, by which several rungs come to be at one of them, and the last at the end."""
    short = probing._short(dataclasses.replace(RUNGS, rungs=(0.1, 0.3, 0.9)), torch.device("cpu"))
    assert short.rung_steps == (1, 1, 3)
    found = fitness(way, data, settings=short).run(nothing, nothing)
    assert isinstance(found, Evaluation) and [(curve[0] == curve[1], len(curve)) for curve in found.curves] == [
        (True, 3)
    ] * 3


class Interrupted(Exception):
    """What a test ends a fitness with."""


def cut(work: FitnessInProgress, after: int) -> bool:
    """Runs it up to the call back of that number, after a step, in validation or after replicates; False where it has
    ended before."""
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise Interrupted

    try:
        work.run(call, call)
    except Interrupted:
        return True
    return False


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """The state as a new process would read it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    found: dict[str, Any] = torch.load(file, weights_only=True)
    return found


@pytest.mark.parametrize(("way", "every"), [(PlainTraining, 4), (CompiledTraining, 1)], ids=("plain", "compiled"))
def test_a_fitness_goes_on_from_any_moment(
    way: type[Trainings], every: int, data: TrainingData, whole: Evaluation
) -> None:
    """14 steps a replicate; two call backs at each rung and at the end, for two batches; and one after a replicate."""
    floors, moments = mean_curve(whole.curves[:1]), 3 * (14 + 2 * 3 + 1)
    expected = outcome(fitness(way, data, floors).run(nothing, nothing))
    for moment in range(1, moments + 1, every):
        assert cut(first := fitness(way, data, floors), moment)
        resumed = fitness(way, data, floors)
        resumed.resume(through_a_file(first.state()))
        assert outcome(resumed.run(nothing, nothing)) == expected, moment
    assert not cut(fitness(way, data, floors), moments + 1)


@pytest.mark.parametrize("way", [PlainTraining, CompiledTraining], ids=("plain", "compiled"))
def test_what_will_be_stopped_is_stopped_from_any_moment(
    way: type[Trainings], data: TrainingData, whole: Evaluation
) -> None:
    floors, moment = (BELOW_ANY, math.nextafter(whole.curves[0][1], 1)), 0
    while cut(first := fitness(way, data, floors), moment := moment + 1):
        resumed = fitness(way, data, floors)
        resumed.resume(through_a_file(first.state()))
        assert outcome(resumed.run(nothing, nothing)) == (whole.curves[:1], whole.parameters), moment
    assert moment == AT[-1] + 2 * 2 + 1


def test_threads_go_on_from_every_step_around_a_rung(data: TrainingData) -> None:
    """While threads validate, call backs come as time passes: here one after every step, and none else."""
    way = on_threads(2)
    whole = fitness(way, data).run(nothing, nothing)
    for step in range(AT[0] - 1, AT[1] + 2):
        first = fitness(way, data)

        def leave(first: FitnessInProgress = first, step: int = step) -> None:
            assert first._trainings is not None
            if first._trainings.step == step:
                raise Interrupted

        with pytest.raises(Interrupted):
            first.run(leave, nothing)
        resumed = fitness(way, data)
        resumed.resume(through_a_file(first.state()))
        assert outcome(resumed.run(nothing, nothing)) == outcome(whole)


# ── a fitness with trainings by the book ────────────────────────────────────────────────────────────────────────────
BOOK = {  # by seed, the accuracies at the two rungs and at the end
    1: (0.25, 0.5, 0.75),
    2: (0.5, 0.25, 0.5),
    3: (0.0, 0.0, 0.125),
    4: (0.125, 0.125, 0.25),
}


class Scripted(Trainings):
    """Trainings that learn as it is written, two at a time."""

    stored_name = "Scripted"
    side_by_side: ClassVar[int] = 2
    groups: ClassVar[list[tuple[int, ...]]] = []  # of seeds, that were begun
    fails: ClassVar[Callable[[Scripted], bool]] = lambda self: False  # whether the device refuses what comes next

    def __init__(self, seeds: tuple[int, ...]) -> None:
        self.seeds = seeds
        self.step = 0

    @classmethod
    def of(cls, genotype: Any, skeleton: Any, data: Any, settings: Any, seeds: tuple[int, ...]) -> Scripted:
        cls.groups.append(seeds)
        return cls(seeds)

    def run(self, beat: Callable[[], None], until: int | None = None) -> None:
        self.step = RUNGS.steps if until is None else until
        if type(self).fails(self):
            raise torch.OutOfMemoryError("CUDA out of memory")
        beat()

    def validated(self, beat: Callable[[], None], averaged: bool = False) -> tuple[ValidationScores, ...]:
        assert averaged == (self.step < RUNGS.steps)
        beat()
        accuracies = [BOOK[seed][(*AT, RUNGS.steps).index(self.step)] for seed in self.seeds]
        return tuple(ValidationScores(round(288 * one), torch.zeros(288, 10)) for one in accuracies)

    def export(self, number: int = 0) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        return {"step": self.step}

    def resume(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


@pytest.fixture
def scripted(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FitnessInProgress]:
    """Makes a fitness of four such trainings."""
    monkeypatch.setattr(Scripted, "groups", [])

    def made(*floors: float) -> FitnessInProgress:
        return FitnessInProgress(GENOTYPE, (1, 2, 3, 4), SKELETON, data, RUNGS, Scripted, floors)

    return made


CURVES = tuple(BOOK[seed][:2] for seed in (1, 2, 3, 4))
ENDS = tuple(BOOK[seed][2] for seed in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("floors", "reached"),
    [
        ((0.376, BELOW_ANY), ((0.25,), (0.5,))),
        ((0.375, 0.376), ((0.25, 0.5), (0.5, 0.25))),
        ((BELOW_ANY, 0.376), ((0.25, 0.5), (0.5, 0.25))),
        ((math.inf, math.inf), ((0.25,), (0.5,))),
    ],
)
def test_those_that_begin_a_fitness_are_stopped_by_their_mean(
    scripted: Callable[..., FitnessInProgress], floors: tuple[float, ...], reached: tuple[tuple[float, ...], ...]
) -> None:
    """0.375 at either rung: not one by one, of which the second is below at the last."""
    found = scripted(*floors).run(nothing, nothing)
    assert isinstance(found, Stopped) and found.curves == reached and Scripted.groups == [(1, 2)]


@pytest.mark.parametrize("floors", [(0.375, 0.375), (0.3, BELOW_ANY), (BELOW_ANY, BELOW_ANY)])
def test_later_ones_are_never_stopped(scripted: Callable[..., FitnessInProgress], floors: tuple[float, ...]) -> None:
    found = scripted(*floors).run(nothing, nothing)
    assert isinstance(found, Evaluation) and Scripted.groups == [(1, 2), (3, 4)]
    assert (found.accuracies, found.curves, found.judged) == (ENDS, CURVES, 2)


def test_without_floors_none_is_judged(scripted: Callable[..., FitnessInProgress]) -> None:
    found = scripted().run(nothing, nothing)
    assert isinstance(found, Evaluation) and (found.curves, found.judged) == (CURVES, 0)


@pytest.mark.parametrize("moment", range(1, 15))
def test_a_resumed_fitness_knows_what_its_curves_were(
    scripted: Callable[..., FitnessInProgress], moment: int
) -> None:
    """Six call backs for two trainings, and one after them."""
    first = scripted(0.3, 0.3)
    assert cut(first, moment)
    state = through_a_file(first.state())
    Scripted.groups.clear()
    resumed = scripted(0.3, 0.3)
    resumed.resume(state)
    assert outcome(resumed.run(nothing, nothing)) == (ENDS, resumed._costs()[0], CURVES, 2)
    assert Scripted.groups == ([(1, 2), (3, 4)] if moment < 7 else [(3, 4)] if moment < 14 else [])


def at_the_second_rung(ours: Scripted) -> bool:
    return ours.step == AT[1] and len(ours.seeds) > 1


def test_what_has_no_memory_half_way_begins_anew_with_half_as_many(
    scripted: Callable[..., FitnessInProgress], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the first alone is held against the floors, by which it goes on, and two together had gone on too."""
    monkeypatch.setattr(Scripted, "fails", at_the_second_rung)
    found = scripted(0.25, 0.5).run(nothing, nothing)
    assert Scripted.groups == [(1, 2), (1,), (2,), (3,), (4,)]
    assert isinstance(found, Evaluation) and (found.accuracies, found.curves, found.judged) == (ENDS, CURVES, 1)


def test_and_then_the_first_alone_is_stopped(
    scripted: Callable[..., FitnessInProgress], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scripted, "fails", at_the_second_rung)
    found = scripted(0.3, BELOW_ANY).run(nothing, nothing)
    assert Scripted.groups == [(1, 2), (1,)]
    assert isinstance(found, Stopped) and found.curves == ((0.25,),)


def test_later_ones_without_memory_leave_the_first_as_they_were(
    scripted: Callable[..., FitnessInProgress], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scripted, "fails", lambda ours: at_the_second_rung(ours) and ours.seeds[0] == 3)
    found = scripted(0.3, 0.3).run(nothing, nothing)
    assert Scripted.groups == [(1, 2), (3, 4), (3,), (4,)]
    assert isinstance(found, Evaluation) and (found.accuracies, found.curves, found.judged) == (ENDS, CURVES, 2)


def test_a_saved_state_that_has_no_memory_here_begins_anew_with_its_curves(
    scripted: Callable[..., FitnessInProgress], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scripted(0.25, 0.5)
    assert cut(first, 3)  # after the first rung
    resumed = scripted(0.25, 0.5)
    resumed.resume(first.state())
    assert resumed._reached == [(0.25, 0.5)]
    monkeypatch.setattr(Scripted, "fails", at_the_second_rung)
    found = resumed.run(nothing, nothing)
    assert isinstance(found, Evaluation) and (found.accuracies, found.curves, found.judged) == (ENDS, CURVES, 1)
