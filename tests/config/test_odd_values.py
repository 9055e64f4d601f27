"""Odd values of options: taken, or refused in one line with exit code 2, whatever they are; and files that are none.

HPCNAS_TORTURE=1   every option of every program with every odd value (`make torture`), instead of those named here
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import odd_values
import pytest
from odd_values import PROGRAMS, handled
from patience import GUARD

TORTURE = os.environ.get("HPCNAS_TORTURE") == "1"
HUGE = str(2**63 - 1)
REGULAR = "expected a regular file, got"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that odd values name."""
    odd_values.values(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fifo", f"{REGULAR} a named pipe"),
        ("folder", f"{REGULAR} a folder"),
        ("/dev/zero", f"{REGULAR} a device"),
        ("link", "Too many levels of symbolic links"),
        ("absent", "No such file or directory"),
        ("a\0b", "embedded null byte"),
        ("binary", "it is not UTF-8 text"),
        ("large.toml", "expected at most 16,777,216 bytes of text, got more"),
    ],
)
def test_what_is_no_file_of_settings_is_refused(folder: Path, name: str, message: str) -> None:
    path = name if "\0" in name or name[0] == "/" else str(folder / name)
    shown = path.replace("\0", "\\x00")
    assert handled("search", ["--config", path]) == f"--config: expected a readable file {shown}: {message}"


@pytest.mark.parametrize("option", ["--initial", "--genotype"])
@pytest.mark.parametrize("name", ["fifo", "large.toml", "/dev/zero", "deep.toml"])
def test_what_is_no_genotype_is_refused(folder: Path, option: str, name: str) -> None:
    program = {"--initial": "search", "--genotype": "retrain"}[option]
    expected = {
        "fifo": f"{REGULAR} a named pipe",
        "large.toml": "expected at most 16,777,216 bytes of text, got more",
        "/dev/zero": f"{REGULAR} a device",
        "deep.toml": "expected a genotype in TOML, but it is nested too deep",
    }[name]
    said = handled(program, [option, name if name[0] == "/" else str(folder / name)])
    assert said.endswith(expected) and len(said) < 400, said


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deep.toml", "expected TOML, but it is nested too deep"),
        ("deep-key.toml", "search.budget: expected an integer ≥ 1, got a dict that cannot be shown"),
        ("long.toml", "search.space: expected hierarchical or flat, or MOTIFSxNODES per level from"),
    ],
)
def test_odd_texts_of_settings_are_refused(folder: Path, name: str, message: str) -> None:
    said = handled("search", ["--config", str(folder / name)])
    assert said.startswith(f"{folder / name}: {message}") and len(said) <= 410


@pytest.mark.parametrize(
    ("program", "line", "message"),
    [
        ("search", "--milestones 0.9 nan", "training.milestones: expected a number from 0.0 to 1.0, got nan"),
        ("search", "--learning-rate 1e999", "training.learning_rate: expected a number ≥ 0.0, got inf"),
        ("search", "--batch-size 1" + 400 * "0", "training.batch_size: expected an integer from 2 to 16777216, got 1"),
        ("search", "--seed ½", "argument --seed: invalid int value: '½' (see --help)"),
        ("search", f"--aging-sample {HUGE}", "search.aging_sample: expected an integer from 1 to 10000000, got"),
        ("search", "--threads 4097", "run.threads: expected an integer from 1 to 4096, got 4097"),
        ("search", "--data synthetic:999999999:3x9999x9999", "data.source: synthetic:999999999:3x9999x9999: expec"),
        ("search", "--strategy torunament", "search.strategy: expected one of tournament, random, aging, nsga2, g"),
        ("search", "--" + "x" * 10**5, "unrecognized arguments: --xxxx"),
        ("retrain", f"--runs {HUGE}", f"training.runs: expected an integer from 1 to 10000, got {HUGE}"),
        ("retrain", f"--cells {HUGE}", f"network.cells: expected an integer from 1 to 10000, got {HUGE}"),
        ("retrain", "--cells " + 21 * "1 ", "network.cells: expected the cells of 1 to 20 groups, got 21"),
        ("retrain", "--cells 9 --channels 1048576", "network.channels: expected a network that a memory holds"),
        ("retrain", f"--cutout {HUGE}", f"augmentation.cutout: expected an integer from 0 to 4096, got {HUGE}"),
        ("simulate", f"--workers {HUGE}", f"--workers: expected 1 to 1,000,000, got {HUGE}"),
        ("simulate", f"--budget {HUGE}", f"--budget: expected 1 to 10,000,000, got {HUGE}"),
        ("simulate", "--queue=--", "argument --queue: expected a value, got '--' (see simulate --help)"),
    ],
)
def test_odd_values_are_refused(program: str, line: str, message: str) -> None:
    said = handled(program, line.split())
    assert said.startswith(message) and len(said) <= 410 and said.isprintable(), said


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_odd_value_is_taken_or_refused_in_one_line(program: str, tmp_path: Path) -> None:
    lines = list(odd_values.command_lines(program, tmp_path))
    command = [sys.executable, odd_values.__file__, program]
    some = json.dumps(lines if TORTURE else lines[::500])
    done = subprocess.run(command, input=some, capture_output=True, text=True, cwd=tmp_path, timeout=4 * GUARD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    print(f"{program}: {len(lines)} command lines")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("hpcnas retrain --genotype x", "hpcnas: unrecognized arguments: retrain; did you mean hpcnas retrain and"),
        ("hpcnas search", "hpcnas: unrecognized arguments: search; did you mean hpcnas search and then"),
        ("hpcnas.retrain simulate", "hpcnas.retrain: unrecognized arguments: simulate; did you mean hpcnas simulate"),
        ("hpcnas.search.simulate --workers 0", "hpcnas simulate: --workers: expected 1 to 1,000,000, got 0"),
        ("hpcnas --run " + 4000 * "x", "hpcnas: expected a folder that can be looked into, got xxxx"),
        ("hpcnas.retrain --run " + 4000 * "x", "hpcnas.retrain: expected a folder that can be looked into, got xxxx"),
        ("hpcnas simulate --budget 1 --keep " + 4000 * "x", "hpcnas simulate: expected to create the run folder xxxx"),
        ("hpcnas --config /dev/zero", "hpcnas: --config: expected a readable file /dev/zero: expected a regular file"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(tmp_path: Path, words: str, said: str) -> None:
    command = [sys.executable, "-m", *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 2 and done.stderr.startswith(said) and done.stderr.count("\n") == 1
    assert len(done.stderr) <= 410
    assert list(tmp_path.iterdir()) == []
