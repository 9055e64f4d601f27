"""What tests of the trainer share: evaluators that end with their test, and what every evaluation must come to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from trainer_runs import GENOTYPE, Start, directly, nothing, settings

from hpcnas.architecture.expansion import is_valid
from hpcnas.job.devices import Binding
from hpcnas.messages import Evaluation
from hpcnas.training.trainer_process import TrainerEvaluator


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
