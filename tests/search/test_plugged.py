"""Errors inside plugins: told as theirs, in one line, with the traceback in RUN/log and the right exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mpi as launcher
import numpy as np
import pytest
from examples import CONFIG, FACTS, SESSION, SPACE, individual, population

from hpcnas import plugins
from hpcnas.architecture import primitives
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.mutation import NothingAllowed
from hpcnas.architecture.primitives import Primitive
from hpcnas.config import search as search_config
from hpcnas.config.data_spec import DataError, DataFacts
from hpcnas.data import datasets
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.registry import PluggedStrategy
from hpcnas.evolution.strategy import Proposal
from hpcnas.messages import Evaluation, Failure, FailureKind, Place, Ready, Result, Task
from hpcnas.plugins import DataKind, Plugin, PluginError, PluginFault
from hpcnas.search import job, run_file
from hpcnas.search.file_store import FileStore
from hpcnas.search.methods import Worker
from hpcnas.search.plugged import PluggedEvaluator
from hpcnas.training.evaluator import EvaluatorRefused, Loaded, checked, described

ROOT = Path(__file__).parents[2]
BROKEN = '''
import os
import numpy as np
from hpcnas.plugins import DataKind, Plugin
from hpcnas.architecture.primitives import Primitive
from hpcnas.search.synthetic import SyntheticEvaluator

WHERE = os.environ.get("WHERE")


def fails(where):
    if where == WHERE:
        raise ValueError(f"no\\nluck \\x1b[31m at {where}")


class Evaluator(SyntheticEvaluator):
    def __init__(self, config, binding):
        fails("init")
        super().__init__(config)

    def ready(self, timeout):
        fails("ready")
        return super().ready(timeout)

    def start(self, task):
        fails("start")
        super().start(task)

    def poll(self, timeout):
        fails("poll")
        return super().poll(timeout)

    def close(self):
        fails("close")


class Strategy:
    def __init__(self, breeding):
        fails("strategy")
        self.breeding = breeding

    def ask(self, population, id, view):
        if id == 3:
            fails("ask")
        return self.breeding.initial(population, id)


def read(rest, split, download):
    fails("read")
    return ("a", "b"), np.eye(8, dtype=np.uint8)[None, :, :, None].repeat(64, 0), np.arange(64) % 2


def parameters(inputs, outputs):
    fails("parameters")
    return 0


def build(inputs, outputs):
    fails("build")
    from torch import nn

    return nn.Identity()


plugin = Plugin(
    primitives=(Primitive("odd", True, parameters, lambda inputs, outputs: 0, build),),
    data={"odd": DataKind("odd", read)},
    strategies={"odd": lambda search, breeding: Strategy(breeding)},
    evaluators={"odd": Evaluator},
)
'''
BRIEF = "--plugin broken --budget 6 --initial-population 6 --progress plain --run run".split()
EVALUATOR, STRATEGY = ["--evaluator", "odd"], ["--strategy", "odd", "--evaluator", "synthetic"]
TRAINED = (
    "--replicates 1 --steps 2 --batch-size 8 --channels 2 --threads 1 --initial-mutations 100 --max-failures 2 "
    "--space 1x4+odd"
).split()
LUCK = r"raised ValueError: no luck \\x1b\[31m at {where} \(broken\.py:\d+\)"


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PYTHONPATH with a plugin that fails at $WHERE."""
    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def search(folder: Path, where: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpcnas", *BRIEF, *options]
    environment = {**os.environ, "WHERE": where}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("where", "options", "told"),
    [
        ("init", EVALUATOR, r"rank 0 on \S+ \(cpu\): plugin 'broken': evaluator 'odd' "),
        ("ready", EVALUATOR, r"rank 0 on \S+ \(cpu\): plugin 'broken': evaluator 'odd': `ready` "),
        ("start", EVALUATOR, r"rank 0 on \S+ \(cpu\): plugin 'broken': evaluator 'odd': `start` "),
        ("poll", EVALUATOR, r"rank 0 on \S+ \(cpu\): plugin 'broken': evaluator 'odd': `poll` "),
        ("strategy", STRATEGY, r"plugin 'broken': strategy 'odd' "),
        ("ask", STRATEGY, r"plugin 'broken': strategy 'odd': `ask` "),
        (
            "parameters", ["--evaluator", "synthetic", "--max-parameters", "999999", "--space", "1x4+odd"],
            r"plugin 'broken': `parameters` of primitive 'odd' ",
        ),
    ],
)  # fmt: skip
def test_a_fault_ends_the_search_at_once(where: str, options: list[str], told: str, broken: Path) -> None:
    """With one rank, the worker is a thread of the controller's process; the test's own limit is what "at once" is."""
    done = search(broken, where, *options, "--grace", "600")  # it waits for workers for 0.7 of it, where they are there
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    errors = [line for line in done.stdout.splitlines() if " ERROR " in line]
    assert len(errors) == 1 and re.search(rf" ERROR {told}{LUCK.format(where=where)}$", errors[0]), errors
    assert "Traceback" not in done.stdout
    logged = (broken / "run" / "log").read_text()
    assert errors[0] in logged and "DEBUG Traceback (most recent call last):" in logged
    assert 'in fails\n  ' in logged and "\x1b" not in logged
    assert "state=broken" in (broken / "run" / "status").read_text()
    assert search(broken, "nowhere", *options).returncode == 0  # mended


