"""`hpcnas watch` of a retraining: what it shows, literal, of one under way, ended, killed, diverged, not begun."""

from __future__ import annotations

import io
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from toolruns import retrained
from whole_retraining import kept, recorded

from hpcnas.analysis import job_state, retraining_snapshot
from hpcnas.analysis.host_usage import Gpu, Host
from hpcnas.analysis.retraining_snapshot import RetrainingSnapshot
from hpcnas.command import retraining_watch, watch, watch_parts
from hpcnas.errors import Error
from hpcnas.retrain import record_file
from hpcnas.retrain.record import State

GPU = Gpu("0", "GPU-aaaa", "NVIDIA H100", 97.0, 40960.0, 81559.0, 61.0, 512.0)
HOST = Host("node-1", 4, 50.0, 3.0, 12.0, (GPU,))
NOW, SAVED = 1300.0, 1290.0


def held(folder: Path) -> Path:
    """By this process, saved ten seconds ago."""
    (folder / "lock").write_text(f"host {socket.gethostname()}, pid {os.getpid()}\n")
    os.utime(folder / record_file.NAME, (SAVED, SAVED))
    return folder


def look(folder: Path) -> RetrainingSnapshot:
    return retraining_snapshot.look(folder, NOW)


def shown(seen: RetrainingSnapshot, height: int | None = None, width: int = 110) -> str:
    console = watch_parts.plain_console(width=width, file=io.StringIO())
    console.print(retraining_watch.picture(seen, HOST, height))
    return console.file.getvalue()


def rows(text: str, *first: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.split() and line.split()[0] in first]


def test_one_under_way(tmp_path: Path) -> None:
    seen = look(held(kept(tmp_path / "large", recorded())))
    assert (seen.running, seen.steps_done, seen.steps, seen.complete) == (True, 60, 120, 1)
    # 60 steps of 64 images at 640 a second, 0.5 s for each 20 steps, less the 10 s since the save: nothing is left
    assert seen.remaining == 0.0
    assert replace(seen, remaining=None).images_per_second == 640.0
    text = shown(replace(seen, remaining=3600.0))
    assert "60/120 steps" in text and "large ─ running" in text
    assert "1 of 3 trainings complete · for 5 min · saved 10 s ago" in text
    assert "640 images/s · waits for images 12.5 % · ETA 60 min (" in text
    assert "test accuracy 75.00 % · " in text
    assert rows(text, "0", "1", "2") == [
        "0 complete 40/40 0.5000 0.5000 0.5000 40 0.7500 4 s".split(),
        "1 training 20/40 1.5000 0.2500 0.2500 20 - 2 s".split(),
        "2 waiting 0/40 - - - - - 0 s".split(),
    ]
    assert rows(text, "loss", "waiting", "images/s", "validation", "learning") == [
        "loss 2 █▁ 1.5".split(), "validation 0.25 ▁ 0.25".split(), "learning rate 0.1 ▁▁ 0.1".split(),
        "images/s 640 ▁▁ 640".split(), "waiting 12.5 % ▁▁ 12.5 %".split(),
    ]  # fmt: skip
    assert "12.5" in shown(seen, width=80) and max(map(len, shown(seen, width=80).splitlines())) <= 80


def test_the_expected_end_counts_steps_validations_and_the_time_since_the_save(tmp_path: Path) -> None:
    record = recorded((State.TRAINING, State.DIVERGED, State.WAITING), {"training": {"steps": 4000}})
    seen = look(held(kept(tmp_path / "large", record)))
    left = 3980 + 4000  # none of the training that has diverged
    assert seen.remaining == pytest.approx(left * (64 / 640 + 0.5 / 20) - 10)
    (tmp_path / "large" / "lock").write_text("host elsewhere, pid 1\n")
    assert retraining_snapshot.look(tmp_path / "large", SAVED + 1e6).remaining == pytest.approx(left * 0.125)


@pytest.mark.parametrize(("status", "state"), [("complete", "complete"), ("broken", "broken")])
def test_the_end_of_the_job_is_heeded(status: str, state: str, tmp_path: Path) -> None:
    folder = held(kept(tmp_path / "large", recorded((State.COMPLETE, State.COMPLETE))))
    (folder / "status").write_text(f"state={status}\n")
    seen = look(folder)
    assert (seen.state, seen.running, seen.remaining) == (state, False, None)
    text = shown(seen)
    assert f"large ─ {state}" in text and "ETA" not in text and "began 5 min ago" in text
    assert "test accuracy 62.50 ± 17.68 % · mean of 2 trainings" in text


def test_of_a_killed_one_on_another_host_the_age_of_the_files_tells(tmp_path: Path) -> None:
    folder = kept(tmp_path / "large", recorded())
    (folder / "lock").write_text("host elsewhere, pid 1\n")
    saved = job_state.modified(folder / record_file.NAME)
    quiet = 60.0 + 3 * recorded().recipe.run.checkpoint_interval
    assert retraining_snapshot.look(folder, saved + quiet - 1).state == "running"
    assert retraining_snapshot.look(folder, saved + quiet + 1).state == "no sign of life for 16 min"


def test_what_diverged_is_told_and_obeys_nothing(tmp_path: Path) -> None:
    record = recorded((State.DIVERGED, State.WAITING))
    record.history[0] = replace(record.history[0], loss=float("inf"))
    record.sessions = [replace(record.sessions[0], host="\x1b[31m")]
    record.broken = ["a.png", "b.png"]
    text = shown(look(held(kept(tmp_path / "la\x1b[2Jrge", record))))
    assert "0 of 2 trainings complete · 1 diverged · 2 broken images" in text and "no training is complete yet" in text
    assert rows(text, "0")[0][:2] == ["0", "diverged"] and rows(text, "loss") == [["loss", "1.5", "█▁", "1"]]
    assert "\x1b" not in text


def test_before_the_first_row(tmp_path: Path) -> None:
    seen = look(held(retrained(tmp_path / "new", [])))
    assert (seen.shown, seen.curves, seen.images_per_second, seen.remaining) == (None, {}, None, None)
    assert "0/80,000 steps" in shown(seen)


@pytest.mark.parametrize("height", [24, 40])
def test_those_under_way_are_shown_where_there_is_no_room(height: int, tmp_path: Path) -> None:
    record = recorded((State.COMPLETE, State.TRAINING, *[State.WAITING] * 60))
    text = shown(look(held(kept(tmp_path / "large", record))), height)
    assert len(text.splitlines()) <= height and "trainings; " in text
    assert rows(text, "1")[0][1] == "training"


def test_rank_0_stands_at_its_gpu(tmp_path: Path) -> None:
    record = recorded()
    record.sessions = [replace(record.sessions[0], device="cuda:GPU-aaaa")]
    assert "61 °C · 512 W · rank 0\n" in shown(look(held(kept(tmp_path / "here", record))), width=140)
    record.sessions = [replace(record.sessions[0], host="node-2")]
    text = shown(look(held(kept(tmp_path / "there", record))), width=140)
    assert "· rank 0 and 1 more on node-2" in text and "512 W · rank" not in text


def test_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = kept(tmp_path / "large", recorded())
    assert watch.main([str(folder), "--once"]) == 0
    assert "1 of 3 trainings complete" in capsys.readouterr().out
    assert watch.main([str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["steps_done"], said["first_host"], said["facts"]["trainings"][1]["loss"]) == (60, "node-1", 1.5)
    assert said["host"]["cores"] > 0
    (folder / record_file.NAME).write_bytes(b"half a file")
    with pytest.raises(Error, match="expected a whole file of a retraining"):
        watch.main([str(folder), "--once"])
