"""A start that is refused leaves the run as it was, and a new one leaves nothing; a dry run writes nothing at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_lock
from live_run import GUARD

from hpcnas.config import search as search_config
from hpcnas.search import run_file
from hpcnas.search.file_store import FileStore

SYNTHETIC = ["--evaluator", "synthetic", "--space", "2x3/1x3", "--initial-mutations", "5", "--initial-population", "3"]
ROOT = Path(run_file.__file__).parents[2]
holder = test_lock.holder  # a process that holds tmp_path's lock


def start(folder: Path, *options: str, module: str = "hpcnas", wait: str = "0") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, "--run", str(folder), "--progress", "plain", "--lock-wait", wait, *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, timeout=GUARD, env=environment)


def contents(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Every file of a folder but its log and the word of who held it last: content, inode, time of its last change."""
    return {
        path.name: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file() and path.name not in ("log", "lock")
    }


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete search of three individuals."""
    folder = tmp_path_factory.mktemp("complete") / "run"
    done = start(folder, *SYNTHETIC, "--budget", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def run(complete: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-r", complete, tmp_path / "run"], check=True)
    return tmp_path / "run"


# ── runs that are there ─────────────────────────────────────────────────────────────────────────────────────────────
REFUSED = {
    "other settings": (["--seed", "7"], "was made with other settings"),
    "no such data": (["--data", "imagefolder:nowhere", "--budget", "9"], "expected nowhere/train to hold a folder"),
    "no such device": (["--device", "cuda", "--budget", "9"], "expected a GPU"),
    "no such plugin": (["--plugin", "no.such.module", "--budget", "9"], "no.such.module"),
    "wrong value": (["--budget", "0"], "expected an integer"),
    "finished": (["--data", "imagefolder:nowhere"], ""),
}


def trained(run: Path) -> None:
    """Gives a run of synthetic evaluations the settings of one that trains, for its workers to look at the data."""
    store = FileStore.open(run)
    settings = search_config.build(store.config.settings(), {"evaluation": {"evaluator": "training"}})
    store.config = settings
    store.compact()
    store.close()


@pytest.mark.parametrize("status", ["state=complete\nevaluated=3\n", None])
@pytest.mark.parametrize("case", REFUSED)
def test_an_existing_run_stays_as_it_was(run: Path, case: str, status: str | None) -> None:
    trained(run)
    (run / "status").unlink()
    if status is not None:
        (run / "status").write_text(status)
    options, words = REFUSED[case]
    before = contents(run)
    done = start(run, *options)
    assert words in done.stdout + done.stderr and "Traceback" not in done.stderr
    if case == "finished":  # nothing to do is no mistake
        assert done.returncode == 0
        assert run_file.read(run).config.data.source == "digits"
        return
    assert done.returncode == 2, done.stdout + done.stderr
    after = contents(run)
    assert {name: content for name, (content, *_) in after.items()} == {
        name: content for name, (content, *_) in before.items()
    }
    assert after["population.h5"] == before["population.h5"] and after["journal"] == before["journal"]
    assert start(run, "--budget", "3").returncode == 0


def test_settings_that_the_search_goes_on_with_are_kept(run: Path) -> None:
    assert start(run, "--budget", "5", "--max-failures", "7").returncode == 0
    settings = run_file.read(run).config
    assert (settings.search.budget, settings.run.max_failures) == (5, 7)


# ── runs that are not there yet ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "options",
    [
        ["--data", "imagefolder:nowhere"],
        ["--device", "cuda"],
        [*SYNTHETIC, "--max-parameters", "1"],
        [*SYNTHETIC, "--initial", "nowhere.toml"],
    ],
    ids=["data", "device", "nothing allowed", "initial"],
)
def test_a_new_run_is_not_there_afterwards(tmp_path: Path, options: list[str]) -> None:
    done = start(tmp_path / "run", *options)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stdout + done.stderr
    left = os.listdir(tmp_path / "run") if (tmp_path / "run").exists() else []
    assert left in ([], ["log"])
    assert start(tmp_path / "run", *SYNTHETIC, "--budget", "3", "--seed", "5").returncode == 0


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_retrainings_folder_is_not_taken(tmp_path: Path, dry: tuple[str, ...]) -> None:
    (tmp_path / "retrain.h5").write_bytes(b"")
    done = start(tmp_path, *SYNTHETIC, "--budget", "3", *dry)
    assert done.returncode == 2, done.stderr
    assert f"expected a folder for a search, but {tmp_path} holds a retraining; give another --run" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["retrain.h5"]


# ── a lock that is held ─────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("module", ["hpcnas", "hpcnas.retrain"])
def test_a_run_that_is_held_is_left_alone(tmp_path: Path, holder: subprocess.Popen[str], module: str) -> None:
    (tmp_path / "status").write_text("state=more\n")
    before = contents(tmp_path)
    options = SYNTHETIC if module == "hpcnas" else ["--preset", "quick"]
    done = start(tmp_path, *options, module=module)
    assert done.returncode == 2
    assert done.stderr.endswith(f"pid {holder.pid}\n") and "already has a controller" in done.stderr
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("module", ["hpcnas", "hpcnas.retrain"])
def test_a_signal_ends_the_wait_with_more_to_do(tmp_path: Path, module: str) -> None:
    options = SYNTHETIC if module == "hpcnas" else ["--preset", "quick"]
    command = [sys.executable, "-m", module, "--run", str(tmp_path), "--lock-wait", "3600", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            assert "waiting up to 3600 s for it to end" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
            assert process.wait(GUARD) == 75
            assert said == f"{module}: SIGTERM received while waiting for {tmp_path}; start the same command again\n"
        finally:
            process.kill()
    assert sorted(os.listdir(tmp_path)) == ["lock"]


def test_the_second_of_two_that_begin_a_run_goes_on_with_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", test_lock.HOLDER, str(tmp_path / "run")], cwd=ROOT) as never:
        assert never.wait(GUARD) != 0  # there is no such folder
    (tmp_path / "run").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", test_lock.HOLDER, str(tmp_path / "run")], cwd=ROOT, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as first:  # fmt: skip
        assert first.stdout is not None and first.stdin is not None and first.stdout.readline() == "held\n"
        command = [sys.executable, "-m", "hpcnas", "--run", str(tmp_path / "run"), *SYNTHETIC, "--budget", "3"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as second:
            try:
                assert second.stderr is not None and "waiting up to 60 s" in second.stderr.readline()
                new = FileStore.create(tmp_path / "other", search_config.build(_settings()))
                new.close()
                for name in ("population.h5", "journal"):
                    os.rename(tmp_path / "other" / name, tmp_path / "run" / name)
                first.stdin.close()
                assert second.wait(GUARD) == 0
            finally:
                second.kill()
                first.kill()


def _settings() -> dict[str, dict[str, object]]:
    return {"search": {"space": "2x3/1x3"}, "evaluation": {"evaluator": "synthetic"}}


# ── dry runs ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def read_only(run: Path) -> Iterator[Path]:
    """A run in which nothing can be written, as a colleague's: also root meets a mount that is read-only."""
    if subprocess.run(["mount", "--bind", run, run], capture_output=True).returncode == 0:
        subprocess.run(["mount", "-o", "remount,bind,ro", run], check=True)
        yield run
        subprocess.run(["umount", run], check=True)
    else:
        run.chmod(0o555)
        yield run
        run.chmod(0o755)


