"""tools/watch.py: what it says of a run in progress, literal; the tool itself, once, and live in a pseudo-terminal."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pty
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import examples
import pytest
from patience import GUARD

from hpcnas.analysis import host_usage, snapshot
from hpcnas.command import watch_view
from hpcnas.config import search as search_config
from hpcnas.messages import Evaluation, Place, Result
from hpcnas.search.file_store import FileStore

TOOL = Path(__file__).parent.parent.parent / "tools/watch.py"
NOW = 3100.0
HOST = host_usage.Host("node-7", 4, 50.0, 3.0, 12.0, ())
FOUR = dataclasses.replace(examples.SESSION, ranks=5)  # four workers


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    """A run that this process keeps, with nothing in it."""
    store = FileStore.create(tmp_path / "run", examples.CONFIG)
    yield store
    store.close()


def evaluated(id: int, rank: int, finished: float, *accuracies: float, host: str = "node-7") -> Result:
    outcome = Evaluation(accuracies or (0.5, 0.6), 1000, 0.25, 8.0, 1.5)
    return Result(id, 1, Place(rank, host, f"cuda:{rank - 1}"), finished - 10.0, finished, outcome)


def fill(store: FileStore, births: int, *results: Result, session=FOUR) -> FileStore:
    """Begins a session, with births and results that only the journal knows."""
    store.begin(session)
    for id in range(births):
        store.birth(examples.individual(id, parent=0 if id else None))
    for result in results:
        store.settle(result)
    store.commit()
    return store


def look(store: FileStore, now: float = NOW) -> snapshot.Snapshot:
    return snapshot.look(store.folder, now)


def shown(seen: snapshot.Snapshot, host: host_usage.Host = HOST, width: int = 110, height: int | None = None) -> str:
    console = watch_view.plain_console(width=width, file=io.StringIO())
    console.print(watch_view.picture(seen, host, height))
    return console.file.getvalue()


def states(seen: snapshot.Snapshot) -> dict[int, str]:
    return {worker.rank: worker.state for worker in seen.workers}


# ── what there is to see ────────────────────────────────────────────────────────────────────────────────────────────
def test_records_of_the_journal_count(store: FileStore) -> None:
    fill(store, 5, evaluated(0, 1, 3010.0), evaluated(2, 2, 3020.0, 0.7, 0.9))
    seen = look(store)
    assert (seen.evaluated, seen.budget, seen.in_flight, seen.failed) == (2, 5, 3, 0)
    assert (seen.state, seen.running) == ("running", True)
    assert seen.best is not None and (seen.best["id"], seen.best["parent"]) == (2, 0)
    assert seen.best["fitness"] == pytest.approx(0.8) and seen.best["gain"] == pytest.approx(0.25)
    assert seen.course == pytest.approx([0.55, 0.8])
    assert [one["id"] for one in seen.recent] == [2, 0]
    assert seen.flying == [(1, 1099.0), (3, 1097.0), (4, 1096.0)]


def test_workers_by_their_results(store: FileStore) -> None:
    results = [evaluated(0, 1, 3010.0), evaluated(1, 1, 3050.0), examples.failed(2)]
    fill(store, 5, *results, session=dataclasses.replace(FOUR, ranks=4))
    first, second, third = look(store).workers
    assert (first.rank, first.evaluated, first.failed, first.last, first.since) == (1, 2, 0, 1, 3050.0)
    assert (first.typical, first.last_fitness, first.device) == (10.0, 0.55, "cuda:0")
    assert (second.rank, second.evaluated, second.failed, second.last, second.since) == (2, 0, 1, 2, 3006.0)
    assert (second.typical, second.last_fitness) == (None, None)
    assert (third.rank, third.host, third.since, third.last) == (3, "", 1000.5, None)


def test_a_repeated_attempt_counts_for_its_worker_once(store: FileStore) -> None:
    fill(store, 1)
    store.retry(dataclasses.replace(examples.failed(0), attempt=1))
    store.commit()
    assert look(store).workers[1].failed == 1
    store.settle(examples.failed(0))
    store.commit()
    assert look(store).workers[1].failed == 2


def test_as_many_in_flight_as_workers_means_all_are_at_work(store: FileStore) -> None:
    assert states(look(fill(store, 4))) == dict.fromkeys((1, 2, 3, 4), "at work")


def test_when_the_budget_is_spent_those_who_came_last_are_idle(store: FileStore) -> None:
    fill(store, 5, evaluated(0, 3, 3010.0), evaluated(1, 1, 3020.0), evaluated(2, 4, 3030.0))
    assert states(look(store)) == {1: "idle?", 2: "at work?", 3: "at work?", 4: "idle?"}


def test_where_the_trainings_end_the_search_the_picture_goes_by_them(tmp_path: Path) -> None:
    settings = search_config.build(examples.CONFIG.settings(), {"search": {"budget": 100, "trainings": 8}})
    store = fill(FileStore.create(tmp_path / "run", settings), 4, evaluated(0, 3, 3010.0), evaluated(1, 1, 3020.0))
    seen = look(store, 3020.0)
    store.close()
    assert (seen.left, seen.trainings, seen.trainings_limit) == (2, 4, 8)
    assert seen.rate is not None and seen.remaining == pytest.approx(2 / seen.rate)
    assert set(states(seen).values()) == {"at work?", "silent?"}, "two more may be born"
    assert "2/100 evaluated · 4/8 trainings" in shown(seen)


def test_while_there_is_work_those_never_heard_of_are_silent(store: FileStore) -> None:
    fill(store, 4, evaluated(0, 3, 3010.0), evaluated(1, 1, 3020.0))
    assert states(look(store)) == {1: "at work?", 2: "silent?", 3: "at work?", 4: "silent?"}


def test_results_of_earlier_sessions_are_not_this_ones(store: FileStore) -> None:
    fill(store, 3, evaluated(0, 1, 3010.0))
    store.begin(dataclasses.replace(examples.SESSION, started=3050.0))
    store.commit()
    seen = look(store)
    assert (seen.sessions, [worker.evaluated for worker in seen.workers]) == (2, [0, 0])
    assert seen.rate is None and seen.remaining is None


def test_alone_the_worker_is_rank_0(store: FileStore) -> None:
    session = dataclasses.replace(examples.SESSION, ranks=2, software={"mpi": "none"})
    fill(store, 2, evaluated(0, 0, 3010.0), session=session)
    assert states(look(store)) == {0: "at work"}


def test_throughput_is_that_of_the_last_four_rounds(tmp_path: Path) -> None:
    settings = search_config.build(examples.CONFIG.settings(), {"search": {"budget": 30}})
    store = FileStore.create(tmp_path / "run", settings)
    session = dataclasses.replace(examples.SESSION, ranks=3, started=1000.0)  # two workers: eight evaluations
    fill(store, 12, *(evaluated(id, 1, 2000.0 + 10 * id) for id in range(10)), session=session)
    store.close()
    seen = look(store, now=2100.0)  # since 2010.0: individual 1 ended
    assert seen.rate == pytest.approx(8 / 90.0)
    assert seen.remaining == pytest.approx(20 / (8 / 90.0))
    assert "5.3/min · ETA 4 min" in shown(seen)


# ── how the run is ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_process_that_is_gone_means_stopped(store: FileStore) -> None:
    fill(store, 4)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (store.folder / "lock").write_text(f"host {socket.gethostname()}, pid {gone.pid}\n")
    seen = look(store)
    assert (seen.state, seen.running) == ("stopped: there is more to do", False)
    assert set(states(seen).values()) == {"-"}
    assert "to be issued again  0  1  2  3" in shown(seen)


def test_on_another_host_the_age_of_the_files_tells(store: FileStore) -> None:
    fill(store, 4)
    (store.folder / "lock").write_text("host elsewhere, pid 1\n")
    newest = (store.folder / "journal").stat().st_mtime
    quiet = 60.0 + 3 * examples.CONFIG.run.compact_interval
    assert look(store, newest + 0.9 * quiet).running
    assert look(store, newest + 3600.0).state == "no sign of life for 60 min"


@pytest.mark.parametrize("state", ["complete", "broken", "wrong-use"])
def test_the_status_of_an_ended_run_is_believed(store: FileStore, state: str) -> None:
    (fill(store, 4).folder / "status").write_text(f"state={state}\nevaluated=0\n")
    seen = look(store)
    assert (seen.state, seen.running) == (state, False)


def test_a_damaged_journal_is_said(store: FileStore) -> None:
    fill(store, 4, evaluated(0, 1, 3010.0))
    path = store.folder / "journal"
    header, first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + b"damage\n" + first + b"".join(others))
    seen = look(store)
    assert seen.evaluated == 0 and len(seen.problems) == 1
    assert "line 2 of 3 is damaged" in re.sub(r"\s+", " ", shown(seen, width=300))


# ── how it looks ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_picture(store: FileStore) -> None:
    fill(store, 6, evaluated(0, 1, 3010.0), evaluated(1, 2, 3090.0, 0.7, 0.9))
    text = shown(look(store))
    assert "2/5 evaluated" in text and "4 in flight · 0 failed" in text
    assert "best 0.8000 ± 0.1414 · individual 1 · 1,000 parameters · 10 s ago" in text
    assert "0.5500 ▁█ 0.8000" in text
    assert "workers: 4 of 4 at work" in text
    assert re.search(r"2 +node-7 +cuda:1 +at work +━━━━━━━━ 10 s +10 s +1 +0 +1: 0\.8000\n", text)
    assert re.search(r"\n +1 +0\.8000 +0 +\+0\.2500 +1,000 +10 s +2 +10 s\n", text)


def test_an_empty_run(store: FileStore) -> None:
    text = shown(look(store))
    assert "nobody has been evaluated yet" in text and "0/5 evaluated" in text
    assert "workers" not in text


def test_failures_are_shown_and_obey_nothing(store: FileStore) -> None:
    fill(store, 4, examples.failed(0, "Traceback\n\x1b[2Jboom [bold]"), evaluated(1, 1, 3010.0, host="a\x1b[31m"))
    text = shown(look(store), width=200)
    assert "individual 0 failed (oom, attempt 2)" in text and "boom [bold]" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("height", [24, 40])
def test_the_longest_at_it_are_shown_where_there_is_no_room(store: FileStore, height: int) -> None:
    session = dataclasses.replace(examples.SESSION, ranks=101)
    seen = look(fill(store, 5, *(evaluated(id, id + 1, 3090.0 - id) for id in range(3)), session=session))
    text = shown(seen, height=height)
    assert len(text.splitlines()) <= height
    assert re.search(r"the longest at it; \d+ more", text)
    assert "last evaluated" not in text


def test_a_curve() -> None:
    assert watch_view.spark([0.0, 1.0, 2.0, 7.0], 60) == "▁▂▃█"
    assert watch_view.spark([0.5, 0.5], 60) == "▁▁"
    assert watch_view.spark(list(range(100)), 4) == "▃▄▆█"


def test_gpus_of_this_host(store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        "echo '0, GPU-aaaa, NVIDIA H100, 97, 40960, 81559, 61, 512.3'\n"
        "echo '1, GPU-bbbb, NVIDIA H100, [N/A], 10, 81559, [N/A], [Not Supported]'\n"
        "echo 'something else'\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURMD_NODENAME", "node-7")
    host = host_usage.here(0.0)
    assert [gpu.use for gpu in host.gpus] == [97.0, None]
    fill(store, 5, evaluated(0, 1, 3010.0))
    text = shown(look(store), host, width=120)
    assert re.search(r"GPU 0 NVIDIA H100 +━+\S* +97 % +━+\S* +40\.0 of 79\.6 GiB · 61 °C · 512 W · rank 1\n", text)
    assert re.search(r"GPU 1 NVIDIA H100 .* 0\.0 of 79\.6 GiB +\n", text)


def test_a_broken_nvidia_smi_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert host_usage.here(0.0).gpus == ()


# ── the tool ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_once_and_as_json(store: FileStore) -> None:
    fill(store, 5, evaluated(0, 1, 3010.0))
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    done = subprocess.run([sys.executable, TOOL, store.folder, "--once"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1/5 evaluated" in done.stdout and "\x1b" not in done.stdout
    done = subprocess.run([sys.executable, TOOL, store.folder, "--json"], capture_output=True, text=True)
    seen = json.loads(done.stdout)
    assert (seen["evaluated"], seen["in_flight"], seen["workers"][0]["last_fitness"]) == (1, 4, 0.55)
    assert seen["host"]["cores"] > 0
    assert before == {path.name: path.read_bytes() for path in store.folder.iterdir()}


def test_where_there_is_no_run(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, TOOL, tmp_path], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"watch: expected a run in {tmp_path}, but there is no population.h5\n"


def test_live_in_a_terminal(store: FileStore) -> None:
    fill(store, 5, evaluated(0, 1, 3010.0))
    terminal, inside = pty.openpty()
    own = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    tool = subprocess.Popen(
        [sys.executable, "-c", own, sys.executable, TOOL, store.folder, "--interval", "0.1"],
        stdin=inside, stdout=inside, stderr=inside, start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
    )  # fmt: skip
    os.close(inside)
    try:
        seen = read_until(terminal, "1/5 evaluated")
        store.settle(evaluated(1, 2, 3020.0, 0.7, 0.9))
        store.commit()
        read_until(terminal, "2/5 evaluated")
        store.compact()
        store.settle(evaluated(2, 3, 3030.0))
        store.commit()
        read_until(terminal, "3/5 evaluated")
        os.write(terminal, b"\x03")  # Ctrl-C
        ending = read_until(terminal, None)
        assert "\x1b[?1049h" in seen and "\x1b[?1049l" in ending  # the other screen, and back
        assert "\x1b[?25h" in ending and "Traceback" not in ending  # the cursor is there again
        assert tool.wait() == 0
    finally:
        tool.kill()
        tool.wait()
        os.close(terminal)


def read_until(terminal: int, text: str | None) -> str:
    """What the terminal shows up to some text, or to its end."""
    found, deadline = "", time.monotonic() + GUARD
    while text is None or text not in found:
        ready, _, _ = select.select([terminal], [], [], deadline - time.monotonic())
        assert ready, f"waited in vain for {text!r}; got {found[-2000:]!r}"
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux: the other side is closed
            data = b""
        if not data:
            assert text is None, f"ended before {text!r}: {found[-2000:]!r}"
            return found
        found += data.decode(errors="replace")
    return found