def test_a_fault_on_another_rank_ends_the_search(one_mpi: launcher.Mpi, broken: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("WHERE", "poll")
    done = launcher.run(one_mpi, 3, ["-m", "hpcnas", *BRIEF, *EVALUATOR, "--grace", "600"], cwd=broken)
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    errors = [line for line in done.stdout.splitlines() if " ERROR " in line]
    told = rf" ERROR rank [12] on \S+ \(cpu\): plugin 'broken': evaluator 'odd': `poll` {LUCK.format(where='poll')}$"
    assert len(errors) == 1 and re.search(told, errors[0])
    assert "DEBUG Traceback (most recent call last):" in (broken / "run" / "log").read_text()


def test_what_goes_wrong_in_closing_changes_no_result(broken: Path) -> None:
    done = search(broken, "close", *EVALUATOR)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"WARNING plugin 'broken': evaluator 'odd': `close` {LUCK.format(where='close')}\n", done.stdout)


@pytest.mark.parametrize(("where", "exit_code"), [("init", 1), ("ready", 1), ("read", 2)])
def test_a_dry_run_tells_of_it_in_one_line(where: str, exit_code: int, broken: Path) -> None:
    options = ["--data", "odd", *TRAINED] if where == "read" else EVALUATOR
    done = search(broken, where, *options, "--dry-run")
    assert done.returncode == exit_code and done.stdout == ""
    assert done.stderr.count("\n") == 1 and re.search(LUCK.format(where=where), done.stderr), done.stderr


def test_data_that_cannot_be_read_are_told_as_the_plugins(broken: Path) -> None:
    done = search(broken, "read", "--data", "odd", *TRAINED)
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr
    assert re.search(rf"odd: plugin 'broken': `read` of 'odd' {LUCK.format(where='read')}", done.stdout), done.stdout


@pytest.mark.parametrize("where", ["build", "parameters"])
def test_networks_that_cannot_be_built_are_failures_that_name_the_plugin(where: str, broken: Path) -> None:
    done = search(broken, where, "--data", "odd", *TRAINED)
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    told = rf"failed \(error, attempt 1\) .*plugin 'broken': `{where}` of primitive 'odd' {LUCK.format(where=where)}"
    assert re.search(told, done.stdout), done.stdout


def test_a_retraining_tells_of_it_too(broken: Path) -> None:
    (broken / "odd.toml").write_text(
        'format = "hpcnas genotype 1"\nspace = "1x3+odd"\n\n[level-2]\nM1 = ["1-2 odd", "2-3 sep"]\n'
    )
    small = "--channels 4 --cells 1 --steps 2 --batch-size 8 --micro-batch 4 --threads 1 --progress plain".split()
    command = ["-m", "hpcnas.retrain", "--preset", "quick", *small, "--plugin", "broken", "--genotype", "odd.toml"]
    done = subprocess.run([sys.executable, *command, "--run", "large"], cwd=broken, capture_output=True, text=True,
                          env={**os.environ, "WHERE": "build"})  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert re.search(rf"plugin 'broken': `build` of primitive 'odd' {LUCK.format(where='build')}", done.stderr)
    assert "DEBUG Traceback" in (broken / "large" / "log").read_text()
    assert "state=broken" in (broken / "large" / "status").read_text()


