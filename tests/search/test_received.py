"""A run from somebody else: nothing that it names or holds is executed, and what can be seen of it is shown."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from toolruns import retrained

from hpcnas import plugins
from hpcnas.analysis import verification
from hpcnas.architecture import primitives  # fmt: skip
from hpcnas.config import data_spec, retraining
from hpcnas.config import search as search_config
from hpcnas.config.settings import ConfigError
from hpcnas.evolution import registry
from hpcnas.retrain import record_file
from hpcnas.search import initial, run_file
from hpcnas.search.synthetic import FACTS

ROOT = Path(__file__).parents[2]
PLUGIN = """
open(__file__ + ".ran", "w")
from hpcnas.plugins import Plugin
from hpcnas.search.synthetic import SyntheticEvaluator
from hpcnas.evolution.tournament import TournamentEvolution

def strategy(search, breeding):
    return TournamentEvolution.of(search, breeding)

plugin = Plugin(
    strategies={"theirs": strategy}, evaluators={"theirs": lambda settings, binding: SyntheticEvaluator(settings)}
)
"""
SETTINGS = "--strategy theirs --evaluator theirs --budget 12 --initial-population 5".split()


def python(folder: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, env=variables, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that its owner's plugin has made, with the plugin in it."""
    folder = tmp_path_factory.mktemp("theirs") / "run"
    (folder.parent / "surprise.py").write_text(PLUGIN)
    done = python(folder.parent, "-m", "hpcnas", "--plugin", "surprise", *SETTINGS, "--run", "run",
                  PYTHONPATH=f"{ROOT}:.")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "surprise.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def got(theirs: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(theirs, tmp_path / "got")


