"""Plugins: the page's modules in searches, entry points, what is refused, and primitives that are not the paper's."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import mpi as launcher
import numpy as np
import pytest
import torch

from hpcnas import plugins
from hpcnas.analysis import export, report, verification
from hpcnas.analysis.curves import Curves
from hpcnas.analysis.figures import cells, layout, style
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture import expansion, primitives, sizes
from hpcnas.architecture.genotype import Genotype, GenotypeError, named
from hpcnas.architecture.mutation import diversified
from hpcnas.architecture.network_hash import network_hash
from hpcnas.architecture.primitives import Primitive
from hpcnas.architecture.sizes import size
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.architecture.space import HIERARCHICAL, Space, SpaceError
from hpcnas.command import summary
from hpcnas.config import data_spec
from hpcnas.config import search as search_config
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.registry import PluggedStrategy, make_strategy
from hpcnas.evolution.strategy import StrategyRefused
from hpcnas.plugins import DataKind, Plugin, PluginError
from hpcnas.search import run_file
from hpcnas.search.synthetic import FACTS
from hpcnas.training.choice import fitting_method
from hpcnas.training.cuda.stacked import StackedTraining
from hpcnas.training.network import Network
from hpcnas.training.plain import PlainTraining

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "hpcnas" / "PLUGINS.md").read_text(encoding="utf-8")
MODULES = dict(re.findall(r"^`(?!test_)(\w+)\.py`:\n\n```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^```sh\n(.*?)\n```$", PAGE, flags=re.MULTILINE | re.DOTALL)
SMALLER = shlex.split(
    "--budget 3 --initial-population 2 --initial-mutations 200 --replicates 1 --steps 2 --batch-size 8 --channels 2 "
    "--threads 1"
)


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a process to itself, as far as plugins are concerned."""
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(primitives, "ADDED", [])
    monkeypatch.delenv(plugins.VARIABLE, raising=False)


def own(*layers: search_config.Settings) -> search_config.SearchConfig:
    """A configuration that names its plugins on the command line, say."""
    with plugins.named_here():
        return search_config.build(*layers)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's path with the page's modules in it."""
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


def brought(monkeypatch: pytest.MonkeyPatch, name: str, plugin: object) -> None:
    """A module of that name with that plugin in it."""
    module = types.ModuleType(name)
    module.plugin = plugin  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)


def primitive(name: str) -> Primitive:
    return Primitive(name, True, lambda inputs, outputs: 0, lambda inputs, outputs: 0, lambda inputs, outputs: None)


# The page


def test_the_page_has_an_example_of_each() -> None:
    assert list(MODULES) == ["dilated", "stripes", "climbing", "smallness", "kappa"]
    assert [shlex.split(command)[:5] for command in COMMANDS] == [
        ["python", "-m", "hpcnas", "--plugin", name] for name in MODULES
    ]


def search(command: str, folder: Path, *options: str) -> run_file.StoredRun:
    words = shlex.split(command)
    done = subprocess.run([sys.executable, *words[1:], *SMALLER, *options], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with plugins.named_here():
        run = run_file.read(folder / words[-1])
    assert not run.population.failures
    assert list(verification.faults(run)) == []
    assert run.config.search.plugins == words[4]
    return run


def test_networks_are_trained_on_the_pages_data(folder: Path) -> None:
    run = search(COMMANDS[1], folder)
    assert len(run.population.evaluated) == 3
    assert (run.sessions[0].facts.height, run.sessions[0].facts.classes) == (8, 2)


def test_the_pages_primitive_is_trained_by_other_ranks_than_the_one_that_draws_it(
    one_mpi: launcher.Mpi, folder: Path
) -> None:
    words = shlex.split(COMMANDS[0])
    done = launcher.run(one_mpi, 2, [*words[1:], *SMALLER], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    with plugins.named_here():
        run = run_file.read(folder / words[-1])
    population = run.population
    assert len(population.evaluated) == 3 and list(verification.faults(run)) == []
    graphs = [expansion.expand(population.individual(id).genotype) for id in range(3)]
    assert any(edge.operation == 7 for graph in graphs for edge in graph.edges)


@pytest.mark.parametrize("command", COMMANDS[2:4], ids=["climbing", "smallness"])
def test_a_search_with_the_pages_plugin_goes_on(command: str, folder: Path) -> None:
    others = ["--evaluator", "synthetic"] if "climbing" in command else []
    search(command, folder, *others)
    assert len(search(command, folder, *others, "--budget", "9").population.evaluated) == 9


def test_networks_are_judged_by_the_pages_measure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    population = (run := search(COMMANDS[4], folder)).population
    assert population.measured and run.config.training.fitness == "kappa"
    for id, (row,) in ((id, population.measures(id)) for id in range(3)):
        assert population.accuracies(id)[0] < (row[0] or 0.0) and len(row) == 15  # kappa is below accuracy
    path = str(folder / "runs" / "kappa")
    with plugins.named_here():
        assert summary.main([path]) == 0
        told = capsys.readouterr().out
        assert "  fitness        validation kappa; digits" in told
        assert "100 %" not in told and "fitness: validation kappa" in report.page(Curves.of(Path(path)))


# Loading

ONLY_ON_RANK_0 = """
import os, runpy, sys
if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "0":
    sys.path.insert(0, "mine")