# Without a process


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(primitives, "ADDED", [])


def bring(plugin: Plugin) -> None:
    plugins._loaded["mine"] = plugin


class Scripted:
    """An evaluator of a plugin that gives what it is told to."""

    ready_with: Any = Loaded(FACTS, {"x": "1"})
    outcome: Any = None

    def ready(self, timeout: float) -> Any:
        if isinstance(self.ready_with, Exception):
            raise self.ready_with
        return self.ready_with

    def start(self, task: Task) -> None:
        pass

    def poll(self, timeout: float) -> Any:
        return self.outcome

    def save(self, timeout: float) -> None:
        raise OSError("no room")

    def close(self) -> None:
        pass


BINDING: Any = None  # no evaluator here looks at it
TASK = Task(7, 1, Genotype(SPACE, bytes(9)), (1, 2))


def plugged(inner: Scripted) -> PluggedEvaluator:
    bring(Plugin(evaluators={"own": lambda settings, binding: inner}))
    with plugins.done_without(lambda names: None):
        settings = search_config.build({"search": {"plugins": "mine"}, "evaluation": {"evaluator": "own"}})
    found = job.make_evaluator(settings, BINDING)
    assert isinstance(found, PluggedEvaluator)
    return found


def test_numpys_numbers_in_facts_are_numbers() -> None:
    inner = Scripted()
    inner.ready_with = Loaded(replace(FACTS, classes=np.int64(10), height=np.int32(32)), {"x": np.str_("1")})
    found = plugged(inner).ready(0.0)
    assert found == Loaded(FACTS, {"x": "1"}) and found is not None
    assert type(found.facts.classes) is int and type(found.software["x"]) is str


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("yes", "expected Loaded or None from `ready`, got str"),
        (Loaded(replace(FACTS, classes=2.5), {}), "expected a whole number for classes, got 2.5"),  # type: ignore[arg-type]
        (Loaded(replace(FACTS, height=0), {}), "expected of the data height an integer from 1 to 1048576, got 0"),
        (Loaded(replace(FACTS, classes=0), {}), "expected of the data classes an integer from 1 to 16777216, got 0"),
        (Loaded(None, {}), "expected DataFacts and a dict of software in Loaded, got NoneType and dict"),  # type: ignore[arg-type]
    ],
)
def test_what_is_not_loaded_is_a_fault(given: Any, message: str) -> None:
    inner = Scripted()
    inner.ready_with = given
    with pytest.raises(PluginFault) as fault:
        plugged(inner).ready(0.0)
    assert str(fault.value) == f"plugin 'mine': evaluator 'own': {message}"


def test_what_is_let_through_can_be_read_back(tmp_path: Path) -> None:
    largest = DataFacts(1 << 16, 1 << 20, 1 << 20, 1 << 24, 1 << 40, 1 << 40, fingerprint="\ud800")
    store = FileStore.create(tmp_path, CONFIG)
    for number, facts in enumerate([DataFacts(1, 1, 1, 1, 0, 0, fingerprint=""), largest]):
        inner = Scripted()
        inner.ready_with = Loaded(facts, {"training": "odd \ud800"}, slower=None)  # type: ignore[arg-type]
        found = plugged(inner).ready(0.0)
        assert found is not None
        store.begin(replace(SESSION, software=found.software, facts=found.facts))
        worker = Worker.of(Ready(Place(1, "host", "cpu"), found.facts, found.software, found.slower), number)
        assert worker is not None
        store.join(worker)
    for id, seconds in enumerate([0.0, 1e15]):
        store.birth(individual(id))
        answer = checked(Evaluation((0.0, 1.0), 2**63 - 1, seconds, seconds, seconds), TASK)
        assert isinstance(answer, Evaluation)
        store.settle(Result(id, 1, Place(1, "host", "cpu"), 1.0, 2.0, answer))
    store.commit()
    store.close()
    again = FileStore.open(tmp_path)  # out of the journal
    assert [session.facts for session in again.sessions][1] == largest and len(again.workers) == 2
    again.compact()
    again.close()
    assert run_file.examine(tmp_path)[1] == []
    assert len(run_file.read(tmp_path).population.evaluated) == 2