ANYTHING = {
    "continued": ("-m", "hpcnas", "--run", ".", "--budget", "20"),
    "dry run": ("-m", "hpcnas", "--run", ".", "--dry-run"),
    "initial": ("-m", "hpcnas", "--initial", ".", "--evaluator", "synthetic", "--run", "../new", "--dry-run"),
    "initial 2": ("-m", "hpcnas", "--initial", ".:top2", "--evaluator", "synthetic", "--run", "../new", "--dry-run"),
    "simulate": ("-m", "hpcnas", "simulate", "--initial", ".", "--budget", "8", "--initial-population", "5"),
    "retrain": ("-m", "hpcnas.retrain", "--genotype", ".:best", "--preset", "quick", "--run", "../new", "--dry-run"),
    **{
        name: (ROOT / "tools" / f"{name}.py", *arguments)
        for name, *arguments in (
            ("summary", "."), ("verify", "."), ("watch", "--once", "."), ("report", ".", "-o", "../page.html"),
            ("plot", "--search", "../plot.svg", "."), ("draw", "--cell", "../cell.svg", "."), ("compare", "."),
            ("export", "module", "."), ("export", "csv", "."), ("lineage", "."),
            ("merge", "--into", "../merged", ".", "."),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("what", ANYTHING)
def test_whoever_looks_at_a_run_from_inside_executes_nothing_of_it(what: str, got: Path) -> None:
    done = python(got, *ANYTHING[what], PYTHONPATH=f"{ROOT}:")  # with an empty part, which is the current folder
    assert not list(got.rglob("*.ran"))
    assert "Traceback" not in done.stderr
    if what in ("continued", "dry run"):
        assert done.returncode == 2
        assert done.stderr == (
            "hpcnas: expected settings that can be used here: population.h5: search.plugins: surprise: not loaded: "
            "what a run names is code, and is loaded only where you name it too; add --plugin surprise (for tools: "
            "HPCNAS_PLUGINS=surprise) if you trust it\n"
        )
    elif what == "merge":
        assert done.returncode == 2  # the same run twice
    else:
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("read without the plugins surprise" in done.stderr) == done.args[1].endswith(".py")


def test_its_owner_goes_on_with_the_same_command(got: Path) -> None:
    for number, (named, variable) in enumerate((("surprise", ""), (None, "others,surprise")), start=13):
        options = [] if named is None else ["--plugin", named]
        done = python(got, "-m", "hpcnas", "--run", ".", *options, "--budget", str(number), PYTHONPATH=f"{ROOT}:.",
                      HPCNAS_PLUGINS=variable)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    with plugins.done_without(lambda names: None):
        assert len(run_file.read(got).population.evaluated) == 14
    assert list(got.glob("*.ran"))


def test_a_configuration_file_of_ones_own_names_plugins_too(got: Path) -> None:
    (got.parent / "mine.toml").write_text('[search]\nplugins = "surprise"\n')
    done = python(got, "-m", "hpcnas", "--run", ".", "--config", "../mine.toml", "--dry-run", PYTHONPATH=f"{ROOT}:.")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_tool_loads_what_its_user_names(got: Path) -> None:
    done = python(got, ROOT / "tools" / "verify.py", ".", PYTHONPATH=f"{ROOT}:.", HPCNAS_PLUGINS="surprise")
    assert (done.returncode, done.stderr) == (0, "") and list(got.glob("*.ran"))
    assert "decisions" not in done.stdout


def test_a_plugin_that_lies_in_the_current_folder_is_not_found_there_by_accident(got: Path) -> None:
    for path in (str(ROOT), f"{ROOT}:", f":{ROOT}"):
        done = python(got, "-m", "hpcnas", "--run", ".", "--plugin", "surprise", "--dry-run", PYTHONPATH=path)
        assert done.returncode == 2 and not list(got.glob("*.ran"))
        assert "No module named 'surprise' (it lies in the current folder, which is not searched: PYTHONPATH=$PWD names it)" in done.stderr  # noqa: E501
        assert done.stderr.count("\n") == 1


def test_a_tools_own_folder_holds_no_plugins(tmp_path: Path, theirs: Path) -> None:
    """Python puts it first; `draw` is one of the tools, and somebody's plugin."""
    (tmp_path / "draw.py").write_text(PLUGIN)
    done = python(tmp_path, ROOT / "tools" / "verify.py", renamed(theirs, tmp_path / "run", "draw"),
                  PYTHONPATH=f"{ROOT}:{tmp_path}", HPCNAS_PLUGINS="draw")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "draw.py.ran").exists()


def renamed(run: Path, copy: Path, module: str, **changes: str) -> Path:
    """A copy of a run that names another module."""
    shutil.copytree(run, copy)
    with h5py.File(copy / "population.h5", "r+") as file:
        text = file["configuration"][()].decode().replace('plugins = "surprise"', f'plugins = "{module}"')
        for old, new in changes.items():
            text = text.replace(f'{old} = "theirs"', f'{old} = "{new}"')
        attributes = dict(file["configuration"].attrs)
        del file["configuration"]
        file["configuration"] = np.bytes_(text.encode())
        file["configuration"].attrs.update(attributes)
    return copy


def test_a_primitive_is_needed_to_read_genotypes(tmp_path: Path, theirs: Path) -> None:
    run = renamed(theirs, tmp_path / "run", "surprise")
    with h5py.File(run / "population.h5", "r+") as file:
        text = file["configuration"][()].decode().replace('"hierarchical"', '"hierarchical+dilated"')
        del file["configuration"]
        file["configuration"] = np.bytes_(text.encode())
    done = python(tmp_path, ROOT / "tools" / "summary.py", run)
    assert done.returncode == 2 and done.stderr.count("\n") == 2
    assert "search.space: surprise: not loaded" in done.stderr and "HPCNAS_PLUGINS=surprise" in done.stderr


def test_verify_says_what_it_has_not_replayed_and_repairs_nothing(got: Path) -> None:
    done = python(got, ROOT / "tools" / "verify.py", ".")
    assert done.returncode == 0
    assert done.stdout == ".: sound (12 individuals, 12 evaluated, 0 failed, 0 in flight, its decisions not replayed)\n"
    done = python(got, ROOT / "tools" / "verify.py", ".", "--repair", "../new")
    assert done.returncode == 2 and not (got.parent / "new").exists()
    assert "expected the plugin of strategy 'theirs' to say what is good: name it\n" in done.stderr


def test_texts_of_a_run_are_no_instructions_to_a_page(tmp_path: Path, theirs: Path) -> None:
    """Nor is a dollar a formula."""
    run = renamed(theirs, tmp_path / "a$\\frac$<script>alert(1)", "<script>alert(2)", evaluator="<script>alert(3)")
    for tool, *options in (("report", "-o", "page.html"), ("draw", "--cell", "c.svg"), ("plot", "--search", "s.svg")):
        done = python(tmp_path, ROOT / "tools" / f"{tool}.py", *options, run)
        assert done.returncode == 0, done.stderr
    written = [(tmp_path / name).read_text() for name in ("page.html", "c.svg", "s.svg")]
    assert all("<script>alert" not in text for text in written) and "&lt;script&gt;alert(1)" in written[0]


def link_to_a_file(file: h5py.File, other: Path) -> None:
    del file["evaluated"]
    file["evaluated"] = h5py.ExternalLink(str(other), "/evaluated")


def link_to_a_group(file: h5py.File, other: Path) -> None:
    del file["individuals"]
    file["individuals"] = h5py.ExternalLink(str(other), "/individuals")


def link_within(file: h5py.File, other: Path) -> None:
    del file["individuals/view"]
    file["individuals/view"] = h5py.SoftLink("/individuals/parent")


def bytes_of_a_file(file: h5py.File, other: Path) -> None:
    del file["individuals/view"]
    file.create_dataset("individuals/view", (12,), "i8", external=[(str(other), 0, 96)])


def view_of_a_file(file: h5py.File, other: Path) -> None:
    del file["individuals/view"]
    layout = h5py.VirtualLayout((12,), "i8")
    layout[:] = h5py.VirtualSource(str(other), "individuals/view", (12,))
    file.create_virtual_dataset("individuals/view", layout)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (link_to_a_file, "expected /evaluated itself, got a link"),
        (link_to_a_group, "expected /individuals itself, got a link"),
        (link_within, "expected /individuals/view itself, got a link"),
        (bytes_of_a_file, "expected /individuals/view in this file, but it lies in another one"),
        (view_of_a_file, "expected /individuals/view in this file, but it lies in another one"),
    ],
)
def test_tables_lead_to_no_other_file(
    change: Callable[[h5py.File, Path], None], told: str, got: Path, theirs: Path
) -> None:
    with h5py.File(got / "population.h5", "r+") as file:
        change(file, theirs / "population.h5")
    with plugins.done_without(lambda names: None), pytest.raises(run_file.StoreError, match=f"{told}$"):
        run_file.read(got)


