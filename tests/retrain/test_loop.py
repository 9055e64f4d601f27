"""One training of a found network: the same on any number of ranks, continued exactly, and each of its parts at work.

Ranks are threads here (`rank_threads`), numbers are float64, so that a difference of arithmetic is not taken for noise.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from rank_threads import ThreadGroup, on_ranks
from test_expansion import build
from torch import Tensor, nn

from hpcnas.analysis import prediction
from hpcnas.architecture.expansion import expand
from hpcnas.config.data_spec import DataError, ImageFacts
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.retrain import regularisation
from hpcnas.retrain.batch_statistics import synchronised
from hpcnas.retrain.feed import Batch, PlacedBatch, Resident, never
from hpcnas.retrain.loop import DistributedTraining, numbers
from hpcnas.retrain.rates import learning_rate
from hpcnas.retrain.scoring import ImagesMissing, TooManyBroken
from hpcnas.training.method import LossNotFinite
from hpcnas.training.network import Network

torch.set_num_threads(1)

GRAPH = expand(build("1x4", ["1-2 sep, 2-3 max, 1-3 dw, 3-4 1x1, 1-4 id"]))
STEPS = 6
_building = threading.Lock()  # initial weights are drawn from the process's generator


def recipe(**training: object) -> RetrainingConfig:
    settings: dict[str, dict[str, Any]] = {
        "network": {"channels": 4, "cells": (1, 1)},
        "training": {"steps": STEPS, "batch_size": 16, "micro_batch": 4, "precision": "fp64", **training},
        "augmentation": {"cutout": 2, "flip": True, "crop": 0.75},
        "data": {"source": "synthetic:50:3x8x8"},
        "run": {"history_every": 2},
    }
    return SCHEME.build(settings)


def made(settings: RetrainingConfig, group: ThreadGroup, recomputed: bool = False) -> DistributedTraining:
    feed = Resident(settings, group.rank, group.size, torch.device("cpu"))
    skeleton = settings.skeleton(ImageFacts(3, 8, 8, 10))
    with _building:
        silent = _Silent(group)
        parts = (GRAPH, skeleton, settings, 5, feed, silent, torch.device("cpu"), pytest.fail, recomputed)
        training = DistributedTraining(*parts)  # type: ignore[arg-type]
    group.gather(None)  # what is drawn from the process's generator is drawn when all are built
    silent.copy_from_first = group.copy_from_first  # type: ignore[method-assign]
    return training


class _Silent:
    """The group, but that nothing is exchanged yet: ranks are built one after another."""

    def __init__(self, group: ThreadGroup) -> None:
        self._group = group

    def __getattr__(self, name: str) -> object:
        return getattr(self._group, name)

    def copy_from_first(self, tensors: list[Tensor]) -> None:
        pass


def run(training: DistributedTraining, until: int = STEPS) -> bool:
    return training.run(
        leave=lambda: training.step + 1 >= until and until < STEPS,
        save_due=lambda: False,
        save=lambda: None,
        made_step=lambda: None,
    )


def trained(ranks: int, settings: RetrainingConfig) -> tuple[DistributedTraining, dict[str, Tensor]]:
    """Rank 0's training to the end, after all ranks were compared, and its weights."""

    def work(group: ThreadGroup) -> DistributedTraining:
        training = made(settings, group)
        assert run(training)
        return training

    found = on_ranks(ranks, work)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0]._tensors(), other._tensors(), strict=True))
    return found[0], found[0].weights()


def continued(settings: RetrainingConfig) -> dict[str, Tensor]:
    """The weights of a training by one rank that leaves after three steps, and goes on from its state."""

    def work(group: ThreadGroup) -> dict[str, Tensor]:
        begun, other = made(settings, group), made(settings, group)
        run(begun, until=3)
        other.resume(copy.deepcopy(begun.state()))
        assert run(other)
        return other.weights()

    return on_ranks(1, work)[0]


def assert_close(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-9, atol=1e-12, msg=name)


