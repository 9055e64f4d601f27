"""What the project brings itself passes the contract suites."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from patience import GUARD

from hpcnas import plugins
from hpcnas.config.data_spec import DataError
from hpcnas.config.search import SearchConfig
from hpcnas.data import datasets
from hpcnas.evolution.aging import AgingEvolution
from hpcnas.evolution.guided import Guided
from hpcnas.evolution.nsga2 import Nsga2
from hpcnas.evolution.random_search import RandomSearch
from hpcnas.evolution.tournament import TournamentEvolution
from hpcnas.job.devices import Binding
from hpcnas.plugins import DataKind, Plugin
from hpcnas.search.synthetic import SyntheticEvaluator
from hpcnas.testing.data import DataContract
from hpcnas.testing.evaluators import EvaluatorContract
from hpcnas.testing.strategies import StrategyContract
from hpcnas.training.trainer_process import TrainerEvaluator


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others of this process may have loaded plugins of the same names."""
    monkeypatch.delenv(plugins.VARIABLE, raising=False)


class TestTournament(StrategyContract):
    plugin = Plugin(strategies={"own-tournament": TournamentEvolution.of})


class TestSampledTournament(StrategyContract):
    plugin = Plugin(strategies={"own-tournament": TournamentEvolution.of})
    settings = {"tournament_draw": "sample", "tournament_fraction": 0.3}


class TestResampling(StrategyContract):
    plugin = Plugin(strategies={"own-tournament": TournamentEvolution.of})
    settings = {"duplicates": "resample", "space": "2x3/1x3"}


class TestAging(StrategyContract):
    plugin = Plugin(strategies={"own-aging": AgingEvolution.of})
    settings = {"aging_population": 8, "aging_sample": 3}


class TestRandom(StrategyContract):
    plugin = Plugin(strategies={"own-random": RandomSearch.of})


class TestNsga2(StrategyContract):
    plugin = Plugin(strategies={"own-nsga2": Nsga2.of})
    settings = {"survivors": 6}
    test_those_that_were_measured_again_are_no_parents = None  # a search refuses `average` with it


class TestGuided(StrategyContract):
    plugin = Plugin(strategies={"own-guided": Guided.of})
    births = 60


class TestGuidedResampling(StrategyContract):
    plugin = Plugin(strategies={"own-guided": Guided.of})
    settings = {"duplicates": "resample", "space": "2x3/1x3"}
    births = 60


class TestSynthetic(EvaluatorContract):
    plugin = Plugin(evaluators={"own-synthetic": lambda config, binding: SyntheticEvaluator(config)})


class TestSyntheticFailures(EvaluatorContract):
    plugin = Plugin(evaluators={"own-synthetic": lambda config, binding: SyntheticEvaluator(config)})
    settings = {"evaluation": {"synthetic_crashes": 0.5, "synthetic_nans": 0.3, "synthetic_seconds": 0.01}}


def trainer(config: SearchConfig, binding: Binding) -> TrainerEvaluator:
    """Its child cannot load this file's plugin, and does not need to."""
    return TrainerEvaluator(replace(config, search=replace(config.search, plugins=None)), binding)


class TestTraining(EvaluatorContract):
    plugin = Plugin(evaluators={"training-of-ours": trainer})
    patience = quickly = GUARD  # a busy machine breaks nothing
    settings = {
        "search": {"space": "1x3"},
        "network": {"channels": 2, "groups": 1},
        "training": {"steps": 2, "batch_size": 8},
    }


def own_data(source: str) -> Plugin:
    """What the program reads by that name, as a plugin's."""

    def read(rest: str, split: str, download: bool) -> tuple[tuple[str, ...], Any, Any]:
        if rest:
            raise DataError(f"expected nothing after own:, got {rest}")
        found = {"train": datasets.load_training, "test": datasets.load_test}[split](source)
        return found.classes, found.images.pixels, found.images.labels

    return Plugin(data={"own": DataKind("own", read)})


class TestDigits(DataContract):
    plugin = own_data("digits")
    source = "own"
    wrong = ("own:more",)


class TestSyntheticImages(DataContract):
    plugin = own_data("synthetic:50:1x9x12")
    source = "own"
