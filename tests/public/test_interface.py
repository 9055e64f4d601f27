"""The public interface: what API.md promises, on runs of all kinds, and that it is light and typed."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import threading
from pathlib import Path

import bench_controller
import demand
import h5py
import numpy as np
import pytest
import toolruns
import whole_retraining
from examples import CONFIG, SPACE, evaluated, failed, individual, population
from toolruns import CHAIN, INPUTS, POOLING, retrained

import hpcnas
from hpcnas import plugins
from hpcnas.analysis import merging
from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import GenotypeError, named
from hpcnas.evolution.individuals import recorded_columns
from hpcnas.retrain import predictions, record, record_file
from hpcnas.search import run_file
from hpcnas.search.file_store import FileStore
from hpcnas.search.run_file import StoredRun
from hpcnas.storage.folder import StoreError

ROOT = Path(hpcnas.__file__).parent.parent
PAGE = (ROOT / "hpcnas" / "API.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(tmp_path: Path) -> hpcnas.Run:
    """Individuals 0, 1, 2 and 4 of `eventful` are evaluated, 3 has failed."""
    return hpcnas.open_run(toolruns.eventful(tmp_path / "run"))


def with_weights(folder: Path) -> Path:
    """A retraining of two seeds with the weights of two random networks."""
    import torch

    from hpcnas.training import checkpoints
    from hpcnas.training.network import Network

    retrained(folder, [0.75, 0.875], record.Origin("cell.toml", str(SPACE)), inputs=INPUTS, found=POOLING)
    for seed in range(2):
        torch.manual_seed(seed)
        network = Network(expansion.expand(POOLING), INPUTS.skeleton)
        checkpoints.save(record_file.weights_path(folder, seed), network.state_dict())
    return folder


def stored(folder: Path, found: run_file.Population) -> Path:
    """A run of that population."""
    folder.mkdir()
    run_file.write(folder / "population.h5", StoredRun("a" * 32, 0, CONFIG, found, [toolruns.SESSION]))
    return folder


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_pages_example_runs(tmp_path: Path) -> None:
    demand.package("pandas")
    demand.package("matplotlib")
    toolruns.eventful(tmp_path / "runs" / "cifar")
    with_weights(tmp_path / "runs" / "large")
    (tmp_path / "example.py").write_text(EXAMPLE, encoding="utf-8")
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1, 100])" in done.stdout
    assert done.stdout.endswith("expected a run in runs/none, but there is no population.h5\n")
    assert (tmp_path / "cell.svg").read_text().startswith("<?xml")


def test_the_page_names_all_that_is_public() -> None:
    public = [name for name in hpcnas.__all__ if name not in ("__version__", "Individual")]
    assert [name for name in public if f"{name}" not in PAGE] == []
    for kind in (hpcnas.Run, hpcnas.Retraining, hpcnas.Individual, hpcnas.Training, hpcnas.Session, hpcnas.Size):
        names = [name for name in [*vars(kind), *getattr(kind, "__dataclass_fields__", {})] if not name.startswith("_")]
        assert [name for name in names if name not in PAGE] == [], kind


def test_the_example_and_a_script_of_a_user_are_typed(tmp_path: Path) -> None:
    """As mypy sees them from outside, where only py.typed says that there are types; but for large libraries, of which
    they hold nothing."""
    demand.package("mypy")
    (tmp_path / "mypy.ini").write_text("[mypy]\n[mypy-torch.*,matplotlib.*]\nfollow_imports = skip\n")
    (tmp_path / "example.py").write_text(EXAMPLE, encoding="utf-8")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=mypy.ini", "--follow-imports=silent",
         "--no-error-summary", "--ignore-missing-imports", f"--cache-dir={ROOT / '.mypy_cache' / 'user'}",
         "example.py", "script.py"],
        cwd=tmp_path, capture_output=True, text=True, env={"MYPYPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        'script.py:11: error: Incompatible types in assignment (expression has type "float | None", variable has type '
        '"str")  [assignment]',
        'script.py:12: error: "Run" has no attribute "nothing"  [attr-defined]',
    ], done.stdout + done.stderr


SCRIPT = """
import numpy as np

import hpcnas

