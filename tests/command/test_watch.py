"""The command `watch`: what it shows of a run in progress, literal; by itself, once, and live in a pseudo-terminal."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import examples
import pytest
from patience import GUARD
from watched import evaluated, fill, look

from hpcnas.analysis import host_usage, snapshot
from hpcnas.command import watch_parts, watch_view
from hpcnas.search.file_store import FileStore

TOOL = Path(__file__).parent.parent.parent / "tools/watch.py"
HOST = host_usage.Host("node-7", 4, 50.0, 3.0, 12.0, ())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    """A run that this process keeps, with nothing in it."""
    store = FileStore.create(tmp_path / "run", examples.CONFIG)
    yield store
    store.close()


def shown(seen: snapshot.Snapshot, host: host_usage.Host = HOST, width: int = 110, height: int | None = None) -> str:
    console = watch_parts.plain_console(width=width, file=io.StringIO())
    console.print(watch_view.picture(seen, host, height))
    return console.file.getvalue()


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


def test_what_else_the_picture_says(store: FileStore) -> None:
    seen = look(fill(store, 4))
    assert "to be issued again  0  1  2  3" in shown(dataclasses.replace(seen, running=False))
    assert "! line 2 of 3 is damaged" in shown(dataclasses.replace(seen, problems=["line 2 of 3 is damaged"]))
    limited = dataclasses.replace(seen, evaluated=2, budget=100, trainings=4, trainings_limit=8)
    assert "2/100 evaluated · 4/8 trainings" in shown(limited)
    assert "5.3/min · ETA 4 min" in shown(dataclasses.replace(seen, rate=8 / 90, remaining=225.0))


def test_what_was_stopped_early_is_told_apart(store: FileStore) -> None:
    seen = look(fill(store, 4, evaluated(0, 1, 3010.0)))
    workers = [dataclasses.replace(seen.workers[0], stopped=7, last=9, last_fitness=None, last_stopped=True)]
    text = shown(dataclasses.replace(seen, stopped=12, budget=20, workers=workers))
    assert "13/20: 1 evaluated, 12 stopped early" in text
    assert re.search(r"usually +done +early +failed +last", text)
    assert re.search(r" 1 +7 +0 +9: early\n", text)
    assert "stopped early" not in shown(seen) and "  early" not in shown(seen)


def test_an_empty_run(store: FileStore) -> None:
    text = shown(look(store))
    assert "no individual has been evaluated yet" in text and "0/5 evaluated" in text
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
    assert watch_parts.spark([0.0, 1.0, 2.0, 7.0], 60) == "▁▂▃█"
    assert watch_parts.spark([0.5, 0.5], 60) == "▁▁"
    assert watch_parts.spark(list(range(100)), 4) == "▃▄▆█"


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
