"""tools/verify.py: a sound run is called so, every planted fault is found, and what is good can be continued."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import examples
import h5py
import pytest
import toolruns

from hpcnas.evolution.individuals import Individual
from hpcnas.evolution.registry import make_strategy
from hpcnas.messages import Evaluation, Failure, FailureKind, Result
from hpcnas.search import run_file

TOOL = Path(__file__).parents[2] / "tools" / "verify.py"
OPTIONS = ["--evaluator", "synthetic", "--initial-population", "10", "--initial-mutations", "50", "--budget", "30"]


def search(folder: Path, *options: str) -> None:
    subprocess.run([sys.executable, "-m", "hpcnas", "--run", str(folder), *options], check=True, capture_output=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "run"
    search(folder, *OPTIONS)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def verify(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True)


def plant(folder: Path, table: str, row: int, value: object) -> None:
    with h5py.File(folder / "population.h5", "r+") as file:
        file[table][row] = value


def test_a_sound_run(run: Path) -> None:
    done = verify(run)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{run}: sound (30 individuals, 30 evaluated, 0 failed, 0 in flight)\n"


@pytest.mark.parametrize(
    ("table", "row", "value", "expected"),
    [
        ("individuals/genotype", 20, [0] * 46, "individual 20: expected genotype"),
        ("individuals/parent", 25, 24, "individual 25: expected parent"),
        ("individuals/fitness", 7, 0.99, "individual 7: expected as fitness the mean"),
        ("individuals/parameters", 7, 5, "individual 7: expected"),
        ("individuals/view", 12, 99, "individual 12: expected a view of 0 to 12 evaluations, got 99"),
        ("individuals/redrawn", 3, 5, "individual 3: expected redrawn 0, got 5"),
    ],
)
def test_a_planted_fault_is_found(run: Path, table: str, row: int, value: object, expected: str) -> None:
    plant(run, table, row, value)
    done = verify(run)
    assert done.returncode == 1
    assert expected in done.stdout and "NOT SOUND" in done.stdout


def test_children_of_a_damaged_parent_are_found_too(run: Path) -> None:
    parent = int(run_file.read(run).population.column("parent")[-1])
    plant(run, "individuals/genotype", parent, [0] * 46)  # of which no mutant is valid
    done = verify(run)
    assert done.returncode == 1
    assert f"individual {parent}: expected genotype" in done.stdout
    assert "individual 29: expected a birth that its strategy gives, but: expected a genotype" in done.stdout


def test_findings_as_json(run: Path) -> None:
    plant(run, "individuals/redrawn", 3, 5)
    found = json.loads(verify(run, "--json").stdout)
    assert (found["sound"], found["individuals"]) == (False, 30)
    assert found["problems"] == ["individual 3: expected redrawn 0, got 5"]


def test_what_stands_before_a_fault_is_written_elsewhere_and_goes_on(run: Path, tmp_path: Path) -> None:
    plant(run, "individuals/genotype", 20, [0] * 46)
    before = (run / "population.h5").read_bytes()
    done = verify(run, "--repair", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert "20 individuals written, 10 left out" in done.stdout
    assert (run / "population.h5").read_bytes() == before
    assert verify(tmp_path / "new").returncode == 0
    again = verify(run, "--repair", tmp_path / "new")
    assert again.returncode == 2 and "expected a folder without a run" in again.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "run"]
    search(tmp_path / "new")
    assert verify(tmp_path / "new").returncode == 0
    assert len(run_file.read(tmp_path / "new").population.evaluated) == 30


def test_trained_replicates_of_those_in_flight_and_failed_are_kept(tmp_path: Path) -> None:
    store = toolruns.created(tmp_path / "run", scheduling="replicate", initial_mutations=1)
    store.begin(examples.SESSION)
    strategy = make_strategy(store.config, examples.FACTS)
    part, crash = Evaluation((0.5,), 7, 1.0, 2.0, 3.0), Failure(FailureKind.ERROR, "broken")
    for id in range(3):
        proposal = strategy.ask(store.population, id, 0)
        store.birth(Individual(id, proposal.genotype, proposal.birth, None, 0, proposal.redrawn + (id == 2), 1.0))
        store.advance(Result(id, 1, examples.PLACE, 2.0, 3.0, part, first=1))
    store.settle(Result(1, 1, examples.PLACE, 5.0, 6.0, crash))
    store.compact()
    store.close()
    assert verify(tmp_path / "run", "--repair", tmp_path / "new").returncode == 0
    kept = run_file.read(tmp_path / "new").population
    assert (len(kept), kept.issued, list(kept.failures), kept.missing(0)) == (2, [0], [1], [0])
    assert kept.column("replicates_trained").tolist() == [1, 1] and kept.trainings == 2
    assert kept.column("worker_seconds").tolist() == [1.0, 2.0]


def test_a_journal_damaged_in_the_middle_is_kept_up_to_there(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    search(folder, *OPTIONS, "--budget", "12")
    lines = (folder / "journal").read_bytes().splitlines(keepends=True)
    assert len(lines) == 1  # compacted at the end: make one that is not
    header = json.loads(lines[0][9:])
    shutil.copytree(folder, tmp_path / "copy")
    records = [{"birth": {"id": 99}}, {"nonsense": {}}]
    text = b"".join(b"%08x %s\n" % (zlib.crc32(body), body) for body in (json.dumps([r]).encode() for r in records))
    (folder / "journal").write_bytes(lines[0] + text)
    done = verify(folder)
    assert done.returncode == 1
    assert f"record {header['base'] + 1} does not fit the run" in done.stdout
    damaged = bytearray(lines[0] + text)
    damaged[len(lines[0]) + 12] ^= 1
    (folder / "journal").write_bytes(damaged)
    done = verify(folder, "--repair", tmp_path / "new")
    assert "line 2 of 3 is damaged" in done.stdout and "12 individuals written, 0 left out" in done.stdout
    assert verify(tmp_path / "new").returncode == 0


def test_nothing_to_check(tmp_path: Path) -> None:
    done = verify(tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"verify: expected a run in {tmp_path}, but there is no population.h5\n"
    (tmp_path / "population.h5").write_bytes(b"\x89HDF\r\n\x1a\n half a file")
    assert verify(tmp_path).returncode == 2