run: hpcnas.Run = hpcnas.open_run("runs/cifar")
genotypes: list[hpcnas.Genotype] = [individual.genotype for individual in run]
mutant: hpcnas.Genotype = hpcnas.mutate(genotypes[0], np.random.default_rng(0))
parameters: int = hpcnas.size(mutant).parameters
accuracies: tuple[float, ...] = run.best.accuracies
wrong: str = run.best.fitness
run.nothing
"""


# ── light ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def loaded_by(code: str, folder: Path) -> list[str]:
    names = "numpy", "h5py", "torch", "mpi4py", "pandas", "matplotlib", "PIL"
    check = f"import sys\n{code}\nprint(*[name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check, str(folder)], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_loads_nothing_and_opening_no_torch(tmp_path: Path) -> None:
    toolruns.eventful(tmp_path / "run")
    assert loaded_by("import hpcnas\nassert 'open_run' in dir(hpcnas)", tmp_path) == []
    opened = "import hpcnas\nrun = hpcnas.open_run(sys.argv[1] + '/run')\nrun.best, run.columns(), hpcnas.size"
    assert loaded_by(opened, tmp_path) == ["numpy", "h5py"]
    assert loaded_by(f"{opened}\nrun.best.network()", tmp_path) == ["numpy", "h5py", "torch"]


def test_what_the_package_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'hpcnas' has no attribute 'nothing'"):
        getattr(hpcnas, "nothing")  # noqa: B009
    assert set(hpcnas.__all__) <= set(dir(hpcnas))


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_individuals_are_what_the_run_has(run: hpcnas.Run) -> None:
    assert (len(run), run.evaluated.tolist(), run.state) == (5, [0, 2, 1, 4], "running")  # its lock is this process's
    assert [one.id for one in run] == [0, 1, 2, 3, 4]
    best, dead = run.best, run[np.int64(3)]
    assert best == run[best.id] and best.fitness == max(one.fitness or 0.0 for one in run)
    assert best.fitness == pytest.approx(np.mean(best.accuracies)) and best.state == "EVALUATED"
    assert (dead.state, dead.fitness, dead.parameters, dead.accuracies) == ("FAILED", None, None, ())
    assert dead.failure is not None and dead.failure.startswith("NAN: ")
    ids = [one.id for one in run.lineage(4)]
    assert ids[0] == 4 and [run[id].parent for id in ids] == [*ids[1:], None]
    assert repr(run) == f"<Run {str(run.folder)!r}: 5 individuals, 4 evaluated>"


@pytest.mark.parametrize("id", [5, -1, 2**70])
def test_an_individual_that_is_not_there_is_an_error_of_both_kinds(run: hpcnas.Run, id: int) -> None:
    with pytest.raises(hpcnas.Error, match=f"expected an individual from 0 to 4, got {id}$") as refusal:
        run[id]
    assert isinstance(refusal.value, IndexError)
    with pytest.raises(TypeError):
        run["3"]  # type: ignore[index]
    with pytest.raises(hpcnas.Error, match=f"expected an individual from 0 to 4, got {id}$"):
        run.lineage(id)


def test_a_number_that_python_does_not_write_is_told_without_it(run: hpcnas.Run) -> None:
    with pytest.raises(hpcnas.Error, match="expected an individual from 0 to 4, got a int that cannot be shown$"):
        run[10**5000]
    with pytest.raises(hpcnas.Error, match="expected for channels at most 1,048,576, got a int that cannot be shown$"):
        hpcnas.size(CHAIN, channels=10**5000)


def test_settings_and_sessions_are_there(run: hpcnas.Run) -> None:
    assert run.config["search"]["space"] == "2x3/1x3" and run.config["training"]["replicates"] == 2
    first, second = run.sessions
    assert (first.started, second.started, first.data["classes"]) == (1000.0, 2000.0, 10)
    assert len(run.name) == 32


def test_a_run_without_an_evaluation_has_no_best(tmp_path: Path) -> None:
    empty = hpcnas.open_run(toolruns.empty(tmp_path / "empty"))
    assert (len(empty), len(empty.evaluated), list(empty), len(empty.columns()["id"])) == (0, 0, [], 0)
    with pytest.raises(hpcnas.Error, match="empty: no individual has been evaluated yet, so there is no best one$"):
        print(empty.best)
    with pytest.raises(hpcnas.Error, match="empty: no individual has been born yet, so there is no 0$"):
        empty[0]
    born = hpcnas.open_run(stored(tmp_path / "born", population(failed(1), births=2)))
    with pytest.raises(hpcnas.Error, match="no individual has been evaluated yet"):
        print(born.best)
    assert [one.state for one in born] == ["ISSUED", "FAILED"]


def test_columns_are_those_of_the_page_on_files(run: hpcnas.Run) -> None:
    columns = run.columns()
    assert list(columns) == ["id", *(column.name for column in recorded_columns(0))]
    assert {len(values) for values in columns.values()} == {5}
    assert columns["state"].tolist() == ["EVALUATED"] * 3 + ["FAILED", "EVALUATED"]
    assert columns["failure"].tolist() == ["", "", "", "NAN", ""]
    assert columns["host"].tolist() == ["node-1"] * 5
    assert columns["accuracies"].shape == (5, 2) and columns["genotype"].shape == (5, 9)
    assert columns["fitness"][run.best.id] == run.best.fitness
    with pytest.raises(ValueError, match="read-only"):
        columns["fitness"][0] = 1.0


def test_the_table_has_the_same_values(run: hpcnas.Run) -> None:
    demand.package("pandas")
    table, columns = run.table(), run.columns()
    assert {name for name in columns if name not in table} == {"network", "genotype", "accuracies"}
    for name in table:
        if name.startswith("accuracy_"):
            np.testing.assert_array_equal(table[name], columns["accuracies"][:, int(name[-1]) - 1])
        else:
            np.testing.assert_array_equal(table[name], columns[name], name)
    births = ["INITIAL", "MUTATION", "RANDOM", "FOUNDER", "GIVEN", "CONFIRMATION"]
    assert table["birth"].cat.categories.tolist() == births
    table.loc[0, "fitness"] = 2.0
    assert run.columns()["fitness"][0] != 2.0


def test_without_pandas_the_table_is_its_columns(run: hpcnas.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert list(run.table()) == list(run.columns())


def test_a_run_in_progress_is_read_as_it_stands(tmp_path: Path) -> None:
    """The store holds its lock, and is not disturbed."""
    store = FileStore.create(tmp_path / "run", CONFIG)
    store.begin(toolruns.SESSION)
    for id in range(2):
        store.birth(individual(id))
    store.settle(evaluated(1))
    store.compact()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    first = hpcnas.open_run(tmp_path / "run")
    assert (len(first), first.best.id) == (2, 1)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == before
    store.settle(evaluated(0, 0.9, 0.9))
    store.compact()
    assert (hpcnas.open_run(tmp_path / "run").best.id, first.best.id) == (0, 1)
    store.close()


def test_a_run_of_an_older_version_has_all_columns(tmp_path: Path) -> None:
    """Those that came later as FORMAT.md says that they are to be read."""
    folder = toolruns.eventful(tmp_path / "run")
    new = hpcnas.open_run(folder).columns()
    with h5py.File(folder / "population.h5", "a") as file:
        for name in [column.name for column in recorded_columns(0) if column.added]:
            del file["individuals"][name]
        del file["workers"]
    old = hpcnas.open_run(folder)
    assert old.columns()["replicates_trained"].tolist() == new["replicates_trained"].tolist()
    assert old.columns()["known"].tolist() == [0] * 5 and old.best.id == 4


def test_learning_curves_are_there_where_trainings_have_rungs(tmp_path: Path, run: hpcnas.Run) -> None:
    curved = hpcnas.open_run(toolruns.curved(tmp_path / "curved"))
    assert (curved.rungs, run.rungs, run.best.curves) == ((0.25, 0.5), (), ())
    assert [one.state for one in curved] == ["EVALUATED", "STOPPED", "EVALUATED", "STOPPED", "ISSUED"]
    assert curved[2].curves == ((0.375, 0.5), (0.5, 0.625)) and curved[3].curves == ((0.0625,), (0.1875,))
    assert (curved[3].fitness, curved[3].accuracies, curved[3].parameters, curved[4].curves) == (None, (), 2000, ())
    columns = curved.columns()
    assert columns["curves"].shape == (5, 4) and columns["judged"].tolist() == [2, 2, 2, 2, 0]
    assert columns["stopped_after"].tolist() == [-1, 0, -1, 1, -1]
    demand.package("pandas")
    table = curved.table()
    assert table["accuracy_2_at_0.25"].tolist()[:4] == [0.25, 0.125, 0.5, 0.1875]
    assert table["accuracy_1_at_0.5"].isna().tolist() == [False, False, False, True, True]
    assert list(table["state"].cat.categories) == ["ISSUED", "EVALUATED", "FAILED", "STOPPED"]


def test_a_merged_run_names_those_that_it_is_made_of(tmp_path: Path) -> None:
    parts = [toolruns.eventful(tmp_path / name) for name in ("one", "other")]
    merging.merge(parts, tmp_path / "merged")
    merged = hpcnas.open_run(tmp_path / "merged")
    names = merged.sessions[0].software["merged"].split()
    assert names == [hpcnas.open_run(part).name for part in parts]
    assert {one.birth for one in merged} == {"FOUNDER"} and merged.best.parent is None


def test_opening_many_makes_no_object_of_each(tmp_path: Path) -> None:
    """By which a million opens in a second (`tools/bench_controller.py`)."""
    demand.package("pandas")
    folder = tmp_path / "run"
    folder.mkdir()
    run_file.write(folder / "population.h5", bench_controller.filled(50_000))
    hpcnas.open_run(folder).table()  # what is loaded and cached once
    gc.collect()
    before = sys.getallocatedblocks()
    run = hpcnas.open_run(folder)
    table = run.table()
    gc.collect()
    assert len(run) == len(table) == 50_000 and sys.getallocatedblocks() - before < 5_000


def test_what_cannot_be_read_is_the_sentence_that_tools_print(tmp_path: Path) -> None:
    with pytest.raises(hpcnas.Error) as refusal:
        hpcnas.open_run(tmp_path)
    assert str(refusal.value) == f"expected a run in {tmp_path}, but there is no population.h5"
    with pytest.raises(hpcnas.Error, match="expected a retraining in .*, but there is no retrain.h5$"):
        hpcnas.open_retraining(str(tmp_path))
    assert issubclass(StoreError, hpcnas.Error) and issubclass(GenotypeError, hpcnas.Error)


def test_a_run_of_plugins_is_read_without_them_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = toolruns.eventful(tmp_path / "run")
    text = CONFIG.toml().replace("[search]\n", '[search]\nplugins = "absent"\n', 1)
    assert 'plugins = "absent"' in text
    with h5py.File(folder / "population.h5", "a") as file:
        kept = dict(file["configuration"].attrs)
        del file["configuration"]
        file["configuration"] = np.bytes_(text.encode())
        file["configuration"].attrs.update(kept)
    monkeypatch.setattr(plugins, "_loaded", {})
    with pytest.warns(UserWarning, match=r"read without the plugins absent, .*: hpcnas.plugins.load\('absent'\) "):
        assert len(hpcnas.open_run(folder)) == 5


def test_threads_that_read_runs_leave_nothing_behind() -> None:
    """One that begins first and ends first would else leave the other's report in place for everybody."""
    begun, ended = threading.Event(), threading.Event()

    def first() -> None:
        with plugins.done_without(lambda names: None):
            begun.set()
            ended.wait()

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait()
    with plugins.done_without(lambda names: None):
        ended.set()
        thread.join()
    with pytest.raises(plugins.NotNamed, match="^absent: not loaded: "):
        plugins.require("absent")