REGULARISED = {"drop_path": 0.4, "auxiliary_weight": 0.4, "label_smoothing": 0.1, "weight_averaging": 0.9}


@pytest.mark.parametrize(
    ("parts", "ranks"),
    [
        pytest.param({}, (2, 3, 4), id="plain"),  # of three ranks, one has 6 images of 16, the others have 5
        pytest.param({"micro_batch": 5}, (3,), id="the last micro-batch has one image"),
        pytest.param(REGULARISED, (3,), id="regularised"),
        pytest.param({"batch_statistics": "micro-batch"}, (2, 3), id="micro-batch"),  # of three, one has two of four
        pytest.param({"batch_statistics": "micro-batch", **REGULARISED}, (3,), id="micro-batch, regularised"),
    ],
)
def test_any_number_of_ranks_computes_the_same(parts: dict[str, object], ranks: tuple[int, ...]) -> None:
    alone, weights = trained(1, recipe(**parts))
    for count in ranks:
        together, other = trained(count, recipe(**parts))
        assert_close(weights, other)
        for one, two in zip(alone.history, together.history, strict=True):
            assert (one.step, one.accuracy) == (two.step, two.accuracy)
            assert one.loss == pytest.approx(two.loss, rel=1e-11)
    assert alone.history[-1].loss != pytest.approx(alone.history[0].loss, rel=1e-3)  # something was learnt


def test_mixed_images_are_the_same_for_any_number_of_ranks_and_after_a_break() -> None:
    mixing = {"augmentation": {"mixup": 0.5}}
    settings = SCHEME.build(SCHEME.settings(recipe(label_smoothing=0.1, class_weights="balanced")), mixing)
    alone, weights = trained(1, settings)
    assert_close(weights, trained(3, settings)[1])
    assert_close(weights, continued(settings))
    assert all(0 <= row.accuracy <= 1 for row in alone.history)
    plain, _ = trained(1, recipe(label_smoothing=0.1, class_weights="balanced"))
    assert plain.history[0].loss != alone.history[0].loss