def test_a_dry_run_of_a_run_that_can_only_be_read(read_only: Path) -> None:
    (read_only.parent / "inflight").mkdir()
    done = start(read_only, "--dry-run", "--budget", "9")
    assert done.returncode == 0, done.stderr
    assert "budget = 9" in done.stdout and 'space = "2x3/1x3"' in done.stdout


def _everything(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = [folder, *folder.rglob("*")]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size) for path in found}


@pytest.mark.parametrize("prepare", ["torn", "no lock", "held", "half", "finished", "refused"])
def test_a_dry_run_changes_nothing_at_all(run: Path, prepare: str, tmp_path: Path) -> None:
    (run / "inflight").mkdir()
    for name in ("1.pt", "99.pt", ".1.pt.7.tmp"):
        (run / "inflight" / name).touch()
    options = ["--budget", "9"]
    if prepare == "torn":
        with (run / "journal").open("ab") as file:
            file.write(b'9b2e4410 {"birth":')
    elif prepare == "half":
        (run / ".journal.7.tmp").touch()
    elif prepare == "finished":
        options = []
    elif prepare == "refused":
        options = ["--seed", "7"]
    if prepare == "no lock":
        (run / "lock").unlink()
    store = FileStore.open(run) if prepare == "held" else None
    before = _everything(run)
    done = start(run, "--dry-run", *options)
    assert done.returncode == (2 if prepare == "refused" else 0), done.stderr
    assert _everything(run) == before
    if store is not None:
        store.close()


def test_a_dry_run_with_a_linked_inflight_leaves_what_is_there(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("thesis.tex", "other.pt", "1.pt"):
        (tmp_path / "mine" / name).touch()
    (run / "inflight").symlink_to("../mine")
    assert start(run, "--dry-run", "--budget", "9").returncode == 0
    assert len(os.listdir(tmp_path / "mine")) == 3
    assert start(run, "--budget", "5").returncode == 0
    assert sorted(os.listdir(tmp_path / "mine")) == ["other.pt", "thesis.tex"]  # 1.pt was a checkpoint by its name
    assert (run / "inflight").is_symlink()