# ── genotypes and networks ──────────────────────────────────────────────────────────────────────────────────────────
def test_a_mutant_differs_in_one_edge_and_depends_on_the_generator_alone() -> None:
    mutants = [hpcnas.mutate(CHAIN, np.random.default_rng(seed)) for seed in range(20)]
    assert mutants == [hpcnas.mutate(CHAIN, np.random.default_rng(seed)) for seed in range(20)]
    differences = [sum(a != b for a, b in zip(CHAIN.codes, mutant.codes, strict=True)) for mutant in mutants]
    assert set(differences) == {0, 1}
    with pytest.raises(TypeError, match="expected numpy.random.default_rng"):
        hpcnas.mutate(CHAIN, np.random.RandomState(0))  # type: ignore[arg-type]


def test_size_counts_what_network_builds(run: hpcnas.Run) -> None:
    around = {"classes": 7, "image_channels": 1, "channels": 4, "cells": (1, 2), "stem": "strided"}
    for genotype in (named("paper"), run.best.genotype):
        network = hpcnas.build_network(genotype, **around)
        assert hpcnas.size(genotype, **around).parameters == sum(one.numel() for one in network.parameters())
    small, large = (hpcnas.size(CHAIN, height=side, width=side).flops for side in (8, 16))
    assert 3 * small < large < 4 * small + 1


