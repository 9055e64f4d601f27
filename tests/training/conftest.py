"""What tests of the trainer share: evaluators that end with their test, and what every evaluation must come to."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import scripted_trainer
from trainer_children import PATIENT, Make
from trainer_runs import GENOTYPE, Start, directly, nothing, settings

from hpcnas.architecture.expansion import is_valid
from hpcnas.config import search as search_config
from hpcnas.job.devices import Binding
from hpcnas.messages import Evaluation
from hpcnas.training import starts
from hpcnas.training.trainer_process import TrainerEvaluator


@pytest.fixture(scope="session", autouse=True)
def quick_interpreter() -> Iterator[None]:
    """Triton's interpreter asks all names of its language, at each call of a function, whether they are to be replaced:
    a quarter of its time. Here it asks those that were, the first time."""
    try:
        interpreter = importlib.import_module("triton.runtime.interpreter")
    except ImportError:
        yield
        return
    if not hasattr(interpreter, "_patch_builtin"):  # another version than that of .ci/constraints.txt
        yield
        return

    @functools.cache
    def replaced(place: Any) -> list[str]:
        return [name for name, member in inspect.getmembers(place) if interpreter.tl.core.is_builtin(member)]

    def patch(place: Any, builder: Any, scope: Any) -> None:
        for name in replaced(place):
            member = getattr(place, name)
            if interpreter.tl.core.is_builtin(member):
                interpreter._patch_attr(place, name, member, builder, scope)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(interpreter, "_patch_builtin", patch)
        yield


@pytest.fixture(scope="module")
def expected() -> Evaluation:
    """What every evaluation of the task must come to, however often it is cut."""
    assert is_valid(GENOTYPE)
    return directly(settings(Path("nowhere"))).run(nothing, nothing)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts evaluators with a real child in one run folder, and ends them all."""
    started: list[TrainerEvaluator] = []

    def start(
        command: tuple[str, ...] | None = None, gpu: str | None = None, **changes: dict[str, object]
    ) -> TrainerEvaluator:
        started.append(TrainerEvaluator(settings(tmp_path, **changes), Binding(gpu, 1), command))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes evaluators with a plan for their children, and ends them all."""
    made: list[TrainerEvaluator] = []

    def make(
        plan: dict[str, str] | None = None,
        command: tuple[str, ...] = scripted_trainer.COMMAND,
        now: Callable[[], float] = time.monotonic,
        **run: float,
    ) -> TrainerEvaluator:
        monkeypatch.setenv(scripted_trainer.PLAN, json.dumps(plan or {}))
        monkeypatch.setattr(starts, "PAUSES", (1e-3,) * 3)
        settings = search_config.build({"run": {**PATIENT, **run}})
        made.append(TrainerEvaluator(settings, Binding(None, 1), command, now))
        return made[-1]

    yield make
    for one in made:
        one.close()
