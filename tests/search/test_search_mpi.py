"""The whole search under a real `mpirun`: trainings, replay, restart on other ranks, every kind of wrong use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mpi as launcher
import numpy as np
import pytest
from patience import GUARD

from hpcnas.analysis import replay
from hpcnas.architecture.genotype import Genotype
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import Birth, State
from hpcnas.search import run_file

SMALL = [
    *("--budget", "6", "--initial-population", "4", "--steps", "3", "--batch-size", "16", "--channels", "2"),
    *("--replicates", "2", "--initial-mutations", "30", "--threads", "1", "--progress", "plain"),
]
SYNTHETIC = ["--evaluator", "synthetic", "--initial-population", "10", "--initial-mutations", "50"]


def hpcnas(*arguments: str) -> list[str]:
    return ["-m", "hpcnas", *arguments]


def status(folder: Path) -> dict[str, str]:
    lines = (folder / "status").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def assert_sound(folder: Path, budget: int) -> run_file.StoredRun:
    """The budget is spent to the last evaluation, and every birth is what the strategy gives at replay."""
    run = run_file.read(folder)
    assert len(run.population.evaluated) == budget
    assert run.population.in_flight == 0
    assert list(replay.deviations(run.config, run.sessions[0].facts, run.population)) == []
    return run


def test_three_ranks_train_real_networks_and_name_the_best(mpi: launcher.Mpi, ranks: int, tmp_path: Path) -> None:
    done = launcher.run(mpi, ranks, hpcnas(*SMALL, "--run", "run"), cwd=tmp_path, timeout=GUARD)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "run"
    run = assert_sound(folder, budget=6)
    population = run.population
    accuracies = population.column("accuracies")
    assert accuracies.shape == (6, 2) and ((accuracies >= 0) & (accuracies <= 1)).all()
    assert np.array_equal(population.column("fitness"), accuracies.mean(axis=1))
    assert set(population.column("rank")) == set(range(1, ranks))  # nobody was idle
    assert set(population.column("device")) == {b"cpu"}
    assert run.sessions[0].software["torch"] and run.sessions[0].ranks == ranks
    best = population.individual(population.best)
    assert Genotype.from_text((folder / "best.toml").read_text()) == best.genotype
    assert "the search is complete" in done.stdout and f"best individual    {best.id}" in done.stdout
    assert status(folder)["state"] == "complete" and status(folder)["evaluated"] == "6"
    assert list((folder / "inflight").iterdir()) == []


def test_a_finished_run_is_confirmed(one_mpi: launcher.Mpi, tmp_path: Path) -> None:
    first = launcher.run(one_mpi, 3, hpcnas(*SYNTHETIC, "--budget", "20", "--run", "run"), cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    more = launcher.run(one_mpi, 4, hpcnas("--run", "run", "--confirm", "3"), cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    run = run_file.read(tmp_path / "run")
    population = run.population
    best = population.individual(population.best)
    assert best.birth is Birth.CONFIRMATION and population.searched == 20
    assert (population.column("birth")[:20] != Birth.CONFIRMATION).all()
    assert list(replay.deviations(run.config, run.sessions[0].facts, population)) == []
    told = status(tmp_path / "run")
    assert (told["evaluated"], told["budget"]) == ("20", "20")
    assert told["confirmations"] == str(population.confirmations)
    assert f"individual {best.parent} of the search, with new seeds" in more.stdout
    assert Genotype.from_text((tmp_path / "run" / "best.toml").read_text()) == best.genotype


def test_a_finished_run_says_so_and_a_larger_budget_continues_it_on_other_ranks(
    mpi: launcher.Mpi, tmp_path: Path
) -> None:
    first = launcher.run(mpi, 4, hpcnas(*SYNTHETIC, "--budget", "40", "--run", "run"), cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert_sound(tmp_path / "run", 40)
    again = launcher.run(mpi, 3, hpcnas("--run", "run"), cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout.count("is finished") == 1
    more = launcher.run(mpi, 2, hpcnas("--run", "run", "--budget", "70"), cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    run = assert_sound(tmp_path / "run", 70)
    assert [session.ranks for session in run.sessions] == [4, 2]


def test_a_search_cut_in_the_middle_goes_on_with_another_number_of_ranks(mpi: launcher.Mpi, tmp_path: Path) -> None:
    slow = [*SYNTHETIC, "--synthetic-seconds", "0.1", "--budget", "60", "--run", "run", "--walltime", "4"]
    first = launcher.run(mpi, 3, hpcnas(*slow, "--grace", "1.5"), cwd=tmp_path)
    assert first.returncode == 75, first.stdout + first.stderr
    assert status(tmp_path / "run")["state"] == "more"
    before = run_file.read(tmp_path / "run").population
    assert 0 < len(before.evaluated) < 60
    second = launcher.run(mpi, 5, hpcnas("--run", "run", "--synthetic-seconds", "0"), cwd=tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    after = assert_sound(tmp_path / "run", 60).population
    for id in range(len(before)):  # nothing drawn anew, nothing forgotten
        assert after.individual(id) == before.individual(id)
        if before.column("state")[id] == State.EVALUATED:
            assert after.result(id) == before.result(id)


def test_one_rank_does_both(mpi: launcher.Mpi, tmp_path: Path) -> None:
    done = launcher.run(mpi, 1, hpcnas(*SMALL, "--run", "run", "--budget", "2"), cwd=tmp_path, timeout=GUARD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_sound(tmp_path / "run", 2)


@pytest.mark.parametrize("strategy", [["--strategy", "random"], ["--max-parameters", "100000"], ["--space", "flat"]])
def test_strategies_and_spaces(strategy: list[str], tmp_path: Path) -> None:
    command = [sys.executable, *hpcnas(*SYNTHETIC, *strategy, "--budget", "40", "--run", "run")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 0, done.stderr
    population = assert_sound(tmp_path / "run", 40).population
    if "--max-parameters" in strategy:
        assert population.column("parameters").max() < 100_000
    if "random" in strategy:
        assert (population.column("parent") == -1).all()


WRONG = {
    "unknown option": (["--bugdet", "9"], "--bugdet"),
    "wrong type": (["--budget", "many"], "invalid int value: 'many'"),
    "out of bounds": (["--budget", "0"], "search.budget: expected an integer ≥ 1, got 0"),
    "unknown preset": (["--preset", "papr"], "did you mean 'paper'?"),
    "unknown key": (["--config", "wrong.toml"], "unknown setting 'bugdet' in [search]; did you mean 'budget'?"),
    "missing file": (["--config", "none.toml"], "--config: expected a readable file none.toml: No such file"),
    "bad space": (["--space", "6x4/2x5"], "the top level (level 3) is the whole cell"),
    "unknown data": (["--data", "cifar:x"], "did you mean cifar10:DIR?"),
    "missing data": (["--data", "imagefolder:nowhere"], "expected nowhere/train"),
    "no GPU": (["--device", "cuda"], "expected a GPU for every worker (--device cuda)"),
    "impossible constraint": ([*SYNTHETIC, "--max-parameters", "10"], "allow larger networks"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_wrong_use_gives_one_message_once_and_exit_code_2(
    case: str, mpi: launcher.Mpi, ranks: int, tmp_path: Path
) -> None:
    arguments, expected = WRONG[case]
    (tmp_path / "wrong.toml").write_text("[search]\nbugdet = 3\n")
    done = launcher.run(mpi, ranks, hpcnas(*arguments), cwd=tmp_path, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(expected) == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_a_run_that_cannot_go_on_here_keeps_its_status(tmp_path: Path) -> None:
    command = [sys.executable, *hpcnas(*SYNTHETIC, "--run", "run")]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    for options, code, state in (
        (["--budget", "10000", "--synthetic-seconds", "0.01", "--walltime", "3", "--grace", "2"], 75, "more"),
        (["--device", "cuda"], 2, "more"),
        (["--device", "cpu", "--budget", "10001", "--walltime", "3", "--grace", "2"], 75, "more"),
    ):
        done = subprocess.run([*command, *options], cwd=tmp_path, env=environment, capture_output=True, timeout=GUARD)
        assert (done.returncode, status(tmp_path / "run")["state"]) == (code, state), done.stderr


def test_a_run_that_never_began_takes_other_settings(tmp_path: Path) -> None:
    command = [sys.executable, *hpcnas("--run", "run", "--budget", "12", "--threads", "1")]
    nowhere = [*command, "--data", "imagefolder:nowhere"]
    first = subprocess.run(nowhere, cwd=tmp_path, capture_output=True, timeout=GUARD)
    assert first.returncode == 2
    assert os.listdir(tmp_path / "run") == ["log"]
    second = subprocess.run([*command, *SYNTHETIC, "--seed", "3"], cwd=tmp_path, capture_output=True, timeout=GUARD)
    assert second.returncode == 0, second.stderr
    assert assert_sound(tmp_path / "run", 12).config.search.seed == 3


def test_other_settings_are_refused_with_the_differences(mpi: launcher.Mpi, tmp_path: Path) -> None:
    launcher.run(mpi, 2, hpcnas(*SYNTHETIC, "--budget", "12", "--run", "run"), cwd=tmp_path)
    done = launcher.run(
        mpi, 2, hpcnas("--run", "run", "--seed", "5", "--batch-size", "8", "--budget", "20"), cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.count("search.seed: 0 → 5") == 1
    assert done.stderr.count("training.batch_size: 64 → 8") == 1
    assert "budget" not in done.stderr.replace("--budget", "")


def test_an_unexpected_exception_on_a_worker_ends_the_job_and_tells_where(mpi: launcher.Mpi, tmp_path: Path) -> None:
    code = (
        "import sys, hpcnas.search.synthetic as s\n"
        "def broken(self, timeout): raise ZeroDivisionError('planted')\n"
        "s.SyntheticEvaluator.poll = broken\n"
        "from hpcnas.__main__ import main\n"
        f"sys.argv[1:] = {[*SYNTHETIC, '--run', 'run']!r}\n"
        "sys.exit(main())"
    )
    done = launcher.run(mpi, 3, ["-c", code], cwd=tmp_path)
    assert done.returncode != 0
    assert "hpcnas: rank " in done.stderr and "ZeroDivisionError: planted" in done.stderr


def test_dry_run_trains_nothing_and_writes_nothing(mpi: launcher.Mpi, ranks: int, tmp_path: Path) -> None:
    done = launcher.run(mpi, ranks, hpcnas("--dry-run", "--channels", "16", "--threads", "1"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the paper's cell: 541,850 parameters" in done.stdout
    assert done.stdout.count("worker, cpu, 1 threads") == ranks - 1
    assert SearchConfig().search.space in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_is_printed_once(mpi: launcher.Mpi, tmp_path: Path) -> None:
    done = launcher.run(mpi, 3, hpcnas("--help-all"), cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.count("--tournament-fraction F") == 1
