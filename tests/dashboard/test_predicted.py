"""Predictions of guided evolution, a few at each look: those that the analysis finds, whatever the looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from followed_stand import followed
from toolruns import created, empty, steady

from hpcnas.analysis.curves import Curves
from hpcnas.analysis.guidance import Guidance
from hpcnas.config import search as search_config
from hpcnas.dashboard import predictions
from hpcnas.evolution.population import Population
from hpcnas.search import simulation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = {"budget": 70, "initial_population": 20, "strategy": "guided", "space": "2x3/1x3"}
    config = search_config.build({"search": given}, {"evaluation": {"evaluator": "synthetic"}})
    folder = tmp_path_factory.mktemp("guided") / "run"
    simulation.simulate(config, simulation.Site(5, startup=0.0, queue=0.0, handling=0.0), folder)
    return folder


def assert_as_analysed(seen: dict[str, Any], folder: Path) -> None:
    found = Guidance.of(Curves.of(folder))
    assert seen["individual"].tolist() == found.ids.tolist() and seen["step"].tolist() == found.step.tolist()
    assert seen["predicted"] == pytest.approx(found.predicted, abs=1e-6)
    assert seen["measured"] == pytest.approx(found.measured, abs=1e-6)
    assert seen["rank_correlation"] == found.correlation is not None
    assert [{**one, "chance": None} for one in seen["windows"]] == [
        {**one, "chance": None} for one in found.numbers()["windows"]
    ]


def test_all_at_once_where_there_is_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "SLICE", 1e6)
    seen = predictions.predictions(followed(folder), {})
    assert (seen["available"], seen["computing"], seen["computed"], seen["every"]) == (True, False, seen["of"], 1)
    assert_as_analysed(seen, folder)


def test_one_a_look_where_there_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "SLICE", -1.0)
    run, looks = followed(folder), 0
    while (seen := predictions.predictions(run, {}))["computing"]:
        looks += 1
        assert (seen["available"], seen["computed"]) == (True, looks)
    assert looks + 1 == seen["of"] > 30
    assert_as_analysed(seen, folder)


def test_what_is_known_stays_known_while_the_search_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "SLICE", 1e6)
    whole, run = followed(folder), followed(folder)
    before = Population(whole.stored.population.space, whole.stored.population.replicates)
    evaluated = whole.stored.population.evaluated.tolist()
    for id in range(len(whole.stored.population)):
        before.add(whole.stored.population.individual(id))
    for id in evaluated[:50]:
        before.settle(whole.stored.population.result(id))
    run.stored.population = before
    early = predictions.predictions(run, {})
    asked = list[int]()
    predicted = type(predictions._known[before].strategy).predicted

    def counted(self: Any, population: Population, view: int, id: int) -> float | None:
        asked.append(id)
        return predicted(self, population, view, id)

    monkeypatch.setattr(type(predictions._known[before].strategy), "predicted", counted)
    for id in evaluated[50:]:
        before.settle(whole.stored.population.result(id))
    late = predictions.predictions(run, {})
    assert sorted(asked) == sorted(set(asked) & set(evaluated[50:])) and 10 < len(asked) <= 20
    assert late["individual"].tolist()[: len(early["individual"])] == early["individual"].tolist()
    assert_as_analysed(late, folder)


def test_of_many_individuals_those_of_a_larger_part_hold_those_of_a_smaller(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    population, found = followed(folder).stored.population, list[set[int]]()
    for most, every in ((64, 1), (26, 2), (13, 4)):
        monkeypatch.setattr(predictions, "MOST", most)
        steps, of = predictions._steps(population)
        assert of == every and len(steps) <= most
        found.append(set(steps.tolist()))
    assert found[0] > found[1] > found[2]


def test_another_strategy_and_a_search_that_has_not_begun(tmp_path: Path) -> None:
    seen = predictions.predictions(followed(empty(tmp_path / "empty")), {})
    assert (seen["available"], seen["why"]) == (False, "the strategy of this search, tournament, predicts nothing")
    created(tmp_path / "guided", strategy="guided").close()
    assert predictions.predictions(followed(tmp_path / "guided"), {})["why"] == "the search has not begun"


def test_where_the_model_has_chosen_nothing(tmp_path: Path) -> None:
    seen = predictions.predictions(followed(steady(tmp_path / "run", [0.5] * 30, 10.0, strategy="guided")), {})
    assert seen["why"] == (
        "no individual is evaluated that the model has chosen; predictions: nothing yet: too few evaluations, or all "
        "equally fit"
    )
    assert np.size(seen["predicted"]) == 0 and not seen["available"]