def test_rand_augment_of_resident_images_does_not_depend_on_ranks_or_micro_batches() -> None:
    drawn = {"augmentation": {"rand_augment": 2, "crop": 1.0, "flip": False, "cutout": 0}}
    settings = SCHEME.build(SCHEME.settings(recipe()), drawn)
    _, weights = trained(1, settings)
    assert_close(weights, trained(3, settings)[1])
    images = []
    for micro_batch in (4, 8):
        cut = SCHEME.build(SCHEME.settings(settings), {"training": {"micro_batch": micro_batch}})
        feed = Resident(cut, 0, 1, torch.device("cpu"))
        feed.begin(5, 1)
        parts = [feed.next(1, number, torch.Generator())[0] for number in range(16 // micro_batch)]
        images.append(torch.cat(parts))
    assert torch.equal(*images)


@pytest.mark.parametrize("parts", [{}, REGULARISED], ids=["plain", "regularised"])
def test_feature_maps_that_are_computed_again_change_no_bit(parts: dict[str, object]) -> None:
    def weights(recomputed: bool) -> dict[str, Tensor]:
        def work(group: ThreadGroup) -> dict[str, Tensor]:
            training = made(recipe(**parts), group, recomputed)
            assert run(training)
            return training.weights()

        return on_ranks(3, work)[0]

    kept, again = weights(False), weights(True)
    assert all(torch.equal(value, again[name]) for name, value in kept.items())


def test_statistics_of_the_whole_step_are_those_of_one_micro_batch_with_all_images() -> None:
    _, whole = trained(1, recipe(micro_batch=16))
    _, plain = trained(1, recipe(micro_batch=16, batch_statistics="micro-batch"))
    assert_close(whole, plain)
    # the order of images and their augmentation are drawn a micro-batch: compare one step without either
    bare = {"augmentation": {"cutout": 0, "flip": False, "crop": 1.0}}
    one = SCHEME.build(SCHEME.settings(recipe(micro_batch=16, steps=1)), bare)
    four = SCHEME.build(SCHEME.settings(recipe(micro_batch=4, steps=1)), bare)
    ghost = SCHEME.build(SCHEME.settings(recipe(micro_batch=4, steps=1, batch_statistics="micro-batch")), bare)

    def after_a_step(settings: RetrainingConfig, ranks: int) -> dict[str, Tensor]:
        def work(group: ThreadGroup) -> dict[str, Tensor]:
            training = made(settings, group)
            training.run(lambda: False, lambda: False, lambda: None, lambda: None)
            return training.weights()

        return on_ranks(ranks, work)[0]

    expected = after_a_step(one, 1)
    assert_close(expected, after_a_step(four, 4))
    with pytest.raises(AssertionError):
        assert_close(expected, after_a_step(ghost, 4))


def test_a_state_continues_exactly_on_another_number_of_ranks() -> None:
    settings = recipe(**REGULARISED)
    whole, weights = trained(1, settings)

    def first_part(group: ThreadGroup) -> dict[str, Any]:
        training = made(settings, group)
        assert not run(training, until=3)
        assert training.step == 3
        return copy.deepcopy(training.state())

    state = on_ranks(2, first_part)[0]

    def second_part(group: ThreadGroup) -> DistributedTraining:
        training = made(settings, group)
        training.resume(state if group.rank == 0 else None)
        assert run(training)
        return training

    continued = on_ranks(3, second_part)[0]
    assert_close(weights, continued.weights())
    losses = [row.loss for row in whole.history]
    assert [row.loss for row in continued.history] == pytest.approx(losses, rel=1e-11)
    assert [row.step for row in continued.history] == [2, 4, 6]


def test_the_same_ranks_continue_bit_for_bit() -> None:
    settings = recipe(precision="fp32")
    _, weights = trained(1, settings)

    def work(group: ThreadGroup) -> dict[str, Tensor]:
        begun = made(settings, group)
        run(begun, until=4)
        continued = made(settings, group)
        continued.resume(copy.deepcopy(begun.state()))
        run(continued)
        return continued.weights()

    (found,) = on_ranks(1, work)
    assert all(torch.equal(value, found[name]) for name, value in weights.items())


def test_a_state_of_another_training_is_refused() -> None:
    def work(group: ThreadGroup) -> None:
        state = made(recipe(), group).state()
        with pytest.raises(ValueError, match="expected the state of seed 5 of this network, got that of 6"):
            made(recipe(), group).resume(state | {"seed": 6})
        with pytest.raises(ValueError, match="of this network"):
            made(recipe(auxiliary_weight=0.4), group).resume(state)

    on_ranks(1, work)


def test_weights_that_are_kept_are_those_of_the_plain_network_and_were_tested() -> None:
    training, weights = trained(1, recipe(**REGULARISED))
    network = Network(GRAPH, recipe().skeleton(ImageFacts(3, 8, 8, 10))).double()
    network.load_state_dict(weights)
    feed = Resident(recipe(), 0, 1, torch.device("cpu"))
    with torch.no_grad():
        right = sum(
            int((network.eval()(images.double()).argmax(dim=1) == labels).sum()) for images, labels, _ in feed.test()
        )
    tested = training.test()
    assert tested.images == 10 and tested.accuracy == right / 10
    assert tested.top5 is not None and tested.top5 >= tested.accuracy
    assert {int(value) for name, value in weights.items() if name.endswith("num_batches_tracked")} == {STEPS}


def test_averaged_weights_are_the_average_over_all_steps() -> None:
    def work(group: ThreadGroup) -> tuple[list[Tensor], list[Tensor]]:
        training = made(recipe(weight_averaging=0.5), group)
        expected = [torch.zeros_like(value) for value in training._values()]

        def made_step() -> None:
            regularisation.average_in(expected, training._values(), 0.5, training.step)

        training.run(lambda: False, lambda: False, lambda: None, made_step)
        return expected, training._averages

    ((expected, found),) = on_ranks(1, work)
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))