sys.argv[1:1] = ["--evaluator", "synthetic", "--run", "run"]
runpy.run_module("hpcnas", run_name="__main__", alter_sys=True)
"""


def test_a_plugin_that_some_hosts_lack_is_one_line(mpi: launcher.Mpi, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "dilated.py").write_text(MODULES["dilated"])
    (tmp_path / "start.py").write_text(ONLY_ON_RANK_0)
    done = launcher.run(mpi, 3, ["start.py", "--plugin", "dilated", "--space", "hierarchical+dilated"], cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if "dilated" in line]
    expected = rf"hpcnas: rank 1 on {re.escape(socket.gethostname())}: expected plugin 'dilated' as an entry point of "
    assert len(said) == 1 and re.match(expected, said[0]) and said[0].endswith("on PYTHONPATH (and 1 other ranks)")
    assert "Traceback" not in done.stderr


def test_what_a_run_needs_is_loaded_when_it_is_read_and_refused_where_it_is_not_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = own({"search": {"plugins": "dilated,stripes", "space": "1x3+dilated"}})
    run_file.write(folder / "population.h5", run_file.StoredRun("run", 0, settings, runfile_population(settings)))
    with h5py.File(folder / "population.h5") as file:
        assert file.attrs["space"] == b"1x3+dilated"
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(primitives, "ADDED", [])
    monkeypatch.setenv(plugins.VARIABLE, "stripes,others,dilated")
    assert run_file.read(folder).config == settings
    assert [one.name for one in primitives.ADDED] == ["dilated"] and list(plugins.data()) == ["stripes"]
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(primitives, "ADDED", [])
    (folder / "stripes.py").unlink()
    sys.modules.pop("stripes")
    with pytest.raises(run_file.StoreError) as refusal:
        run_file.read(folder)
    assert str(refusal.value) == (
        f"expected settings that can be used here: {folder / 'population.h5'}: search.plugins: expected plugin "
        "'stripes' as an entry point of the group 'hpcnas' or as a module with `plugin` in it, but "
        "ModuleNotFoundError: No module named 'stripes'; install it, or put its folder on PYTHONPATH"
    )


def runfile_population(settings: search_config.SearchConfig) -> run_file.Population:
    return run_file.Population(settings.space, settings.training.replicates)


def test_a_plugin_is_loaded_once(folder: Path) -> None:
    plugins.load("dilated")
    plugins.load("dilated")
    assert len(primitives.ADDED) == 1


def test_an_entry_point_goes_before_a_module(folder: Path) -> None:
    information = folder / "mine-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[hpcnas]\nstripes = dilated:plugin\n")
    plugins.load("stripes")
    assert [one.name for one in primitives.ADDED] == ["dilated"] and plugins.data() == {}


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ("not one", "plugin 'bad': expected a hpcnas.plugins.Plugin, got str"),
        (
            Plugin(primitives=(primitive("a+b"),)),
            "plugin 'bad': expected primitives named by letters, digits and hyphens, got 'a+b'",
        ),
        (
            Plugin(primitives=(primitive("sep"),)),
            "plugin 'bad': expected primitives of new names, but 'sep' is there already",
        ),
        (
            Plugin(primitives=(primitive("new"), primitive("new"))),
            "plugin 'bad': expected primitives of new names, but 'new' is there already",
        ),
        (
            Plugin(strategies={"new": lambda search, breeding: None, "climbing": lambda search, breeding: None}),
            "plugin 'bad': expected strategies of new names, but 'climbing' is there already",
        ),
        (
            Plugin(primitives=primitive("new")),  # type: ignore[arg-type]
            "plugin 'bad': primitives: expected a tuple of Primitive, (one,) for one, got Primitive",
        ),
        (
            Plugin(primitives=("new",)),  # type: ignore[arg-type]
            "plugin 'bad': primitives[0]: expected a Primitive, got str",
        ),
        (
            Plugin(primitives=(replace(primitive("new"), parameters=9),)),  # type: ignore[arg-type]
            "plugin 'bad': primitives[0].parameters: expected a function of input and output channels, got int",
        ),
        (
            Plugin(data={"new": print}),  # type: ignore[dict-item]
            "plugin 'bad': data['new']: expected a DataKind, got builtin_function_or_method",
        ),
        (
            Plugin(data={"new": DataKind("new", "read")}),  # type: ignore[arg-type]
            "plugin 'bad': data['new'].read: expected a function, got str",
        ),
        (
            Plugin(strategies=["climbing"]),  # type: ignore[arg-type]
            "plugin 'bad': strategies: expected a dict of names, each with a function, got list",
        ),
        (
            Plugin(evaluators={"new": None}),  # type: ignore[dict-item]
            "plugin 'bad': evaluators['new']: expected a function, got NoneType",
        ),
        (
            Plugin(evaluators={7: print}),  # type: ignore[dict-item]
            "plugin 'bad': a name in evaluators: expected a str, got int",
        ),
    ],
)
def test_a_plugin_that_cannot_be_is_refused_whole(
    plugin: object, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought(monkeypatch, "bad", plugin)
    with pytest.raises(PluginError) as refusal:
        plugins.load("climbing,bad")
    assert str(refusal.value) == message
    assert primitives.ADDED == [] and list(plugins.strategies()) == ["climbing"]


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (Plugin(strategies={"random": print}), "expected new names for search.strategy, but random is there already"),
        (Plugin(evaluators={"training": print}), "expected new names for evaluation.evaluator, but training is"),
        (Plugin(data={"digits": DataKind("digits", print)}), "expected new names for data.source, but digits is"),  # type: ignore[arg-type]
    ],
)
def test_the_programs_own_names_are_taken(plugin: Plugin, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    brought(monkeypatch, "bad", plugin)
    with pytest.raises(ConfigError, match=f"^search.plugins: {message}"):
        own({"search": {"plugins": "bad"}})


def test_names_that_no_plugin_brings_are_refused(folder: Path) -> None:
    for section, key, value, message in (
        ("search", "strategy", "climbing", "search.strategy: expected one of tournament, random"),
        ("evaluation", "evaluator", "smallness", "evaluation.evaluator: expected one of training, synthetic; got 's"),
        ("search", "space", "flat+dilated", r"search.space: .* of a plugin \(loaded: none\), got 'dilated'; --plugin"),
        ("data", "source", "stripes:3", "data.source: expected data as one of digits, .*; got 'stripes:3'"),
    ):
        with pytest.raises(ConfigError, match=message):
            search_config.build({section: {key: value}})
    everything = {"plugins": ",".join(MODULES), "strategy": "climbing", "space": "flat+dilated"}
    others = {"evaluation": {"evaluator": "smallness"}, "data": {"source": "stripes:3"}}
    assert str(own({"search": everything}, others).space) == "flat+dilated"


RACING: search_config.Settings = {"search": {"racing": True}}
STOPPING: search_config.Settings = {"search": {"early_stopping": True}, "training": {"rungs": (0.1,)}}


@pytest.mark.parametrize(
    ("methods", "more", "message"),
    [
        ({}, {}, "strategy own: expected a method `ask`, got Own without one (PLUGINS.md)"),
        ({"ask": print}, RACING, "strategy own: expected a method `bar` for --racing, got Own without one "
         "(PLUGINS.md)"),
        ({"ask": print}, STOPPING, "strategy own: expected a method `bar` for --early-stopping, got Own without one "
         "(PLUGINS.md)"),
        ({"ask": print}, {}, None),
        ({"ask": print, "bar": print}, STOPPING, None),
    ],
)  # fmt: skip
def test_a_strategy_without_its_methods_is_refused(
    methods: dict[str, object], more: search_config.Settings, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("Own", (), methods)
    brought(monkeypatch, "owned", Plugin(strategies={"own": lambda search, breeding: kind()}))
    settings = own({"search": {"plugins": "owned", "strategy": "own"}}, more)
    if message is None:
        found = make_strategy(settings, FACTS)
        assert isinstance(found, PluggedStrategy) and isinstance(found.inner, kind)
        return
    with pytest.raises(StrategyRefused) as refusal:
        make_strategy(settings, FACTS)
    assert str(refusal.value) == message


def test_early_stopping_needs_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type("Own", (), {"ask": print})
    brought(monkeypatch, "owned", Plugin(strategies={"own": lambda search, breeding: kind()}))
    search = {"plugins": "owned", "strategy": "own", "early_stopping": True}
    with pytest.raises(StrategyRefused, match="expected a method `bar` for --early-stopping, got Own without one"):
        make_strategy(own({"search": search, "training": {"rungs": [0.1]}}), FACTS)


# Primitives that are not the paper's

SMALL = Skeleton(image_channels=3, height=9, width=13, classes=7, channels=4, cells=(1, 1))


@pytest.fixture
def dilated(folder: Path) -> Space:
    plugins.load("dilated")
    return Space.parse("hierarchical+dilated")


def test_a_space_names_the_primitives_that_it_adds(dilated: Space) -> None:
    assert dilated == Space(HIERARCHICAL.levels, ("dilated",))
    assert (str(dilated), dilated.sizes) == ("hierarchical+dilated", "6x4/1x5+dilated")
    assert Space.parse(dilated.sizes) == dilated != HIERARCHICAL
    for text in ("flat+dilated+dilated", "flat+sep", "flat+", "flat+unknown"):
        with pytest.raises(SpaceError, match="expected after each"):
            Space.parse(text)


def test_a_genotype_writes_it_by_name_and_mutation_draws_it(dilated: Space) -> None:
    genotype = diversified(dilated, 1000, np.random.default_rng(0))
    assert 0 < np.count_nonzero(genotype.array()[:36] == 7) < 15
    assert "dilated" in genotype.text() and 'space = "6x4/1x5+dilated"' in genotype.text()
    assert Genotype.from_text(genotype.text()) == genotype
    with pytest.raises(GenotypeError, match="expected an operation 0 to 6, got 7"):
        Genotype(HIERARCHICAL, genotype.codes)


def test_its_network_is_built_and_counted(dilated: Space) -> None:
    generator = np.random.default_rng(1)
    for genotype in (diversified(dilated, 1000, generator) for _ in range(3)):
        graph = expansion.expand(genotype)
        assert any(edge.operation == 7 for edge in graph.edges)
        network = Network(graph, SMALL)
        multiply_adds = 0

        def count(layer: torch.nn.Module, _: object, output: torch.Tensor) -> None:
            nonlocal multiply_adds
            multiply_adds += output.numel() * layer.weight[0].numel()  # type: ignore[operator, union-attr, index]

        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.register_forward_hook(count)
        network.eval()(torch.zeros(1, 3, 9, 13))
        expected = sum(parameter.numel() for parameter in network.parameters())
        assert size(graph, SMALL) == sizes.Size(expected, 2 * multiply_adds)


def test_plans_leave_its_networks_to_plain_modules(dilated: Space) -> None:
    text = named("paper").text().replace('"6x4/1x5"', '"6x4/1x5+dilated"')
    plain = Genotype.from_text(text)
    used, unused = (Genotype.from_text(text.replace(old, new)) for old, new in (
        ('M5 = ["1-2 id"', 'M5 = ["1-2 dilated"'), ('M6 = ["1-2 dw"', 'M6 = ["1-2 dilated"'),
    ))  # fmt: skip
    assert fitting_method(StackedTraining, used) is PlainTraining
    for genotype in (plain, unused, named("paper")):
        assert fitting_method(StackedTraining, genotype) is StackedTraining


def test_its_hash_goes_by_its_name_and_not_by_when_it_was_loaded(
    dilated: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    genotype = diversified(dilated, 1000, np.random.default_rng(2))
    before, text = network_hash(genotype), genotype.text()
    assert network_hash(Genotype.from_text(named("paper").text().replace("1x5", "1x5+dilated"))) == network_hash(
        named("paper")
    )
    monkeypatch.setattr(primitives, "ADDED", [])
    monkeypatch.setattr(plugins, "_loaded", {})
    brought(monkeypatch, "earlier", Plugin(primitives=(primitive("other"),)))
    plugins.load("earlier,dilated")
    assert primitives.code_of("dilated") == 8
    assert network_hash(Genotype.from_text(text)) == before
    other = Genotype.from_text(text.replace("+dilated", "+other").replace("dilated", "other"))
    assert network_hash(other) != before


def test_tools_name_it_or_say_that_they_cannot(dilated: Space) -> None:
    genotype = diversified(dilated, 1000, np.random.default_rng(0))
    assert "dilated" in {edge.operation for edge in layout.expanded(genotype).edges}
    cells.legend(style.new_figure(4.0, 4.0), genotype)
    with pytest.raises(AnalysisError, match="expected a network of the paper's primitives, but dilated is a plugin's"):
        export.module(export.Source("nowhere", "unknown", genotype, SMALL))


def test_data_of_a_plugin_is_read(folder: Path) -> None:
    plugins.load("stripes")
    from hpcnas.data import datasets

    found = datasets.load_training("stripes:40")
    assert (found.name, found.classes, found.images.pixels.shape) == ("stripes:40", ("across", "down"), (40, 8, 8, 1))
    with pytest.raises(data_spec.DataError, match="^stripes:x: expected stripes:N, N images, got 'x' for N$"):
        datasets.load_training("stripes:x")