def test_an_individuals_network_is_that_of_its_search_unless_asked_otherwise(run: hpcnas.Run) -> None:
    network = run.best.network()
    assert sum(one.numel() for one in network.parameters()) == hpcnas.size(run.best.genotype).parameters
    wider = run.best.network(channels=20)
    expected = hpcnas.size(run.best.genotype, channels=20).parameters
    assert sum(one.numel() for one in wider.parameters()) == expected


@pytest.mark.parametrize(
    ("around", "message"),
    [
        ({"classes": 0}, "expected for classes a whole number from 1, got 0"),
        ({"channels": 1.5}, "expected for channels a whole number from 1, got 1.5"),
        ({"image_channels": True}, "expected for image_channels a whole number from 1, got True"),
        ({"cells": ()}, "expected for cells how many each group has, such as (2, 2, 2), got ()"),
        ({"cells": "222"}, "expected for cells how many each group has, such as (2, 2, 2), got '222'"),
        ({"cells": np.array(2)}, "expected for cells how many each group has, such as (2, 2, 2), got array(2)"),
        ({"classes": 2**40}, "expected for classes at most 1,048,576, got 1099511627776"),
        ({"cells": (10**9,)}, "expected for cells at most 20 groups, of at most 10,000 each, got (1000000000,)"),
        (
            {"channels": 2**20, "cells": (1,)},
            "network.channels: expected a network that a memory holds, of at most "
            "68,719,476,736 parameters, got one of 1,099,511,627,776 without its cells: 1048576 channels, which double "
            "in each of 1 groups",
        ),
        ({"cells": 2}, "expected for cells how many each group has, such as (2, 2, 2), got 2"),
        ({"stem": "deep"}, "expected a stem of ('plain', 'strided'), got 'deep'"),
        ({"stem": "strided", "channels": 3}, "expected an even number of channels for a strided stem, got 3"),
    ],
)
def test_what_gives_no_network_is_one_sentence(around: dict[str, object], message: str) -> None:
    for made in (hpcnas.size, hpcnas.build_network):
        with pytest.raises(hpcnas.Error) as refusal:
            made(CHAIN, **around)  # type: ignore[arg-type]
        assert str(refusal.value) == message


