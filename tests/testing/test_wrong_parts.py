"""What is wrong on purpose is told by the contract suites, each time in the right sentence."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hpcnas import plugins
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.primitives import Primitive
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Breeding, Proposal
from hpcnas.messages import Evaluation, Stopped, Task
from hpcnas.plugins import DataKind, Plugin
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.synthetic import SyntheticEvaluator
from hpcnas.testing.data import DataContract
from hpcnas.testing.evaluators import EvaluatorContract
from hpcnas.testing.primitives import PrimitiveContract
from hpcnas.testing.stores import StoreContract
from hpcnas.testing.strategies import StrategyContract
from hpcnas.training.evaluator import Loaded


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others of this process may have loaded plugins of the same names."""
    monkeypatch.delenv(plugins.VARIABLE, raising=False)


def told(suite: type, plugin: Plugin, test: str, **attributes: object) -> str:
    """The sentence of a test of a suite that fails."""
    with pytest.raises((AssertionError, plugins.Error)) as failure:
        getattr(type("Suite", (suite,), {"plugin": plugin, **attributes})(), test)()
    return str(failure.value)


class Strategy:
    """Right, but for what is done to its answers."""

    def __init__(self, breeding: Breeding, change: Callable[[Proposal, Population, int, int], Proposal]) -> None:
        self.breeding, self.change = breeding, change

    def ask(self, population: Population, id: int, view: int) -> Proposal:
        if id < 4 or view == 0:
            return self.change(self.breeding.initial(population, id), population, id, view)
        best = population.ranking(view)[0]
        mutant = self.breeding.mutant(population, id, best, self.breeding.generator(id))
        return self.change(mutant, population, id, view)


def strategy(change: Callable[[Proposal, Population, int, int], Proposal], **methods: object) -> Plugin:
    kind = type("Changed", (Strategy,), methods)
    return Plugin(strategies={"wrong": lambda search, breeding: kind(breeding, change)})


def at_random(proposal: Proposal, population: Population, id: int, view: int) -> Proposal:
    return replace(proposal, redrawn=random.randrange(2**30))


def by_all_evaluations(proposal: Proposal, population: Population, id: int, view: int) -> Proposal:
    return replace(proposal, known=len(population.evaluated))


