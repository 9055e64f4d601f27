"""Settings of learning curves and early stopping: what is refused and how, there and back, and what may change."""

from __future__ import annotations

from pathlib import Path

import pytest
from curved import settings

from hpcnas.config import options
from hpcnas.config import search as search_config
from hpcnas.config.bounds import RUNGS
from hpcnas.config.search import SearchConfig, TrainingSettings, build, differences, lasting, parse_toml
from hpcnas.config.settings import ConfigError
from hpcnas.search.file_store import FileStore
from hpcnas.search.session import RunRefused, SearchSession


def made(rungs: object = (0.1, 0.3), steps: int = 1000, **search: object) -> SearchConfig:
    given = list(rungs) if isinstance(rungs, tuple) else rungs
    return build({"training": {"rungs": given, "steps": steps}, "search": search})


def test_the_default_is_no_rungs() -> None:
    config = build({})
    assert (config.training.rungs, config.training.rung_steps, config.search.early_stopping) == ((), (), False)


@pytest.mark.parametrize(
    ("rungs", "steps", "expected"),
    [((0.1, 0.3), 1000, (100, 300)), ((0.001,), 10, (1,)), ((0.9,), 2, None), ((0.5,), 2, (1,)),
     ((0.25, 0.75), 4, (1, 3))],
)  # fmt: skip
def test_steps_of_rungs(rungs: tuple[float, ...], steps: int, expected: tuple[int, ...] | None) -> None:
    if expected is None:
        with pytest.raises(ConfigError, match="expected a step of its own"):
            made(rungs, steps)
    else:
        assert made(rungs, steps).training.rung_steps == expected


@pytest.mark.parametrize(
    ("rungs", "message"),
    [
        ((0.3, 0.1), "expected rising shares between 0 and 1"),
        ((0.3, 0.3), "expected rising shares between 0 and 1"),
        ((0.0, 0.3), "expected rising shares between 0 and 1"),
        ((0.3, 1.0), "expected rising shares between 0 and 1"),
        ((-0.1,), "training.rungs"),
        ((1.1,), "training.rungs"),
        ((float("nan"),), "training.rungs"),
        ((float("inf"),), "training.rungs"),
        ((0.1, 0.1001), "expected a step of its own for each .*, before the last of 1000, got the steps 100, 100"),
        ((0.9999,), "expected a step of its own for each .*, before the last of 1000, got the steps 1000"),
        (tuple((one + 1) / (RUNGS + 2) for one in range(RUNGS + 1)), f"expected at most {RUNGS}, got {RUNGS + 1}"),
        ("0.1", "training.rungs"),
        (0.1, "training.rungs"),
    ],
)
def test_wrong_rungs(rungs: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        made(rungs)
    assert "\n" not in str(caught.value)


def test_as_many_rungs_as_are_allowed() -> None:
    assert len(made(tuple((one + 1) / (RUNGS + 1) for one in range(RUNGS))).training.rung_steps) == RUNGS


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"strategy": "nsga2"}, "search.early_stopping: expected a strategy that goes by fitness alone, got nsga2"),
        ({"duplicates": "average"}, "search.duplicates: expected retrain or resample with early stopping"),
        ({"early_stopping_confidence": 0.4}, "search.early_stopping_confidence"),
        ({"early_stopping_confidence": 1.0}, "search.early_stopping_confidence"),
    ],
)
def test_what_early_stopping_does_not_go_with(search: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(early_stopping=True, **search)


def test_early_stopping_without_rungs() -> None:
    with pytest.raises(ConfigError, match=r"expected rungs to stop at, such as --rungs 0.1 0.3, got none"):
        made((), early_stopping=True)


@pytest.mark.parametrize("search", [{"strategy": "nsga2"}, {"duplicates": "average"}])
def test_rungs_alone_go_with_everything(search: dict[str, object]) -> None:
    assert made(**search).training.rungs == (0.1, 0.3)


@pytest.mark.parametrize(
    "more",
    [{}, {"racing": True}, {"confirm": 3}, {"scheduling": "replicate"}, {"strategy": "aging"},
     {"strategy": "guided", "duplicates": "resample"}],
)  # fmt: skip
def test_what_early_stopping_goes_with(more: dict[str, object]) -> None:
    assert made(early_stopping=True, **more).search.early_stopping


def test_a_command_line_and_toml_there_and_back() -> None:
    words = "--rungs 0.1 0.3 --early-stopping --early-stopping-confidence 0.9 --steps 100"
    request = options.parse(words.split())
    config = build(*request.base, *request.layers)
    assert (config.training.rungs, config.search.early_stopping) == ((0.1, 0.3), True)
    assert config.search.early_stopping_confidence == 0.9
    again, _ = parse_toml(config.toml(), "a file")
    assert build(again) == config
    assert "rungs = [0.1, 0.3]\n" in config.toml()


def test_no_rungs_in_toml_there_and_back() -> None:
    config = build({})
    again, _ = parse_toml(config.toml(), "a file")
    assert build(again) == config
    assert TrainingSettings().rungs == ()


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"rungs": [0.1]}},
        {"training": {"rungs": [0.1, 0.5]}},
        {"search": {"early_stopping": False}},
        {"search": {"early_stopping_confidence": 0.9}},
        {"training": {"rungs": []}, "search": {"early_stopping": False}},
    ],
)
def test_a_run_goes_on_with_its_rungs_alone(change: dict[str, dict[str, object]]) -> None:
    config = settings()
    assert differences(config, build(lasting(config), change)) != []


def run(folder: Path, config: SearchConfig) -> None:
    from examples import SESSION

    store = FileStore.create(folder, config)
    store.begin(SESSION)
    store.compact()
    store.close()


def test_a_run_refuses_other_rungs_and_takes_the_same(tmp_path: Path) -> None:
    run(tmp_path / "run", settings())
    given = ["--run", str(tmp_path / "run")]
    with pytest.raises(RunRefused, match=r"training.rungs: .*0\.1"):
        SearchSession.open(options.parse([*given, "--rungs", "0.2"]))
    with pytest.raises(RunRefused, match=r"search.early_stopping_confidence"):
        SearchSession.open(options.parse([*given, "--early-stopping-confidence", "0.9"]))
    for more in ([], ["--rungs", "0.1", "0.3", "--early-stopping"], ["--budget", "500"]):
        session = SearchSession.open(options.parse([*given, *more]))
        assert session.config.training.rungs == (0.1, 0.3)
        session.close()


def test_an_older_run_goes_on_without_rungs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SearchConfig.toml
    added = ("rungs", "early_stopping")

    def older(config: SearchConfig) -> str:
        return "".join(line for line in whole(config).splitlines(keepends=True) if not line.startswith(added))

    monkeypatch.setattr(SearchConfig, "toml", older)
    run(tmp_path / "run", search_config.build({"evaluation": {"evaluator": "synthetic"}}))
    monkeypatch.undo()
    session = SearchSession.open(options.parse(["--run", str(tmp_path / "run")]))
    assert (session.config.training.rungs, session.config.search.early_stopping) == ((), False)
    session.close()
    with pytest.raises(RunRefused, match=r"training.rungs"):
        SearchSession.open(options.parse(["--run", str(tmp_path / "run"), "--rungs", "0.2"]))
