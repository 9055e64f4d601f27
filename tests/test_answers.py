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
from hpcnas.messages import Evaluation, Failure, FailureKind, Stopped, Task
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


# ── learning curves ─────────────────────────────────────────────────────────────────────────────────────────────────
CLIMBING = replace(TASK, rungs=2)
JUDGED = replace(CLIMBING, floors=(0.25, 0.5))
CURVES = ((0.25, 0.75), (0.5, 0.5))
CURVED = replace(EVALUATION, curves=CURVES)
STOPPED = Stopped(((0.5, 0.25), (0.25, 0.5)), 10, 0.0, 1.0, 0.0)  # on the average above the first floor alone
RUNG = Stopped(((0.25,), (0.125,)), 10, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("outcome", "task"),
    [
        (EVALUATION, CLIMBING),  # an evaluator need not validate on the way
        (EVALUATION, JUDGED),
        (CURVED, CLIMBING),
        (CURVED, JUDGED),
        (replace(CURVED, curves=((0.0, 0.0), (1.0, 1.0))), JUDGED),  # nor stop anything
        (replace(CURVED, judged=1), JUDGED),
        (replace(CURVED, judged=2), JUDGED),
        (replace(CURVED, curves=((0.25, 0.5), (0.0, 0.0)), judged=1), JUDGED),  # it is at the floors; the other is not
        (replace(CURVED, judged=2), replace(JUDGED, floors=(-math.inf, -math.inf))),
        (STOPPED, JUDGED),
        (replace(STOPPED, curves=((0.25, 0.0),)), JUDGED),
        (RUNG, JUDGED),
        (RUNG, replace(JUDGED, floors=(0.25, -math.inf))),
        (replace(RUNG, curves=((1.0,),)), replace(JUDGED, floors=(math.inf, math.inf))),
    ],
)
def test_curves_and_stops_that_answer_a_task(outcome: Evaluation | Stopped, task: Task) -> None:
    assert checked(outcome, task) == outcome


@pytest.mark.parametrize(
    ("outcome", "plain"),
    [
        (replace(CURVED, curves=np.array(CURVES), judged=np.int8(2)), replace(CURVED, judged=2)),
        (replace(CURVED, curves=torch.tensor(CURVES), judged=2.0), replace(CURVED, judged=2)),
        (replace(CURVED, curves=[list(curve) for curve in CURVES]), CURVED),
        (replace(EVALUATION, curves=np.empty((0, 2))), EVALUATION),
        (replace(STOPPED, curves=np.array(STOPPED.curves), parameters=10.0, setup_seconds=0), STOPPED),
        (replace(RUNG, curves=[torch.tensor([0.25]), np.array([0.125], np.float16)]), RUNG),
        (replace(RUNG, curves=0.125), replace(RUNG, curves=((0.125,),))),  # what has no parts is one
    ],
)
def test_curves_of_any_type_are_the_same(outcome: Any, plain: Evaluation | Stopped) -> None:
    found = checked(outcome, JUDGED)
    assert found == plain and isinstance(found, Evaluation | Stopped)
    assert all(type(one) is float for curve in found.curves for one in curve)
    assert json.loads(json.dumps(asdict(found)))["curves"] == [list(curve) for curve in plain.curves]


EACH = "expected 2 learning curves, one a seed, from X, got "
RUNGS = "expected 2 accuracies from 0 to 1 from X, one a rung, got "
GOES_ON = "expected trainings below the floor of a rung to be stopped by X, but they went on"


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"curves": CURVES[:1]}, "ERROR", EACH + "1"),
        ({"curves": (*CURVES, (0.5, 0.5))}, "ERROR", EACH + "3"),
        ({"curves": None}, "ERROR", EACH + "1"),
        ({"curves": (0.25, 0.5)}, "ERROR", RUNGS + "1: 0.25"),
        ({"curves": (CURVES[0], (0.5,))}, "ERROR", RUNGS + "1: 0.5"),
        ({"curves": (CURVES[0], (0.5, 0.5, 0.5))}, "ERROR", RUNGS + "3: 0.5 0.5 0.5"),
        ({"curves": (CURVES[0], ())}, "ERROR", RUNGS + "0: "),
        ({"curves": (CURVES[0], (0.5, 50.0))}, "ERROR", RUNGS + "2: 0.5 50"),
        ({"curves": (CURVES[0], (0.5, -0.5))}, "ERROR", RUNGS + "2: 0.5 -0.5"),
        ({"curves": (CURVES[0], (0.5, None))}, "ERROR", RUNGS + "2: 0.5 None"),
        ({"curves": (CURVES[0], (0.5, True))}, "ERROR", RUNGS + "2: 0.5 True"),
        ({"curves": (CURVES[0], (0.5, math.nan))}, "NAN", "expected finite accuracies from X, got 2: 0.5 nan"),
        ({"judged": 3}, "ERROR", "expected 0 to 2 curves judged from X, got 3"),
        ({"judged": -1}, "ERROR", "expected 0 to 2 curves judged from X, got -1"),
        ({"judged": True}, "ERROR", "expected 0 to 2 curves judged from X, got True"),
        ({"judged": None}, "ERROR", "expected 0 to 2 curves judged from X, got None"),
        ({"judged": 1, "curves": ()}, "ERROR", "expected 0 to 0 curves judged from X, got 1"),
        ({"judged": 1, "curves": ((0.125, 0.75), (1.0, 1.0))}, "ERROR", GOES_ON),
        ({"judged": 2, "curves": ((0.25, 0.75), (0.5, 0.125))}, "ERROR", GOES_ON),
    ],
)
def test_curves_that_do_not_answer_a_task(change: dict[str, Any], kind: str, message: str) -> None:
    assert checked(replace(CURVED, **change), JUDGED, "X") == Failure(FailureKind[kind], message)