def test_ranks_leave_and_save_together_whoever_wants_it() -> None:
    def work(group: ThreadGroup) -> tuple[int, list[int]]:
        training, saved = made(recipe(), group), []
        complete = training.run(
            leave=lambda: group.rank == 1 and training.step == 3,
            save_due=lambda: group.rank == 0 and training.step == 1,
            save=lambda: saved.append(training.step),
            made_step=lambda: None,
        )
        assert not complete
        return training.step, saved

    assert on_ranks(2, work) == [(4, [2, 4]), (4, [2, 4])]


class WithoutImages(Resident):
    """Has none from some step on."""

    def __init__(self, known: Resident, step: int, problem: str | None) -> None:
        self.__dict__ |= known.__dict__
        self._step, self._problem = step, problem

    def next(self, step: int, micro_batch: int, generator: torch.Generator) -> Batch:
        images, labels = super().next(step, micro_batch, generator)
        if step < self._step:
            return images, labels
        self.interrupted, self.problem = True, self._problem
        return torch.full_like(images, math.nan), labels

    def test(self, leave: Callable[[], bool] = never) -> Iterator[PlacedBatch]:
        yield next(super().test())
        self.interrupted, self.problem = True, self._problem


@pytest.mark.parametrize("statistics", ["micro-batch", "step"])
@pytest.mark.parametrize("problem", [None, "rank 1 waits for a.jpg"])
def test_where_one_rank_has_no_images_all_leave_with_the_step_before(statistics: str, problem: str | None) -> None:
    settings = recipe(batch_statistics=statistics)

    def work(group: ThreadGroup) -> tuple[dict[str, Any], int, str]:
        training, saved, said = made(settings, group), [], ""
        training._feed.waits = True
        if group.rank == 1:
            without: Any = WithoutImages(training._feed, 3, problem)  # type: ignore[arg-type]
            training._feed = training._scorer._feed = training._pieces._feed = without
        parts: Any = {"leave": lambda: False, "save_due": lambda: False, "made_step": lambda: None}
        try:
            assert not training.run(save=lambda: saved.append(copy.deepcopy(training.state())), **parts)
        except ImagesMissing as missing:
            said = str(missing)
        return saved[-1], len(saved), said

    def undisturbed(group: ThreadGroup) -> dict[str, Any]:
        training = made(settings, group)
        run(training, until=3)
        return training.state()

    expected = on_ranks(4, undisturbed)[0]
    for state, saves, said in on_ranks(4, work):
        assert (state["step"], saves, said) == (3, 1, problem or "")
        assert all(torch.equal(one, two) for one, two in zip(state["tensors"], expected["tensors"], strict=True))
        assert [row["step"] for row in state["history"]] == [2]


@pytest.mark.parametrize("problem", [None, "rank 1 waits for a.jpg"])
def test_where_one_rank_has_no_test_images_all_know(problem: str | None) -> None:
    def work(group: ThreadGroup) -> str:
        training = made(recipe(), group)
        training._feed.waits = True
        assert run(training)
        if group.rank == 1:
            training._feed = training._scorer._feed = WithoutImages(training._feed, STEPS, problem)  # type: ignore[arg-type]
        try:
            assert training.test() is None
        except ImagesMissing as missing:
            return str(missing)
        return ""

    assert on_ranks(2, work) == [problem or ""] * 2


def with_broken_images(training: DistributedTraining, names: dict[int, set[str]]) -> DistributedTraining:
    """Its rank meets these in these steps, from 0."""
    feed, given = training._feed, training._feed.next

    def next(step: int, micro_batch: int, generator: torch.Generator) -> Batch:
        feed.broken |= names.get(step, set())
        return given(step, micro_batch, generator)

    feed.next = next  # type: ignore[method-assign]
    return training


