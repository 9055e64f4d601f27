"""tools/export.py: what it writes is the search's own genotype, network and table, and needs no hpcnas to be used."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import demand
import examples
import numpy as np
import pytest
import torch
from toolruns import curved

from hpcnas import __version__
from hpcnas.analysis import exported_module
from hpcnas.analysis.export import source as named_source
from hpcnas.architecture import expansion, genotype
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.architecture.space import FLAT, HIERARCHICAL, Space
from hpcnas.command import export
from hpcnas.config import search as search_config
from hpcnas.errors import Error
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.search.file_store import FileStore
from hpcnas.training.network import Network

TOOL = Path(__file__).parent.parent.parent / "tools/export.py"
SMALL = Skeleton(image_channels=3, height=8, width=8, classes=5, channels=4, cells=(2, 2))
THREE_LEVELS = Space.parse("3x3/2x3/1x3")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an individual in flight, two evaluated and one failed; number 2, of fitness 0.7, is the best. The
    genotypes of 0 and 3 have no path from source to sink."""
    folder = tmp_path_factory.mktemp("export") / 'a "run"'
    store = FileStore.create(folder, examples.CONFIG)
    store.begin(examples.SESSION)
    for id in range(4):
        store.birth(examples.individual(id, parent=1 if id == 2 else None))
    for result in (examples.evaluated(2, 0.6, 0.8), examples.failed(3), examples.evaluated(1)):
        store.settle(result)
    store.compact()
    store.close()
    return folder


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "empty"
    FileStore.create(folder, examples.CONFIG).close()
    return folder


def exported(*arguments: str | Path) -> str:
    """The file that the tool writes for these arguments."""
    *others, output = map(str, arguments)
    assert export.main([*others, "-o", output]) == 0
    return Path(output).read_text(encoding="utf-8")


