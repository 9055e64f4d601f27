"""Numbers of others' code, and an evaluator's answers, literally: what is taken and as what, and what is a failure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from examples import SPACE

from hpcnas import answers
from hpcnas.architecture.genotype import Genotype
from hpcnas.messages import Evaluation, Failure, FailureKind, Task
from hpcnas.training.evaluator import checked

TASK = Task(7, 1, Genotype(SPACE, bytes(9)), (1, 2))
EVALUATION = Evaluation((0.5, 1.0), 10, 0.0, 1.0, 0.0)
CRASH = Failure(FailureKind.CRASH, "the trainer was ended by SIGSEGV")
NO_NUMBERS = [None, True, np.True_, "5", b"5", 5j, [5], np.array([5]), np.array("5"), object()]


@pytest.mark.parametrize("five", [5, 5.0, np.int64(5), np.uint8(5), np.float32(5), np.array(5), torch.tensor(5)])
def test_a_whole_number_is_one_in_any_type(five: object) -> None:
    found = answers.whole(five), answers.amount(five), answers.real(five)
    assert found == (5, 5.0, 5.0) and [type(one) for one in found] == [int, float, float]


@pytest.mark.parametrize("value", [*NO_NUMBERS, 5.5, -1, np.int8(-1), 2**63, 2**70, 10**400, math.nan, math.inf])
def test_what_is_no_whole_number(value: object) -> None:
    assert answers.whole(value) is None


@pytest.mark.parametrize("value", [*NO_NUMBERS, -1, -5.0, np.float32(-0.5), math.nan, math.inf, 10**400, 1.7e18])
def test_what_is_no_amount(value: object) -> None:
    assert answers.amount(value) is None


@pytest.mark.parametrize(
    "outcome",
    [
        EVALUATION,
        replace(EVALUATION, accuracies=[np.float32(0.5), np.float64(1.0)]),
        replace(EVALUATION, accuracies=np.array([0.5, 1.0], np.float16)),
        replace(EVALUATION, accuracies=(np.array(0.5), 1)),
        replace(EVALUATION, accuracies=torch.tensor([0.5, 1.0])),
        replace(EVALUATION, parameters=np.int64(10)),
        replace(EVALUATION, parameters=10.0),
        replace(EVALUATION, setup_seconds=np.int8(0), training_seconds=np.float32(1), validation_seconds=0),
    ],
)
def test_numbers_of_any_type_are_the_same_evaluation(outcome: Any) -> None:
    found = checked(outcome, TASK)
    assert found == EVALUATION and isinstance(found, Evaluation)
    assert json.loads(json.dumps(asdict(found)))["accuracies"] == [0.5, 1.0]
    assert [type(value) for value in (*found.accuracies, found.parameters, found.training_seconds)] == [
        float, float, int, float,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"accuracies": (0.5, math.nan)}, "NAN", "expected finite accuracies from X, got 2: 0.5 nan"),
        ({"accuracies": np.array([np.inf, 0.5])}, "NAN", "expected finite accuracies from X, got 2: inf 0.5"),
        (
            {"accuracies": (92.5, 0.5)}, "ERROR",
            "expected 2 accuracies from 0 to 1 from X, one a seed, got 2: 92.5 0.5",
        ),
        ({"accuracies": (0.5,)}, "ERROR", "expected 2 accuracies from 0 to 1 from X, one a seed, got 1: 0.5"),
        ({"accuracies": 0.5}, "ERROR", "expected 2 accuracies from 0 to 1 from X, one a seed, got 1: 0.5"),
        (
            {"accuracies": ("0.5", None)}, "ERROR",
            "expected 2 accuracies from 0 to 1 from X, one a seed, got 2: '0.5' None",
        ),
        (
            {"accuracies": (True, False)}, "ERROR",
            "expected 2 accuracies from 0 to 1 from X, one a seed, got 2: True False",
        ),
        ({"parameters": None}, "ERROR", "expected a whole number of parameters from X, got None"),
        ({"parameters": 5.5}, "ERROR", "expected a whole number of parameters from X, got 5.5"),
        ({"parameters": -1}, "ERROR", "expected a whole number of parameters from X, got -1"),
        ({"parameters": True}, "ERROR", "expected a whole number of parameters from X, got True"),
        ({"parameters": 2**70}, "ERROR", "expected a whole number of parameters from X, got 1180591620717411303424"),
        ({"training_seconds": -5.0}, "ERROR", "expected training_seconds from 0 to 1e+15 from X, got -5.0"),
        ({"setup_seconds": math.nan}, "ERROR", "expected setup_seconds from 0 to 1e+15 from X, got nan"),
        ({"validation_seconds": math.inf}, "ERROR", "expected validation_seconds from 0 to 1e+15 from X, got inf"),
        ({"validation_seconds": "1"}, "ERROR", "expected validation_seconds from 0 to 1e+15 from X, got '1'"),
        (
            {"accuracies": np.array("a")}, "ERROR",
            "expected 2 accuracies from 0 to 1 from X, one a seed, got 1: 'a'",
        ),
        (
            {"accuracies": torch.tensor(0.5)}, "ERROR",
            "expected 2 accuracies from 0 to 1 from X, one a seed, got 1: 0.5",
        ),
        (
            {"accuracies": (10**5000, 0.5)}, "ERROR",
            "expected 2 accuracies from 0 to 1 from X, one a seed, got 2: int that cannot be shown 0.5",
        ),
        (
            {"parameters": 10**5000}, "ERROR",
            "expected a whole number of parameters from X, got int that cannot be shown",
        ),
    ],
)  # fmt: skip
def test_nonsense_is_a_failure_that_names_who_said_it(change: dict[str, Any], kind: str, message: str) -> None:
    assert checked(replace(EVALUATION, **change), TASK, "X") == Failure(FailureKind[kind], message)


def test_what_is_no_outcome_is_a_failure() -> None:
    answer: Any = 0.5
    message = "expected an Evaluation or a Failure from the evaluator, got float"
    assert checked(answer, TASK) == Failure(FailureKind.ERROR, message)


def test_failures_stay_what_they_are() -> None:
    odd: Any = Failure("of no kind", ValueError("no"))  # type: ignore[arg-type]
    assert checked(CRASH, TASK) is not None and checked(CRASH, TASK) == CRASH
    assert checked(odd, TASK) == Failure(FailureKind.ERROR, "ValueError('no')")
    unhashable: Any = Failure([1], "odd")  # type: ignore[arg-type]
    assert checked(unhashable, TASK) == Failure(FailureKind.ERROR, "odd")