def test_an_individual_is_no_genotype(run: hpcnas.Run) -> None:
    demand.package("matplotlib")
    generator = np.random.default_rng(0)
    for made in (hpcnas.size, hpcnas.build_network, hpcnas.draw, lambda given: hpcnas.mutate(given, generator)):
        with pytest.raises(TypeError, match="^expected a Genotype, got Individual: its `genotype` is one$"):
            made(run.best)
        with pytest.raises(TypeError, match="^expected a Genotype, got str$"):
            made("sep")


def test_a_genotype_without_a_path_is_an_error_everywhere(tmp_path: Path) -> None:
    demand.package("matplotlib")
    without = hpcnas.Genotype(SPACE, bytes(9))
    for made in (hpcnas.size, hpcnas.build_network, hpcnas.draw):
        with pytest.raises(hpcnas.Error, match="path"):
            made(without)


def test_a_picture_is_a_figure_and_a_file(tmp_path: Path) -> None:
    figure = demand.package("matplotlib.figure").Figure
    assert isinstance(hpcnas.draw(CHAIN), figure)
    for end in ("png", "svg", "pdf"):
        assert isinstance(hpcnas.draw(CHAIN, tmp_path / f"cell.{end}"), figure)
        assert (tmp_path / f"cell.{end}").stat().st_size > 1000
    with pytest.raises(hpcnas.Error, match="^expected a file ending with .png, .svg, .pdf, got 'cell.doc'$"):
        hpcnas.draw(CHAIN, "cell.doc")
    with pytest.raises(hpcnas.Error, match="expected to write .*: No such file or directory"):
        hpcnas.draw(CHAIN, tmp_path / "absent" / "cell.svg")


def test_a_picture_without_matplotlib_says_what_brings_it() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\nimport hpcnas\nfrom hpcnas.architecture.genotype import named\n"
        "try: hpcnas.draw(named('paper'))\nexcept hpcnas.Error as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("expected matplotlib for ") and "pip install 'hpcnas[tools]'" in done.stdout, done