class Counting:
    """A change that goes by how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, proposal: Proposal, population: Population, id: int, view: int) -> Proposal:
        self.asked += 1
        return replace(proposal, known=self.asked)


def without_a_path(proposal: Proposal, population: Population, id: int, view: int) -> Proposal:
    return replace(proposal, genotype=Genotype(population.space, bytes(population.space.edges)))


def orphan(proposal: Proposal, population: Population, id: int, view: int) -> Proposal:
    return replace(proposal, parent=None)


def meddling(proposal: Proposal, population: Population, id: int, view: int) -> Proposal:
    population._columns["view"][0] += 1
    return proposal


def unchanged(proposal: Proposal, population: Population, id: int, view: int) -> Proposal:
    return proposal


@pytest.mark.parametrize(
    ("plugin", "test", "sentence"),
    [
        (strategy(at_random), "test_the_same_question_has_the_same_answer",
         "birth 0: expected the same answer to the same question, got another redrawn: `ask` may depend on nothing"),
        (strategy(by_all_evaluations), "test_another_process_gives_the_same_answers",
         "expected the same answer to the same question, got another known: `ask` may depend on nothing but"),
        (strategy(Counting()), "test_another_process_gives_the_same_answers", "got another known: `ask` may depend on"),
        (strategy(without_a_path), "test_each_genotype_has_a_network",
         "birth 0: expected a genotype with a path from the source to the sink of its cell, got one without"),
        (strategy(orphan), "test_mutants_have_a_parent_and_others_none",
         "expected a parent of a birth of the kind MUTATION and of no other, got the parent None of a birth MUTATION"),
        (strategy(meddling), "test_asking_changes_nothing",
         "expected `ask` to leave the population as it is, but the column view is another"),
        (strategy(unchanged, bar=lambda self, population, view: 2.0),
         "test_the_bar_is_the_fitness_of_one_that_competes",
         "view 0: expected as bar the fitness of one of those that compete, or None, got 2.0"),
        (strategy(unchanged, ask=lambda self, population, id, view: self.breeding.mutant(
            population, id, 0, self.breeding.generator(id)) if id else self.breeding.initial(population, id)),
         "test_those_that_were_measured_again_are_no_parents",
         ", got 0, whose network has been measured again; population.evaluated holds those too"),
        (strategy(unchanged, ask=lambda self, population, id, view: self.breeding.mutant(
            population, id, int(population.evaluated[0]), self.breeding.generator(id))),
         "test_births_come_before_evaluations",
         "plugin 'tested': strategy 'wrong': `ask` raised IndexError: index 0 is out of bounds"),
        (strategy(unchanged, ask=lambda self, population, id, view: self.breeding.mutant(
            population, id, view, self.breeding.generator(id)) if id > 3 else self.breeding.initial(population, id)),
         "test_those_that_were_stopped_early_are_no_parents", "expected a parent of population.evaluated[:"),
        (strategy(unchanged, ask=None), "test_it_is_made_of_the_settings",
         "strategy wrong: expected a method `ask`, got Changed without one (PLUGINS.md)"),
        (random, "test_it_is_made_of_the_settings",
         "expected for `plugin` of the suite a hpcnas.plugins.Plugin, got module"),
        (Plugin(), "test_it_is_made_of_the_settings",
         "expected a plugin that brings one strategy, or `name` in the suite, got []"),
    ],
)  # fmt: skip
def test_a_wrong_strategy_is_told(plugin: Plugin, test: str, sentence: str) -> None:
    assert sentence in told(StrategyContract, plugin, test)


class Evaluator:
    """Right, but for what is put in place of its methods."""

    def __init__(self, config: SearchConfig, binding: object) -> None:
        self.inner = SyntheticEvaluator(config)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def evaluator(**methods: object) -> Plugin:
    return Plugin(evaluators={"wrong": type("Changed", (Evaluator,), methods)})


def answers(*accuracies: float, parameters: object = 3) -> Callable[[object, float], Evaluation]:
    return lambda self, timeout: Evaluation(accuracies, parameters, 0.0, 0.0, 0.0)  # type: ignore[arg-type]


def starts_a_process(self: Any, task: Task) -> None:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    self.inner.start(task)


@pytest.mark.parametrize(
    ("plugin", "test", "sentence"),
    [
        (evaluator(poll=answers(0.5)), "test_it_answers_each_task",
         "expected 2 accuracies from 0 to 1 from `poll`, one a seed, got 1: 0.5"),
        (evaluator(poll=answers(93.0)), "test_it_answers_each_task",
         "expected 1 accuracies from 0 to 1 from `poll`, one a seed, got 1: 93"),
        (evaluator(poll=answers(0.5, parameters=-1)), "test_it_answers_each_task",
         "expected a whole number of parameters from `poll`, got -1"),
        (evaluator(poll=lambda self, timeout: 0.5), "test_it_answers_each_task",
         "expected an Evaluation or a Failure from `poll`, got float"),
        (evaluator(poll=lambda self, timeout: None), "test_it_answers_each_task",
         "expected an answer from `poll` within 0.2 s, got None"),
        (evaluator(poll=lambda self, timeout: answers(0.5, parameters=random.randrange(2**40))(self, timeout)),
         "test_parameters_are_those_of_the_network", "expected the same number of parameters at each evaluation"),
        (evaluator(poll=lambda self, timeout: Stopped(((0.1,), (0.1,)), 3, 0.0, 0.0, 0.0)),
         "test_it_answers_tasks_with_rungs_and_floors",
         "expected a training with floors to be stopped by `poll` at one of 1 rungs, got 2 curves of 1 for 2 seeds"),
        (evaluator(poll=lambda self, timeout: Evaluation((0.5, 0.5), 3, 0.0, 0.0, 0.0, ((0.1, 0.2), (0.1, 0.2)))),
         "test_it_answers_tasks_with_rungs_and_floors",
         "expected 1 accuracies from 0 to 1 from `poll`, one a rung, got 2"),
        (evaluator(poll=lambda self, timeout: Evaluation((0.5, 0.5), 3, 0.0, 0.0, 0.0, ((0.1,), (0.1,)), 1)),
         "test_it_answers_tasks_with_rungs_and_floors", "expected 0 to 0 curves judged from `poll`, got 1"),
        (evaluator(ready=lambda self, timeout: None), "test_it_says_what_it_depends_on",
         "expected Loaded from `ready` within 0.2 s, got None"),
        (evaluator(ready=lambda self, timeout: "ready"), "test_it_says_what_it_depends_on",
         "plugin 'tested': evaluator 'wrong': expected Loaded or None from `ready`, got str"),
        (evaluator(ready=lambda self, timeout: Loaded(self.inner.ready(0.0).facts, {"n": str(random.random())})),
         "test_it_says_what_it_depends_on", "expected the same from `ready` when it is asked again, got another"),
        (evaluator(start=lambda self, task: 1 / 0), "test_start_and_poll_come_back",
         "plugin 'tested': evaluator 'wrong': `start` raised ZeroDivisionError: division by zero"),
        (evaluator(save=lambda self: None), "test_it_can_be_saved_and_closed_at_any_time",
         "plugin 'tested': evaluator 'wrong': `save` raised TypeError: "),
        (evaluator(close=lambda self: 1 / 0), "test_it_says_what_it_depends_on",
         "plugin 'tested': evaluator 'wrong': `close` raised ZeroDivisionError: division by zero"),
        (evaluator(warnings=lambda self: ["one\ntwo"]), "test_its_warnings_are_lines",
         "expected warnings of one line each, got 'one\\ntwo'"),
    ],
)  # fmt: skip
def test_a_wrong_evaluator_is_told(plugin: Plugin, test: str, sentence: str) -> None:
    assert sentence in told(EvaluatorContract, plugin, test, patience=0.2)


def test_an_evaluator_that_leaves_processes_behind_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    begin = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **named: started.append(begin(*args, **named)))
    try:
        plugin = evaluator(start=starts_a_process)
        sentence = told(EvaluatorContract, plugin, "test_it_can_be_saved_and_closed_at_any_time", patience=0.2)
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert sentence == "expected no process that it started after `close`, got 1"


def test_an_evaluator_that_blocks_is_told() -> None:
    sentence = told(EvaluatorContract, evaluator(), "test_start_and_poll_come_back", quickly=-1.0)
    assert re.match("expected `start` to come back within -1 s, but it took 0.0: long work belongs into ", sentence)


def pixels(seed: int, shape: tuple[int, ...] = (20, 8, 8, 1)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def drawn_anew() -> np.ndarray:
    """Images that depend on the global generator."""
    return np.random.randint(0, 9, (20, 8, 8, 1), dtype=np.uint8)


LABELS = np.arange(20) % 2


def data(read: Callable[[str, str, bool], object], syntax: str = "made:N") -> Plugin:
    return Plugin(data={"made": DataKind(syntax, read)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plugin", "test", "sentence"),
    [
        (data(lambda rest, split, download: (("a", "b"), pixels(1), LABELS)), "test_the_splits_are_two",
         "expected other images in the split 'test' than in 'train', got the same"),
        (data(lambda rest, split, download: (("a", "b"), drawn_anew(), LABELS)),
         "test_it_is_the_same_every_time", "made:20: expected the same images, labels and classes in the same order"),
        (data(lambda rest, split, download: ((split, "b"), pixels(len(split)), LABELS)),
         "test_the_splits_are_of_one_kind", "expected the same classes in both splits, got ('train', 'b') and ('tes"),
        (data(lambda rest, split, download: (("a", "b"), pixels(1, (20, 8, 2 * len(split), 1)), LABELS)),
         "test_the_splits_are_of_one_kind", "expected images of one shape in both splits, got (8, 10, 1) and (8, 8"),
        (data(lambda rest, split, download: (("a", "b"), pixels(1) / 255, LABELS)), "test_both_splits_are_whole",
         "made:20: expected pixels uint8, uint16, int16, float16, float32 (N, H, W, 1 to 256), got float64 "),
        (data(lambda rest, split, download: (("a",), pixels(1), LABELS)), "test_both_splits_are_whole",
         "made:20: expected labels from 0 to 0, got 0 to 1"),
        (data(lambda rest, split, download: int(rest)), "test_what_cannot_be_is_a_data_error",
         "plugin 'tested': `read` of 'made' raised ValueError: invalid literal for int() with base 10: 'no such data'"),
        (data(lambda rest, split, download: None), "test_what_cannot_be_is_a_data_error",
         "made:many: expected a DataError, but it was read"),
        (Plugin(), "test_what_cannot_be_is_a_data_error", "expected a `source` of [], got 'made:20'"),
        (data(lambda rest, split, download: None, syntax="N images"), "test_the_syntax_names_the_kind",
         "expected 'made' or 'made:…' as syntax, got 'N images'"),
    ],
)  # fmt: skip
def test_wrong_data_are_told(plugin: Plugin, test: str, sentence: str) -> None:
    assert sentence in told(DataContract, plugin, test, source="made:20", wrong=("made:many",))


def primitive(**changes: object) -> Plugin:
    """A 3×3 convolution with batch normalisation, right but for what is changed."""

    def build(inputs: int, outputs: int) -> Any:
        from torch import nn

        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))

    right = Primitive(
        "dense",
        keeps_channels=False,
        parameters=lambda inputs, outputs: 9 * inputs * outputs + 2 * outputs,
        multiply_adds=lambda inputs, outputs: 9 * inputs * outputs,
        build=build,
    )
    changed: Mapping[str, Any] = changes
    return Plugin(primitives=(replace(right, **changed),))


class TestDense(PrimitiveContract):
    plugin = primitive()


def strided(inputs: int, outputs: int) -> Any:
    from torch import nn

    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)


def function(change: Callable[[Any], Any]) -> Any:
    """A module without parameters."""
    from torch import nn

    return type("Function", (nn.Module,), {"forward": lambda self, images: change(images)})()


class TestWithoutParameters(PrimitiveContract):
    plugin = Plugin(
        primitives=(
            Primitive(
                "rectified",
                keeps_channels=True,
                parameters=lambda inputs, outputs: 0,
                multiply_adds=lambda inputs, outputs: 0,
                build=lambda inputs, outputs: function(lambda images: images.clamp(min=0.0)),
            ),
        )
    )


def halved(inputs: int, outputs: int) -> Any:
    return function(lambda images: images[:, :1].repeat(1, outputs, 1, 1).half())


def detached(inputs: int, outputs: int) -> Any:
    return function(lambda images: images[:, :1].repeat(1, outputs, 1, 1).detach())


def unused(inputs: int, outputs: int) -> Any:
    from torch import nn

    module = nn.Conv2d(inputs, outputs, 1)
    module.unused = nn.Parameter(module.bias.detach().clone())
    return module


@pytest.mark.parametrize(
    ("plugin", "test", "sentence"),
    [
        (primitive(parameters=lambda inputs, outputs: 9 * inputs * outputs), "test_its_parameters_are_counted",
         "dense: expected `parameters` of 4 input and 4 output channels to be 152, as many as the module has, got 144"),
        (primitive(multiply_adds=lambda inputs, outputs: 18 * inputs * outputs), "test_its_multiply_adds_are_counted",
         "dense: expected `multiply_adds` of 4 input and 4 output channels to be 144 a pixel, as the module's "
         "convolutions make, got 288"),
        (primitive(parameters=lambda inputs, outputs: -1), "test_networks_with_it_are_counted_and_trained",
         "plugin 'tested': `parameters` of primitive 'dense': expected a whole number from 0, got -1"),
        (primitive(build=strided), "test_the_resolution_stays",
         "dense: expected (2, 4, 9, 13) of an input of 4 channels, got (2, 4, 5, 7)"),
        (primitive(keeps_channels=True, build=lambda inputs, outputs: strided(inputs, 4)), "test_the_resolution_stays",
         "dense: expected (2, 4, 9, 13) of an input of 4 channels, got (2, 4, 5, 7)"),
        (primitive(build=lambda inputs, outputs: None), "test_the_resolution_stays",
         "dense: expected a torch module from `build`, got NoneType"),
        (primitive(build=unused), "test_it_learns",
         "dense: expected a finite gradient of the parameter unused, got none"),
        (primitive(build=lambda inputs, outputs: 1 / 0), "test_the_resolution_stays",
         "plugin 'tested': `build` of primitive 'dense' raised ZeroDivisionError: division by zero"),
        (primitive(build=halved), "test_the_resolution_stays",
         "dense: expected float32 of an input in float32, got torch.float16"),
        (primitive(build=detached), "test_it_learns", "dense: expected an output with a gradient, got one without"),
        (Plugin(), "test_there_is_one", "expected a plugin with primitives, got one without"),
    ],
)  # fmt: skip
def test_a_wrong_primitive_is_told(plugin: Plugin, test: str, sentence: str) -> None:
    assert sentence in told(PrimitiveContract, plugin, test)


class Forgetful(MemoryStore):
    """Keeps no results."""

    def settle(self, result: object) -> None: ...


def test_a_wrong_store_is_told() -> None:
    def suite(reopen: Callable[[Any, Any], MemoryStore], kind: type[MemoryStore] = MemoryStore) -> StoreContract:
        methods = {"create": lambda self, config: kind(config), "reopen": reopen}
        found: StoreContract = type("Suite", (StoreContract,), methods)()
        return found

    lost = suite(lambda self, store: MemoryStore(store.config))
    with pytest.raises(AssertionError, match="^expected the sessions in the order of `begin`$"):
        lost.test_sessions_are_kept_in_order()
    with pytest.raises(AssertionError, match=r"^expected the column \w+ \[.+\], got \[\]$"):
        lost.test_births_and_results_are_in_the_population()
    with pytest.raises(AssertionError, match=r"^expected the column \w+ \[.+\], got \[\]$"):
        lost.test_learning_curves_and_stopped_individuals_are_kept()
    takes = suite(lambda self, store: store, type("Taking", (MemoryStore,), {"advance": lambda self, result: None}))
    with pytest.raises(AssertionError, match="^expected ValueError for a stop as an advance, but it was taken$"):
        takes.test_wrong_learning_curves_are_refused_and_leave_no_trace()
    forgets = suite(lambda self, store: store, Forgetful)
    with pytest.raises(AssertionError, match="^expected ValueError for a replicate that is trained already, but"):
        forgets.test_a_replicate_is_trained_once()
    with pytest.raises(NotImplementedError, match="expected a suite that defines `create`"):
        StoreContract().test_closing_twice_is_closing_once()