def test_a_refusal_in_leaving_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*arguments: object) -> None:
        raise EvaluatorRefused("the licence has gone")

    inner = Scripted()
    inner.save = inner.close = refuse  # type: ignore[method-assign, assignment]
    evaluator = plugged(inner)
    evaluator.ready(0.0)
    with caplog.at_level("WARNING", logger="hpcnas"):
        evaluator.save(1.0)
        evaluator.close()
    assert caplog.messages == ["the licence has gone"] * 2


def test_warnings_that_raise_are_a_fault() -> None:
    inner: Any = Scripted()
    inner.warnings = lambda: {}["odd"]
    evaluator = plugged(inner)
    evaluator.ready(0.0)
    with pytest.raises(PluginFault, match="own': `warnings` raised KeyError: 'odd'"):
        evaluator.warnings()
    assert evaluator.warnings() == []


def test_a_refusal_is_no_fault() -> None:
    inner = Scripted()
    inner.ready_with = EvaluatorRefused("there is no licence")
    with pytest.raises(EvaluatorRefused, match="^there is no licence$"):
        plugged(inner).ready(0.0)


def test_an_answer_that_is_none_names_the_plugin(caplog: pytest.LogCaptureFixture) -> None:
    inner = Scripted()
    inner.outcome = 0.5
    evaluator = plugged(inner)
    evaluator.ready(0.0)
    evaluator.start(TASK)
    message = "expected an Evaluation or a Failure from plugin 'mine': evaluator 'own', got float"
    answer: Any = evaluator.poll(0.0)
    assert checked(answer, TASK, described(evaluator)) == Failure(FailureKind.ERROR, message)
    assert evaluator.warnings() == []
    with caplog.at_level("WARNING", logger="hpcnas"):
        evaluator.save(1.0)
        evaluator.close()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("plugin 'mine': evaluator 'own': `save` raised OSError: no room (test_")


