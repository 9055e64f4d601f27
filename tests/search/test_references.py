"""What RUN[:…], FILE and paper name: one table for all who ask, and each of them keeps to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from toolruns import CHAIN, POOLING, SHORTCUT, UNUSED, empty, eventful

from hpcnas.analysis import runs
from hpcnas.architecture import genotype
from hpcnas.architecture.genotype import Genotype
from hpcnas.config import search as search_config
from hpcnas.config.settings import ConfigError
from hpcnas.errors import Error
from hpcnas.evolution.initial import kept
from hpcnas.retrain.origin import resolve_genotype
from hpcnas.search import references
from hpcnas.search.initial import looked_up
from hpcnas.search.references import ById, Fittest, InFile, Paper

PAPER = genotype.named("paper")

# By fitness: 4 POOLING, 1 SHORTCUT, 2 UNUSED, 0 CHAIN, of which the last two are the same network; 3 CHAIN has failed.
TABLE = [
    ("run", [POOLING]),
    ("run:best", [POOLING]),
    ("run:top1", [POOLING]),
    ("run:top2", [POOLING, SHORTCUT]),
    ("run:top3", [POOLING, SHORTCUT, UNUSED]),
    ("run:0", [CHAIN]),
    ("run:1", [SHORTCUT]),
    ("run:3", [CHAIN]),
    ("run:004", [POOLING]),
    ("odd:3", [POOLING]),
    ("odd:3:0", [CHAIN]),
    ("odd:3:top2", [POOLING, SHORTCUT]),
    ("odd.toml", [POOLING]),
    ("odd.toml:1", [SHORTCUT]),
    ("chain.toml", [CHAIN]),
    ("no-suffix", [CHAIN]),
    ("file:2", [CHAIN]),
    ("two.toml", [CHAIN, POOLING]),
    ("paper", [PAPER]),
]
EXPECTED = "expected RUN, RUN:best, RUN:ID, RUN:topK, FILE.toml or paper"
CHOICE = "expected best, topK with K from 1, or the number of an individual, from 0, after the colon, got"
WRONG = [
    ("run:5", "run:5: expected an individual from 0 to 4, got 5"),
    ("run:999999999999999999", "run:999999999999999999: expected an individual from 0 to 4, got 999999999999999999"),
    ("run:1000000000000000000", f"run:1000000000000000000: {CHOICE} '1000000000000000000'"),
    ("run:top0", f"run:top0: {CHOICE} 'top0'"),
    ("run:top", f"run:top: {CHOICE} 'top'"),
    ("run:top-1", f"run:top-1: {CHOICE} 'top-1'"),
    ("run:top9999999999", f"run:top9999999999: {CHOICE} 'top9999999999'"),
    ("run:-1", f"run:-1: {CHOICE} '-1'"),
    ("run:", f"run:: {CHOICE} ''"),
    ("run:Best", f"run:Best: {CHOICE} 'Best'"),
    ("run: 1", f"run: 1: {CHOICE} ' 1'"),
    ("run:٣", f"run:٣: {CHOICE} '٣'"),
    ("run:0:1", f"run:0:1: {EXPECTED}, but there is nothing named run:0"),
    ("empty", "empty: no individual has been evaluated yet, so there is no best one"),
    ("empty:best", "empty:best: no individual has been evaluated yet, so there is no best one"),
    ("empty:top1", "empty:top1: no individual has been evaluated yet, so there is no best one"),
    ("empty:0", "empty:0: no individual has been born yet, so there is no 0"),
    ("nothing", f"nothing: {EXPECTED}, but there is nothing named nothing"),
    ("nothing:3", f"nothing:3: {EXPECTED}, but there is nothing named nothing"),
    ("nothing:some", f"nothing:some: {EXPECTED}, but there is nothing named nothing:some"),
    (":3", f":3: {EXPECTED}, but there is nothing named "),
    ("folder", "folder: expected a run in folder, but there is no population.h5"),
    ("folder:3", "folder:3: expected a run in folder, but there is no population.h5"),
    ("nothing.toml", "nothing.toml: expected a readable file: No such file or directory"),
    ("no-suffix:0", "no-suffix:0: expected the folder of a run before the colon, but no-suffix is none"),
    ("paper:best", f"paper:best: {EXPECTED}, but there is nothing named paper"),
]


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("named")
    for name in ("run", "odd:3", "odd.toml"):
        eventful(folder / name)
    empty(folder / "empty")
    (folder / "folder").mkdir()
    for name in ("chain.toml", "no-suffix", "file:2"):
        (folder / name).write_text("# the chain\n" + CHAIN.text())
    (folder / "two.toml").write_text(CHAIN.text() + "\n# a remark\n" + POOLING.text())
    return folder


@pytest.fixture(autouse=True)
def at(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(where)


def initial(text: str) -> Sequence[Genotype]:
    """By `--initial`, in the space of what is expected."""
    space = "hierarchical" if text == "paper" else "2x3/1x3"
    settings = looked_up(search_config.build({"search": {"space": space, "initial": text}}))
    return kept(settings.space, settings.search.initial)


SINGLE: dict[str, Callable[[str], Genotype]] = {
    "--genotype": lambda text: resolve_genotype(text)[0],
    "named_genotype": lambda text: runs.named_genotype(text)[1],
    "individual": lambda text: references.individual(text).genotype,
}
PREFIX = {"--initial": "search.initial: ", "--genotype": "--genotype "}


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_where_several_are_wanted(text: str, expected: Sequence[Genotype]) -> None:
    assert list(initial(text)) == expected
    assert [found.genotype for found in references.several(text)] == expected


@pytest.mark.parametrize("caller", SINGLE)
@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_where_one_is_wanted(text: str, expected: Sequence[Genotype], caller: str) -> None:
    file = text in ("chain.toml", "no-suffix", "file:2", "two.toml", "paper")
    problem = None
    if caller == "individual" and file:
        problem = "expected an individual of a run: RUN, RUN:best or RUN:ID"
    elif len(expected) > 1 and file:
        problem = f"expected a file of one genotype, but it holds {len(expected)}"
    elif len(expected) > 1:
        problem = f"expected one individual, but {text} names {len(expected)}"
    if problem is None:
        assert [SINGLE[caller](text)] == expected
        return
    with pytest.raises((Error, ConfigError)) as error:
        SINGLE[caller](text)
    assert str(error.value) == f"{PREFIX.get(caller, '')}{text}: {problem}"


@pytest.mark.parametrize("caller", ["--initial", *SINGLE])
@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_names_nothing(text: str, message: str, caller: str) -> None:
    if caller == "individual" and text == "nothing.toml":
        message = "nothing.toml: expected an individual of a run: RUN, RUN:best or RUN:ID"
    with pytest.raises((Error, ConfigError)) as error:
        (SINGLE | {"--initial": initial})[caller](text)
    assert str(error.value) == f"{PREFIX.get(caller, '')}{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run:top4", "run:top4: expected a run that has evaluated 4 different networks, but it has 3"),
        ("empty:top2", "empty:top2: no individual has been evaluated yet, so there is no best one"),
        ("run:1\n", "run:1\n: " + CHOICE + r" '1\n'"),
        ("\0", f"\0: {EXPECTED}, but there is nothing named \0"),
        ("", f"a reference: {EXPECTED}, got nothing"),
    ],
)
def test_what_names_too_few_or_nothing_that_can_be(text: str, message: str) -> None:
    with pytest.raises(references.WrongReference) as error:
        references.several(text)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("run", Fittest(Path("run"), 1)),
        ("run/:best", Fittest(Path("run"), 1)),
        ("run:top20", Fittest(Path("run"), 20)),
        ("run:20", ById(Path("run"), 20)),
        ("no-suffix", InFile(Path("no-suffix"))),
        ("not/there.toml", InFile(Path("not/there.toml"))),
        ("/dev/null", InFile(Path("/dev/null"))),
        ("paper", Paper()),
    ],
)
def test_what_is_written(text: str, reference: references.Reference) -> None:
    assert references.parse(text) == reference


def test_a_file_or_a_folder_that_is_called_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("paper").write_text(CHAIN.text())
    assert references.one("paper").genotype == CHAIN
    Path("paper").unlink()
    eventful(Path("paper"))
    assert references.one("paper").genotype == POOLING
    assert references.one("paper:0").genotype == CHAIN


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run", ["initial: individual 4 of run"]),
        ("run:3", ["initial: individual 3 of run"]),
        ("run:top3,odd:3:1", ["initial: individuals 4, 1, 2 of run", "initial: individual 1 of odd:3"]),
        ("chain.toml", []),
    ],
)
def test_which_individuals_a_search_begins_with_is_said(text: str, said: Sequence[str]) -> None:
    heard: list[str] = []
    looked_up(search_config.build({"search": {"space": "2x3/1x3", "initial": text}}), heard.append)
    assert heard == said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run,2", [POOLING]),
        ("run,2:0", [CHAIN]),
        ("run:0,run,2:best", [CHAIN, POOLING]),
        ("chain,1.toml,run", [CHAIN, POOLING]),
        ("run,chain,1.toml", [POOLING, CHAIN]),
        ("run,run:0", [POOLING, CHAIN]),
    ],
)
def test_a_path_with_a_comma_that_is_there_is_that_path(
    text: str, expected: Sequence[Genotype], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("run", "run,2"):
        eventful(Path(name))
    Path("chain,1.toml").write_text(CHAIN.text())
    assert list(initial(text)) == expected


def test_a_choice_of_a_folder_with_a_comma_is_read_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    eventful(Path("run,2"))
    with pytest.raises(ConfigError, match=r"^search\.initial: run,2:most: expected best, topK"):
        initial("run,2:most")


@pytest.mark.parametrize(("text", "name"), [("run", "run-4"), ("odd:3:0", "odd:3-0"), ("chain.toml", "chain")])
def test_names_for_titles_and_files(text: str, name: str) -> None:
    assert references.one(text).name == name