def load(path: Path) -> ModuleType:
    """An exported Python file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_genotype(space: Space, seed: int) -> Genotype:
    """One that has a network."""
    generator = np.random.default_rng(seed)
    most = np.concatenate(
        [
            np.full(level.motifs * level.edges, len(genotype.operation_names(space, number)))
            for number, level in enumerate(space.levels, start=2)
        ]
    )
    while True:
        found = Genotype.from_array(space, generator.integers(0, most, endpoint=True))
        if expansion.is_valid(found):
            return found


# ── the module ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "found",
    [
        pytest.param(genotype.named("paper"), id="paper"),
        *(
            pytest.param(random_genotype(space, seed), id=f"{space}-{seed}".replace("/", ","))
            for space, seeds in ((HIERARCHICAL, range(4)), (FLAT, range(2)), (THREE_LEVELS, range(3)))
            for seed in seeds
        ),
    ],
)
def test_the_module_is_the_same_network(found: Genotype, tmp_path: Path) -> None:
    (tmp_path / "it.toml").write_text(found.text())
    exported("module", tmp_path / "it.toml", tmp_path / "network.py")
    twin = load(tmp_path / "network.py").Network(channels=4, cells=(2, 2), classes=5, image_channels=3)
    torch.manual_seed(0)
    original = Network(expansion.expand(found), SMALL)
    assert list(twin.state_dict()) == list(original.state_dict())
    assert sum(p.numel() for p in twin.parameters()) == sum(p.numel() for p in original.parameters())
    twin.load_state_dict(original.state_dict())
    twin.double(), original.double()
    images = torch.randn(2, 3, 8, 10, dtype=torch.float64)
    with torch.no_grad():
        for mode in (True, False):  # batch normalisation by the batch, then by what it has learnt
            torch.testing.assert_close(twin.train(mode)(images), original.train(mode)(images), rtol=0, atol=0)
        assert original(images).std() > 1e-6


def test_the_module_needs_torch_alone_and_runs(run: Path, tmp_path: Path) -> None:
    exported("module", run, tmp_path / "network.py")
    check = "import runpy, sys; runpy.run_path('network.py', run_name='__main__'); assert 'hpcnas' not in sys.modules"
    done = subprocess.run([sys.executable, "-I", "-c", check], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = sum(
        parameter.numel()
        for parameter in Network(
            expansion.expand(examples.individual(2).genotype), examples.CONFIG.skeleton(examples.FACTS)
        ).parameters()
    )
    assert done.stdout == f"{expected:,} parameters\nimages (2, 3, 32, 32) → scores (2, 10)\n"


def test_the_module_says_where_it_comes_from(run: Path, tmp_path: Path) -> None:
    text = exported("module", f"{run}:2", tmp_path / "network.py")
    assert text.startswith('"""The network of individual 2 of the run a run.\n\nFitness: 0.7000 ± 0.1414 (validation')
    assert f"search space: 2x3/1x3.\nWritten by hpcnas {__version__}. Needs torch alone." in text
    assert not re.search("@[A-Z]+@", text)


def test_the_module_writes_the_cell_out(tmp_path: Path) -> None:
    text = exported("module", "paper", tmp_path / "network.py")
    assert '4: [(1, "M3"), (2, "M1"), (3, "M3")],' in text  # of the cell
    assert '3: [(1, "1x1"), (2, "dw")],' in text  # of M1
    assert '"M2"' not in text and '"M6"' not in text  # nobody uses them


def test_defaults_of_the_module_are_the_searchs_or_those_asked_for(run: Path, tmp_path: Path) -> None:
    exported("module", run, "--channels", "24", "--cells", "1", "1", tmp_path / "network.py")
    network = load(tmp_path / "network.py").Network()
    assert network.stem[0].weight.shape == (24, 3, 3, 3)
    assert network.classifier.weight.shape == (10, 48)


@pytest.mark.parametrize("source", ["paper", "run", "wide"])
def test_the_module_is_formatted_and_linted(source: str, run: Path, tmp_path: Path) -> None:
    if source == "wide":
        wide = Genotype(Space.parse("1x14"), bytes([6]) * 91)
        (tmp_path / "wide.toml").write_text(wide.text())
    exported("module", {"paper": "paper", "run": run, "wide": tmp_path / "wide.toml"}[source], tmp_path / "network.py")
    settings = ["--config", TOOL.parent.parent / "pyproject.toml", "--no-cache", tmp_path / "network.py"]
    for command in (["format", "--check"], ["check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *settings], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_a_name_cannot_break_out_of_the_header() -> None:
    assert exported_module.printable('a"""\nimport os\\') == "aimport os"


# ── text, ONNX, the table ───────────────────────────────────────────────────────────────────────────────────────────
def test_text_is_read_back(run: Path, tmp_path: Path) -> None:
    assert Genotype.from_text(exported("text", run, tmp_path / "a.toml")) == examples.individual(2).genotype
    assert Genotype.from_text(exported("text", f"{run}:1", tmp_path / "b.toml")) == examples.individual(1).genotype
    assert Genotype.from_text(exported("text", "paper", tmp_path / "c.toml")) == genotype.named("paper")


def test_onnx_computes_the_same(run: Path, tmp_path: Path) -> None:
    onnxruntime = demand.package("onnxruntime")
    onnx = demand.package("onnx")
    torch.manual_seed(1)
    skeleton = search_config.SearchConfig(network=search_config.NetworkSettings(channels=4)).skeleton(examples.FACTS)
    network = Network(expansion.expand(examples.individual(2).genotype), skeleton)
    network(torch.randn(4, 3, 8, 8))  # running means that are not 0
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    path = tmp_path / "network.onnx"
    options = ["--channels", "4", "--weights", str(tmp_path / "weights.pt")]
    assert export.main(["onnx", str(run), *options, "-o", str(path)]) == 0
    images = torch.randn(3, 3, 12, 7)
    (scores,) = onnxruntime.InferenceSession(path).run(["scores"], {"images": images.numpy()})
    np.testing.assert_allclose(scores, network.eval()(images).detach().numpy(), atol=1e-5)
    properties = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert properties["genotype"] == 'individual 2 of the run a "run"'
    assert properties["fitness"].startswith("0.7000 ± 0.1414")
    assert (properties["weights"], properties["codes"]) == ("weights.pt", "02" * 9)


def test_weights_of_another_network_are_refused(run: Path, tmp_path: Path) -> None:
    demand.package("onnx")
    torch.save({"stem.0.weight": torch.zeros(1)}, tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("weights")
    for name, expected in (("weights.pt", "a state_dict of this network"), ("text.pt", "a file of torch.save")):
        with pytest.raises(Error) as exit:
            export.main(["onnx", str(run), "--weights", str(tmp_path / name), "-o", str(tmp_path / "network.onnx")])
            assert expected in str(exit.value)
    assert not (tmp_path / "network.onnx").exists()


def test_the_table(run: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(exported("csv", run, tmp_path / "run.csv"))))
    assert [row["id"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["state"] for row in rows] == ["ISSUED", "EVALUATED", "EVALUATED", "FAILED"]
    assert [row["fitness"] for row in rows] == ["", "0.55", "0.7", ""]
    assert [row["accuracy_2"] for row in rows] == ["", "0.6", "0.8", ""]
    assert [row["evaluation"] for row in rows] == ["", "2", "1", ""]
    assert [row["parent"] for row in rows] == ["", "", "1", ""]
    assert [row["birth"] for row in rows] == ["INITIAL", "INITIAL", "MUTATION", "INITIAL"]
    assert [row["failure"] for row in rows] == ["", "", "", "OOM"]
    assert [row["attempts"] for row in rows] == ["0", "1", "1", "2"]
    assert (rows[1]["genotype"], rows[1]["network"]) == ("01" * 9, "")
    assert (rows[0]["host"], rows[3]["host"], rows[3]["started"]) == ("", "node-7", "3003.0")


def test_the_table_of_a_run_with_rungs_has_a_column_for_each_of_each_replicate(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(exported("csv", curved(tmp_path / "run"), tmp_path / "run.csv"))))
    assert list(rows[0])[-8:] == [
        "failure", "accuracy_1_at_0.25", "accuracy_1_at_0.5", "accuracy_2_at_0.25", "accuracy_2_at_0.5", "judged",
        "stopped_after", "evaluation",
    ]  # fmt: skip
    assert [row["state"] for row in rows] == ["EVALUATED", "STOPPED", "EVALUATED", "STOPPED", "ISSUED"]
    assert [row["accuracy_2_at_0.5"] for row in rows] == ["0.5", "0.25", "0.625", "", ""]
    assert [row["judged"] for row in rows] == ["2", "2", "2", "2", "0"]
    assert [row["stopped_after"] for row in rows] == ["", "0", "", "1", ""]
    assert [row["evaluation"] for row in rows] == ["1", "", "2", "", ""]


def test_the_module_of_one_that_was_stopped_early_has_no_fitness(tmp_path: Path) -> None:
    found = named_source(f"{curved(tmp_path / 'run')}:1")
    assert found.quality == ("fitness", "none, since its training was stopped early at 50 % of the steps")


def test_pandas_reads_the_table(run: Path, tmp_path: Path) -> None:
    pandas = demand.package("pandas")
    exported("csv", run, tmp_path / "run.csv")
    table = pandas.read_csv(tmp_path / "run.csv", index_col="id")
    assert table["fitness"].idxmax() == 2
    assert table["parameters"].sum() == 1001 + 1002


def test_an_empty_run(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(["csv", str(empty)]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert rows == []
    assert header == (  # which is read by position, too: new columns go before `evaluation`
        "id,birth,parent,view,redrawn,known,network,network_version,repeats,genotype,born,state,attempts,accuracy_1,"
        "accuracy_2,replicates_trained,fitness,parameters,setup_seconds,training_seconds,validation_seconds,"
        "worker_seconds,started,finished,rank,host,device,failure,evaluation"
    )
    with pytest.raises(Error) as exit:
        export.main(["module", str(empty)])
    assert "no individual has been evaluated yet" in str(exit.value)


def test_a_genotype_without_a_network(run: Path) -> None:
    with pytest.raises(Error, match="individual 0 of the run .*expected a path from"):
        export.main(["module", f"{run}:0"])


def test_without_an_output_everything_goes_to_the_terminal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(["text", "paper"]) == 0
    assert capsys.readouterr().out == genotype.named("paper").text()
    assert export.main(["--json", "module", f"{run}:1"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["genotype"] == 'individual 1 of the run a "run"' and said["text"].startswith('"""')
    with pytest.raises(Error) as exit:
        export.main(["onnx", "paper"])
    assert "expected --output FILE" in str(exit.value)


def test_an_individual_in_flight_has_no_fitness(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", search_config.build({"search": {"space": "2x3/1x3"}}))
    store.begin(examples.SESSION)
    store.birth(Individual(0, Genotype(examples.SPACE, b"\1" * 9), Birth.INITIAL, None, 0, 0, 1.0))
    store.compact()
    store.close()
    assert "Fitness: not evaluated;" in exported("module", f"{tmp_path / 'run'}:0", tmp_path / "network.py")


def test_as_a_command(run: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, TOOL, "csv", run], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 5)
    done = subprocess.run([sys.executable, TOOL, "csv", tmp_path / "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"export: expected a run in {tmp_path / 'nothing'}, but there is no population.h5\n"


def test_random_weights_are_those_of_a_seed_and_leave_torchs_generator_alone(run: Path, tmp_path: Path) -> None:
    demand.package("onnx")
    before = torch.get_rng_state()
    for name, seed in (("one", "1"), ("again", "1"), ("other", "2")):
        assert export.main(["onnx", str(run), "--channels", "2", "--seed", seed, "-o", str(tmp_path / name)]) == 0
    assert torch.equal(torch.get_rng_state(), before)
    one, again, other = ((tmp_path / name).read_bytes() for name in ("one", "again", "other"))
    assert one == again != other