class Answering:
    """A strategy of a plugin that answers this."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def ask(self, population: Any, id: int, view: int) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def bar(self, population: Any, view: int) -> Any:
        return self.answer


PROPOSAL = Proposal(individual(0).genotype, Birth.MUTATION, 0, 3)


def test_numpys_numbers_in_proposals_are_numbers() -> None:
    given = replace(PROPOSAL, parent=np.int64(0), redrawn=np.uint8(3), birth=2)  # type: ignore[arg-type]
    found = PluggedStrategy("x", Answering(given)).ask(population(births=1), 1, 0)
    assert found == PROPOSAL and type(found.parent) is int and type(found.redrawn) is int
    assert found.birth is Birth.MUTATION
    assert PluggedStrategy("x", Answering(np.float32(0.5))).bar(population(births=1), 0) == 0.5


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "x: `ask`: expected a Proposal of space 2x3/1x3, got None"),
        (replace(PROPOSAL, parent=-1), "x: `ask`: expected a whole number for parent, got -1"),
        (replace(PROPOSAL, redrawn=None), "x: `ask`: expected a whole number for redrawn, got None"),  # type: ignore[arg-type]
        (replace(PROPOSAL, known=0.5), "x: `ask`: expected a whole number for known, got 0.5"),  # type: ignore[arg-type]
        (replace(PROPOSAL, parent=7), "x: `ask`: expected for parent an individual below 1, got 7"),
        (replace(PROPOSAL, repeats=1), "x: `ask`: expected for repeats an individual below 1, got 1"),
        (replace(PROPOSAL, network="a"), "x: `ask`: expected for network a hash of 16 bytes, or None, got 'a'"),  # type: ignore[arg-type]
        (replace(PROPOSAL, network=b"a"), "x: `ask`: expected for network a hash of 16 bytes, or None, got b'a'"),
        (replace(PROPOSAL, genotype=None), "x: `ask`: expected a Proposal with a genotype of space 2x3/1x3, got None"),  # type: ignore[arg-type]
        (replace(PROPOSAL, known=10**12), "x: `ask`: expected for known a number below 2147483648, got 1000000000000"),
        (replace(PROPOSAL, birth=[1]), "x: `ask`: expected a Birth, got [1]"),  # type: ignore[arg-type]
        pytest.param(
            10**5000, "x: `ask`: expected a Proposal of space 2x3/1x3, got int that cannot be shown", id="long"
        ),
        (replace(PROPOSAL, birth="mutation"), "x: `ask`: expected a Birth, got 'mutation'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_proposal_is_a_fault(answer: Any, message: str) -> None:
    with pytest.raises(PluginFault) as fault:
        PluggedStrategy("x", Answering(answer)).ask(population(births=1), 1, 0)
    assert str(fault.value) == message


def test_a_bar_of_any_length_is_a_fault() -> None:
    with pytest.raises(PluginFault, match="from `bar`, got int that cannot be shown$"):
        PluggedStrategy("x", Answering(10**5000)).bar(population(births=1), 0)


def test_a_strategy_may_say_that_nothing_is_allowed() -> None:
    with pytest.raises(NothingAllowed):
        PluggedStrategy("x", Answering(NothingAllowed("nothing"))).ask(population(births=1), 1, 0)


@pytest.mark.parametrize(("given", "taken"), [(np.int64(5), 5), (5.0, 5), (-1, None), (None, None), (5.5, None)])
def test_costs_of_primitives_are_whole_numbers(given: Any, taken: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = type(sys)("mine")
    module.plugin = Plugin(primitives=(Primitive("odd", True, lambda i, o: given, lambda i, o: given, print),))
    monkeypatch.setitem(sys.modules, "mine", module)
    plugins.load("mine")
    for part in ("parameters", "multiply_adds"):
        if taken is None:
            with pytest.raises(PluginFault, match=f"^plugin 'mine': `{part}` of primitive 'odd': expected a whole"):
                getattr(primitives.ADDED[0], part)(1, 1)
        else:
            found = getattr(primitives.ADDED[0], part)(1, 1)
            assert found == taken and type(found) is int


@pytest.mark.parametrize("given", [None, (1, 2), 5])
def test_data_that_are_no_triple_are_an_error_of_the_plugin(given: Any) -> None:
    bring(Plugin(data={"odd": DataKind("odd", lambda rest, split, download: given)}))
    expected = r"\(classes, pixels, labels\) or \(classes, pixels, labels, groups\)"
    with pytest.raises(DataError, match=f"plugin 'mine': `read` of 'odd': expected {expected}, got "):
        datasets.load_training("odd")


@pytest.mark.parametrize("kind", ["u1", "i4", "i8"])
def test_labels_may_be_integers_of_any_width(kind: str) -> None:
    given = ("a", "b"), np.zeros((20, 8, 8, 1), np.uint8), (np.arange(20) % 2).astype(kind)
    bring(Plugin(data={"odd": DataKind("odd", lambda rest, split, download: given)}))
    found = datasets.load_training("odd").images.labels
    assert found.dtype == np.int64 and found.tolist() == [0, 1] * 10


def test_a_class_without_images_to_train_on_is_told() -> None:
    given = ("a", "b", "c"), np.zeros((20, 8, 8, 1), np.uint8), np.arange(20) % 2 * 2
    bring(Plugin(data={"odd": DataKind("odd", lambda rest, split, download: given)}))
    with pytest.raises(DataError, match=r"`read` of 'odd': expected images of every class, got none of 1 \(b\)"):
        datasets.load_training("odd")
    assert len(datasets.load_test("odd").classes) == 3  # a test may lack one


def test_pixels_that_are_mapped_stay_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", np.zeros((20, 8, 8, 1), np.float32))
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    for pixels, stays in ((mapped, True), (mapped[::-1], False)):  # torch takes no reversed ones
        given = ("a", "b"), pixels, np.arange(20) % 2
        bring(Plugin(data={"odd": DataKind("odd", lambda rest, split, download, given=given: given)}))
        assert isinstance(datasets.load_training("odd").images.pixels, np.memmap) is stays


def test_errors_of_loading_are_no_faults() -> None:
    with pytest.raises(PluginError):
        plugins.load("there_is_no_such_module")
