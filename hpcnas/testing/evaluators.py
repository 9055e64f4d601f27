"""What a worker relies on in an evaluator: it says what it depends on, answers each task, and ends when it is told to.

    from hpcnas.testing.evaluators import EvaluatorContract
    from smallness import plugin

    class TestSmallness(EvaluatorContract):
        plugin = plugin

Evaluates some random genotypes; `settings` makes that short where it trains.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
import psutil

from hpcnas import answers
from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.mutation import diversified, redraw_until
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.job.devices import Binding
from hpcnas.messages import Evaluation, Failure, Outcome, Task
from hpcnas.plugins import Plugin, PluginFault
from hpcnas.search.plugged import PluggedEvaluator
from hpcnas.testing.contract import TESTED, expect, loaded, only
from hpcnas.training.evaluator import Evaluator, EvaluatorRefused, Loaded, checked, warnings


class EvaluatorContract:
    """Subclass it under a name that begins with Test, and set `plugin`."""

    plugin: Plugin
    name: str = ""  # of the evaluator; may be left out where the plugin brings one
    settings: Mapping[str, Mapping[str, object]] = {}  # section → key → value, over the program's own
    module: str = TESTED  # what `--plugin` would say, where processes of its own load the plugin by the configuration
    gpu: str | None = None  # the CUDA name of what it evaluates on; None: the CPU
    patience: float = 300.0  # seconds in which it is ready, or has an answer
    quickly: float = 10.0  # seconds in which `start`, and `poll` without a timeout, come back

    def test_it_says_what_it_depends_on(self) -> None:
        """`Loaded`, with facts that a run can hold; the same whenever it is asked."""
        with self._ready() as (evaluator, loaded, _):
            expect(evaluator.ready(0.0) == loaded, "expected the same from `ready` when it is asked again, got another")

    def test_it_answers_each_task(self) -> None:
        """With an accuracy for each seed, or with a failure; one task after the other."""
        with self._ready() as (evaluator, _, config):
            for number, genotype in enumerate(_genotypes(config, 3)):
                self._answer(evaluator, Task(number, 1, genotype, tuple(range(7, 8 + number))))

    def test_it_answers_tasks_with_rungs_and_floors(self) -> None:
        """`--rungs` and `--early-stopping`: with learning curves and `Stopped` where they are due, or as if there were
        none."""
        with self._ready({"training": {"rungs": [0.5]}}) as (evaluator, _, config):
            (genotype,) = _genotypes(config, 1)
            for attempt, floors in enumerate(((), (-math.inf,), (0.0,), (2.0,)), start=1):  # the last one of all stops
                self._answer(evaluator, Task(0, attempt, genotype, (7, 8), 0, 1, floors))
            self._answer(evaluator, Task(1, 1, genotype, (9,), 1, 1))

    def test_parameters_are_those_of_the_network(self) -> None:
        """They are the same for all replicates of a genotype."""
        with self._ready() as (evaluator, _, config):
            (genotype,) = _genotypes(config, 1)
            first, second = (self._answer(evaluator, Task(0, attempt, genotype, (attempt,))) for attempt in (1, 2))
            if isinstance(first, Evaluation) and isinstance(second, Evaluation):
                expect(
                    first.parameters == second.parameters,
                    f"expected the same number of parameters at each evaluation of a genotype, got {first.parameters} "
                    f"and {second.parameters}",
                )

    def test_start_and_poll_come_back(self) -> None:
        """A worker hears nothing while they run: the controller would take it for dead."""
        with self._ready() as (evaluator, _, config):
            (genotype,) = _genotypes(config, 1)
            began = time.monotonic()
            evaluator.start(Task(0, 1, genotype, (1,)))
            self._expect_quick("start", began)
            began = time.monotonic()
            evaluator.poll(0.0)
            self._expect_quick("poll", began)

    def test_it_can_be_saved_and_closed_at_any_time(self) -> None:
        """Before a task, while one runs, and twice; what it has started ends with it."""
        before = {process.pid for process in psutil.Process().children(recursive=True)}
        with self._ready() as (evaluator, _, config):
            evaluator.save(0.1)
            (genotype,) = _genotypes(config, 1)
            evaluator.start(Task(0, 1, genotype, (1,)))
            evaluator.save(1.0)
            evaluator.close()
            evaluator.close()
        deadline = time.monotonic() + self.patience
        while left := _children() - before:
            expect(time.monotonic() < deadline, f"expected no process that it started after `close`, got {len(left)}")
            time.sleep(0.05)

    def test_its_warnings_are_lines(self) -> None:
        """Where it has any; each is told once a job, so no line names the worker."""
        with self._ready() as (evaluator, _, config):
            (genotype,) = _genotypes(config, 1)
            self._answer(evaluator, Task(0, 1, genotype, (1,)))
            for line in warnings(evaluator):
                expect("\n" not in line, f"expected warnings of one line each, got {line!r:.200}")

    @contextlib.contextmanager
    def _ready(
        self, more: Mapping[str, Mapping[str, object]] = MappingProxyType({})
    ) -> Iterator[tuple[Evaluator, Loaded, SearchConfig]]:
        """The evaluator as a worker holds it, which tells what it raises as its own."""
        with loaded(self.plugin, self.module):
            name = only(self.name, self.plugin.evaluators, "evaluator")
            given = {"evaluation": {"evaluator": name}, "search": {"plugins": self.module}}
            config = search_config.build(_of_two_steps(self.settings, more), given, more)
            evaluator = _TellingEvaluator(config, Binding(self.gpu, 1))
            try:
                yield evaluator, self._await(evaluator), config
            except BaseException:  # which is told, whatever `close` says
                with contextlib.suppress(PluginFault, EvaluatorRefused):
                    evaluator.close()
                raise
            evaluator.close()

    def _await(self, evaluator: Evaluator) -> Loaded:
        deadline = time.monotonic() + self.patience
        while (found := evaluator.ready(1.0)) is None:
            expect(time.monotonic() < deadline, f"expected Loaded from `ready` within {self.patience:g} s, got None")
        return found

    def _answer(self, evaluator: Evaluator, task: Task) -> Outcome:
        """What it says of a task, which has to be an answer to it."""
        evaluator.start(task)
        deadline = time.monotonic() + self.patience
        while (outcome := evaluator.poll(1.0)) is None:
            expect(time.monotonic() < deadline, f"expected an answer from `poll` within {self.patience:g} s, got None")
        taken = checked(outcome, task, "`poll`")
        if isinstance(taken, Failure) and not isinstance(outcome, Failure):
            raise AssertionError(taken.message)
        expect(
            not isinstance(outcome, Failure) or taken == outcome,
            f"expected a Failure with a FailureKind and a text, got {answers.told(outcome)}",
        )
        return taken

    def _expect_quick(self, method: str, began: float) -> None:
        took = time.monotonic() - began
        expect(
            took < self.quickly,
            f"expected `{method}` to come back within {self.quickly:g} s, but it took {took:.1f}: long work belongs "
            "into a process of its own",
        )


class _TellingEvaluator(PluggedEvaluator):
    """A worker logs what goes wrong in leaving and goes on; a test tells it."""

    def _try(self, method: str, *arguments: object) -> None:
        if self._inner is not None:
            self._call(method, *arguments)


def _of_two_steps(
    settings: Mapping[str, Mapping[str, object]], more: Mapping[str, Mapping[str, object]]
) -> Mapping[str, Mapping[str, object]]:
    """The settings of a suite; of trainings of a step, two where there is to be a rung between them."""
    if not more or settings.get("training", {}).get("steps") != 1:
        return settings
    return {**settings, "training": {**settings["training"], "steps": 2}}


def _genotypes(config: SearchConfig, count: int) -> list[Genotype]:
    """Random genotypes that have a network."""
    generator = np.random.default_rng(0)
    return [
        redraw_until(lambda: diversified(config.space, 100, generator), expansion.is_valid)[0] for _ in range(count)
    ]


def _children() -> set[int]:
    """Processes that this one has started, or those have, and that are alive."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
    return found