def test_a_broken_image_counts_once_whichever_ranks_meet_it_and_all_of_them_know() -> None:
    settings = SCHEME.build(SCHEME.settings(recipe()), {"data": {"max_broken": 2}})
    met: list[dict[int, set[str]]] = [{0: {"a"}, 3: {"b"}}, {1: {"b"}, 2: {"a"}}]

    def work(group: ThreadGroup) -> dict[str, Any]:
        training = with_broken_images(made(settings, group), met[group.rank])
        assert not run(training, until=5)
        return training.state()

    states = on_ranks(2, work)
    assert [state["broken"] for state in states] == [["a", "b"], ["a", "b"]]

    def continued(group: ThreadGroup) -> set[str]:
        training = with_broken_images(made(settings, group), {4: {"a"}, 5: {"c"} if group.rank == 1 else {"b"}})
        training.resume(states[0] if group.rank == 0 else None)
        with pytest.raises(TooManyBroken, match="expected at most 2 unreadable images, got 3; mend the data, or"):
            run(training)
        return training.broken

    assert on_ranks(3, continued) == [{"a", "b", "c"}] * 3


def test_a_loss_that_is_not_finite_stops_all_ranks() -> None:
    def work(group: ThreadGroup) -> None:
        training = made(recipe(learning_rate=1e18, weight_decay=1e18), group)
        with pytest.raises(LossNotFinite, match=r"seed 5 was not finite at step \d of 6"):
            run(training)

    on_ranks(2, work)


def with_tests(training: DistributedTraining, *batches: PlacedBatch, broken: int = 0) -> DistributedTraining:
    """Its rank is tested on these; so many more cannot be read."""
    training._feed.test = lambda leave=never: iter(batches)  # type: ignore[method-assign,misc]
    training._feed.broken_tests = {f"val/{training._group.rank}-{number}" for number in range(broken)}
    return training


def test_a_network_whose_weights_are_not_finite_is_not_complete() -> None:
    """Every loss was finite, but for that of what the last step has made of the weights."""

    def work(group: ThreadGroup) -> None:
        training = made(recipe(steps=1), group)
        assert run(training, until=1)
        next(training.network.parameters()).data.fill_(float("nan"))
        with pytest.raises(LossNotFinite, match="of seed 5 on the test images was not finite after step 1 of 1"):
            training.test()

    on_ranks(2, work)


def test_too_many_unreadable_test_images_make_no_test() -> None:
    settings = SCHEME.build(SCHEME.settings(recipe(steps=1)), {"data": {"max_broken": 3}})
    images, labels = torch.zeros(2, 3, 8, 8, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)

    def work(group: ThreadGroup) -> int:
        batch = images, labels, np.array([group.rank, 2 + group.rank])
        training = with_tests(made(settings, group), batch, broken=1 + group.rank)
        tested = training.test()
        assert tested is not None and tested.images == 4
        training.network.train()
        with_tests(training, batch, broken=2)
        with pytest.raises(TooManyBroken, match="at most 3 unreadable test images, got 4 of 8; mend the data, or"):
            training.test()
        return 0

    on_ranks(2, work)


def grey_and_colour(root: Path) -> Path:
    """Training images of 8×8, grey but for one, and test images of 16×16, all grey."""
    for name in ("a", "b"):
        write_image(root / "train" / name / "0.png", "L" if name == "a" else "RGB", 8)
        write_image(root / "test" / name / "0.png", "L", 16)
    return root