# ── retrainings ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_retraining_gives_its_networks_with_their_weights(tmp_path: Path) -> None:
    import torch

    large = hpcnas.open_retraining(with_weights(tmp_path / "large"))
    assert (large.genotype, large.class_names) == (POOLING, INPUTS.class_names)
    assert [(one.seed, one.state, one.test_accuracy) for one in large.trainings[:2]] == [
        (0, "COMPLETE", 0.75), (1, "COMPLETE", 0.875),
    ]  # fmt: skip
    for seed, network in ((0, large.network()), (1, large.network(seed=1))):
        assert not network.training
        saved = torch.load(tmp_path / "large" / f"weights-{seed}.pt", weights_only=True)
        assert all(torch.equal(value, saved[name]) for name, value in network.network.state_dict().items())
    assert list(large.history())[:4] == ["seed", "step", "loss", "accuracy"]
    assert list(large.validations()) == ["seed", "step", "images", "accuracy", "loss", "seconds"]
    assert set(large.config) == {"network", "training", "augmentation", "data", "run"}
    with pytest.raises(hpcnas.Error, match=r"large: expected the seed of a complete training \(0, 1\), got 2$"):
        large.network(2)


def test_before_the_end_a_retraining_gives_what_is_saved(tmp_path: Path) -> None:
    import torch

    from hpcnas.retrain import underway
    from hpcnas.training import checkpoints

    states = (record.State.COMPLETE, record.State.TRAINING, record.State.WAITING)
    stored = whole_retraining.recorded(states, genotype=POOLING)
    large = hpcnas.open_retraining(whole_retraining.kept(tmp_path / "large", stored))
    training = underway.without_images(stored, 1)
    training.step = 30  # saved since retrain.h5 was
    checkpoints.save(tmp_path / "large" / "checkpoint.pt", training.state())
    network, step = large.saved_network(1)
    assert (step, network.training, large.state) == (30, False, "running")
    weights = training.weights()
    assert all(torch.equal(value, weights[name]) for name, value in network.network.state_dict().items())
    with pytest.raises(hpcnas.Error, match=r"large: expected the seed of a complete training \(0\), got 1$"):
        large.network(1)
    with pytest.raises(hpcnas.Error, match=r"large: expected the seed of a training \(0, 1, 2\), got 7$"):
        large.saved_network(7)
    with pytest.raises(hpcnas.Error, match=r"large: expected the seed of a complete training \(0\), got 2$"):
        large.saved_network(2)


def test_a_retraining_gives_what_it_says_of_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = retrained(tmp_path / "large", [0.5, 0.5])
    large = hpcnas.open_retraining(folder)
    with pytest.raises(hpcnas.Error, match="expected what seed 1 says of the test images, but that is not kept"):
        large.predictions(1)
    classes, shares = np.array([[1, 0], [3, 2]], dtype=np.int32), np.array([[0.75, 0.25]] * 2, dtype=np.float32)
    classes, shares = np.hstack([classes, 3 - classes]), np.hstack([shares, 0 * shares])
    found = predictions.Predictions(np.array([0, 2]), np.array([0, 3], dtype=np.int32),
                                    np.array([0.25, 0.75], dtype=np.float32), classes, shares)  # fmt: skip
    predictions.write(folder, record_file.read(folder), 1, found)
    assert large.confusion(1).tolist() == [[0, 1, 0, 0], [0] * 4, [0] * 4, [0, 0, 0, 1]]
    assert large.predictions(1)["file"].dtype == object  # names may be of any bytes
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = large.predictions(1)
    names = [f"{what}_{place}" for place in (1, 2, 3, 4) for what in ("class", "probability")]
    assert list(table) == ["image", "file", "label", "label_probability", *names]
    assert [table[name].tolist() for name in ("image", "file", "label", "class_1", "probability_2")] == [
        [0, 2], ["", ""], [0, 3], [1, 3], [0.25, 0.25],
    ]  # fmt: skip


def test_weights_that_are_damaged_or_missing_are_one_sentence(tmp_path: Path) -> None:
    large = hpcnas.open_retraining(with_weights(tmp_path / "large"))
    (tmp_path / "large" / "weights-0.pt").unlink()
    with open(tmp_path / "large" / "weights-1.pt", "r+b") as file:
        file.seek(500)
        file.write(b"damage")
    with pytest.raises(hpcnas.Error, match=r"weights-0.pt: expected a state_dict of this network"):
        large.network()
    with pytest.raises(hpcnas.Error, match=r"weights-1.pt is damaged: "):
        large.network(1)