def test_a_retraining_leads_to_no_other_file(tmp_path: Path) -> None:
    folder = retrained(tmp_path / "large", [0.5])
    with h5py.File(folder / "retrain.h5", "r+") as file:
        file["more"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(run_file.StoreError, match="expected /more itself, got a link$"):
        record_file.read(folder)


def test_a_run_does_not_say_where_things_are_written() -> None:
    """That is the folder that its user names, or the default."""
    settings = search_config.build({"run": {"run": "/elsewhere"}})
    assert search_config.build(search_config.lasting(settings)).run.run == "hpcnas-run"
    large = retraining.SCHEME.build({"run": {"run": "/elsewhere", "address": "elsewhere"}})
    lasting = retraining.SCHEME.build(retraining.SCHEME.lasting(large)).run
    assert (lasting.run, lasting.address) == ("retrain-run", None)


# The state of a process


@pytest.fixture
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(primitives, "ADDED", [])
    monkeypatch.delenv(plugins.VARIABLE, raising=False)


def test_what_is_done_without_is_told_and_everything_else_is_checked(nothing_named: None, theirs: Path) -> None:
    told: list[list[str]] = []
    with pytest.raises(run_file.StoreError, match="surprise: not loaded"):
        run_file.read(theirs)
    with plugins.done_without(told.append):
        run = run_file.read(theirs)
        with pytest.raises(ConfigError, match="^training.steps: "):
            search_config.build(run.config.settings(), {"training": {"steps": 0}})
    assert told[0] == ["surprise"] and run.config.search.strategy == "theirs"
    assert not registry.is_known("theirs") and list(verification.faults(run)) == []
    with pytest.raises(registry.StrategyMissing, match="^strategy theirs is a plugin's, surprise: not loaded"):
        registry.make_strategy(run.config, FACTS)
    with pytest.raises(run_file.StoreError):
        run_file.read(theirs)
    found = initial.looked_up(search_config.build({"search": {"initial": str(theirs)}}))
    assert found.search.initial is not None and found.search.initial.startswith("codes:")


def test_data_of_a_plugin_that_is_not_loaded_have_a_title() -> None:
    assert data_spec.title("theirs:x", 3, "0123456789") == "theirs of 3 classes (01234567)"