def write_image(path: Path, mode: str, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(side).integers(0, 256, (side, side), dtype=np.uint8)
    PIL.Image.fromarray(pixels).convert(mode).save(path)


def resident(root: Path) -> Resident:
    plain = {"source": f"imagefolder:{root}", "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return Resident(SCHEME.build(SCHEME.settings(recipe()), {"data": plain}), 0, 1, torch.device("cpu"))


def test_test_images_of_another_size_and_colour_are_seen_as_predict_sees_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feed = resident(grey_and_colour(tmp_path))
    assert list(feed.look()) == [None]
    assert (feed.test_images, feed.tested_on) == (2, f"2 test images of {tmp_path / 'test'}")
    assert "test images are of 16×16 pixels, training images of 8×8: they are resized" in caplog.text
    ((images, labels, _),) = feed.test()
    model = prediction.Model(lambda pixels: pixels, 3, feed.appearance.resize, 8, 8, ("a", "b"))
    assert labels.tolist() == [0, 1]
    assert np.array_equal(images[1].numpy(), prediction.pixels(model, tmp_path / "test" / "b" / "0.png"))


def test_colour_in_the_test_of_a_network_for_grey_images_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / "train" / name / "0.png", "L", 8)
        write_image(tmp_path / "val" / name / "0.png", "L" if name == "a" else "RGB", 8)
    plain = {"source": f"imagefolder:{tmp_path}"}
    feed = Resident(SCHEME.build(SCHEME.settings(recipe()), {"data": plain}), 0, 1, torch.device("cpu"))
    with pytest.raises(DataError, match="expected grey test images, .*, got .*val/b/0.png in colour; make them grey"):
        list(feed.look())


def test_the_learning_rate_is_divided_at_milestones_or_falls_along_a_cosine() -> None:
    steps = recipe(steps=8, milestones=(0.5, 0.75, 0.875)).training
    rates = [learning_rate(steps, step) for step in range(8)]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.0001])
    cosine = recipe(steps=8, schedule="cosine").training
    assert [learning_rate(cosine, step) for step in (0, 4)] == pytest.approx([0.1, 0.05])
    warm = recipe(steps=8, schedule="cosine", warm_up=0.75).training
    assert [learning_rate(warm, step) for step in (0, 4, 6)] == pytest.approx(
        [0.1 / 6, 0.05 * 5 / 6, learning_rate(cosine, 6)]
    )


def test_running_statistics_are_the_mean_over_the_micro_batches_of_each_step() -> None:
    settings = recipe(steps=1, batch_statistics="micro-batch")

    def work(group: ThreadGroup) -> DistributedTraining:
        training = made(settings, group)
        assert training.run(lambda: False, lambda: False, lambda: None, lambda: None)
        return training

    (training,) = on_ranks(1, work)
    weights = training.weights()
    feed = Resident(settings, 0, 1, torch.device("cpu"))
    feed.begin(5, 0)
    from hpcnas import seeds

    with _building, torch.random.fork_rng():
        torch.manual_seed(5)
        network = Network(GRAPH, settings.skeleton(ImageFacts(3, 8, 8, 10))).double()
    means = []
    for micro_batch in range(4):
        generator = torch.Generator().manual_seed(seeds.micro_batch_seed(5, 0, micro_batch))
        images, _ = feed.next(0, micro_batch, generator)
        images = regularisation.cutout(images, 2, generator).double()
        means.append(network.stem[0](images).mean(dim=(0, 2, 3)))  # type: ignore[index, operator]
    expected = 0.1 * torch.stack(means).mean(dim=0)
    torch.testing.assert_close(weights["stem.1.running_mean"], expected.detach())


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp64", torch.float64)],
)
def test_numbers_of_feature_maps_on_a_cpu(precision: str, expected: torch.dtype) -> None:
    assert numbers(recipe(precision=precision).training, torch.device("cpu")) is expected


@pytest.mark.parametrize("affine", [True, False])
def test_statistics_over_ranks_are_exact_beside_bfloat16_and_without_weights(affine: bool) -> None:
    """Under autocast a product of matrices would have rounded them to 8 bits."""
    maps = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(1)).bfloat16()

    def work(group: ThreadGroup) -> tuple[Tensor, Tensor]:
        network = synchronised(nn.Sequential(nn.BatchNorm2d(3, affine=affine)), group, [2, 4], torch.device("cpu"))
        own = maps[:2] if group.rank == 0 else maps[2:]
        with torch.autocast("cpu", torch.bfloat16):
            return network(own), network[0].running_mean  # type: ignore[index]

    outputs, means = zip(*on_ranks(2, work), strict=True)
    plain = nn.BatchNorm2d(3, affine=affine, momentum=1.0)
    torch.testing.assert_close(torch.cat(outputs), plain(maps))
    for mean in means:
        torch.testing.assert_close(mean, plain.running_mean, rtol=1e-6, atol=0.0)