@pytest.mark.parametrize(
    ("outcome", "task", "message"),
    [
        (CURVED, TASK, "expected no learning curves, without rungs, from X, got 2"),
        (replace(CURVED, judged=1), CLIMBING, "expected 0 to 0 curves judged from X, got 1"),
        (replace(EVALUATION, judged=1), TASK, "expected 0 to 0 curves judged from X, got 1"),
    ],
)
def test_curves_and_judgements_of_no_task(outcome: Evaluation, task: Task, message: str) -> None:
    assert checked(outcome, task, "X") == Failure(FailureKind.ERROR, message)


ELSEWHERE = "expected trainings to be stopped by X where they are below a floor, not elsewhere"
WITH_FLOORS = "expected a training with floors to be stopped by X at one of 2 rungs, got "


@pytest.mark.parametrize(
    ("curves", "kind", "message"),
    [
        ((), "ERROR", WITH_FLOORS + "0 curves of 0 for 2 seeds and 2 floors"),
        (((), ()), "ERROR", WITH_FLOORS + "2 curves of 0 for 2 seeds and 2 floors"),
        (((0.0,),) * 3, "ERROR", WITH_FLOORS + "3 curves of 1 for 2 seeds and 2 floors"),
        (((0.5, 0.5, 0.0),), "ERROR", WITH_FLOORS + "1 curves of 3 for 2 seeds and 2 floors"),
        (((0.0,), (0.0, 0.0)), "ERROR", "expected 1 accuracies from 0 to 1 from X, of one length, got 2: 0 0"),
        (((0.0,), (-0.5,)), "ERROR", "expected 1 accuracies from 0 to 1 from X, of one length, got 1: -0.5"),
        (((0.0,), (math.nan,)), "NAN", "expected finite accuracies from X, got 1: nan"),
        (((0.25,),), "ERROR", ELSEWHERE),  # at the floor
        (((0.25,), (0.5,)), "ERROR", ELSEWHERE),
        (((0.25, 0.5),), "ERROR", ELSEWHERE),
        (((0.125, 0.0),), "ERROR", ELSEWHERE),  # a rung too late
        (None, "ERROR", "expected 1 accuracies from 0 to 1 from X, of one length, got 1: None"),
    ],
)
def test_stops_that_do_not_answer_a_task(curves: Any, kind: str, message: str) -> None:
    assert checked(replace(STOPPED, curves=curves), JUDGED, "X") == Failure(FailureKind[kind], message)


@pytest.mark.parametrize(("task", "rungs"), [(TASK, 0), (CLIMBING, 2)])
def test_nothing_is_stopped_without_floors(task: Task, rungs: int) -> None:
    message = (
        f"expected a training with floors to be stopped by X at one of {rungs} rungs, "
        "got 2 curves of 1 for 2 seeds and 0 floors"
    )
    assert checked(RUNG, task, "X") == Failure(FailureKind.ERROR, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": -1}, "expected a whole number of parameters from X, got -1"),
        ({"training_seconds": math.inf}, "expected training_seconds from 0 to 1e+15 from X, got inf"),
    ],
)
def test_what_a_stop_costs_is_looked_at_too(change: dict[str, Any], message: str) -> None:
    assert checked(replace(RUNG, **change), JUDGED, "X") == Failure(FailureKind.ERROR, message)
