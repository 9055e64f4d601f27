"""`hpcnas draw`: its numbers, its files, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from toolruns import CHAIN, POOLING, empty, eventful

from hpcnas.architecture.genotype import Genotype
from hpcnas.command import draw
from hpcnas.errors import Error

TOOL = Path(__file__).parents[2] / "tools" / "draw.py"


def test_numbers_of_a_genotype(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(POOLING.text())
    assert draw.main([str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "genotype": "mine",
        "motifs": [
            {"name": "cell", "uses": 1, "edges": ["1-2 M1", "1-3 M2", "2-3 M1"]},
            {"name": "M1", "uses": 2, "edges": ["1-2 id", "2-3 id"]},
            {"name": "M2", "uses": 1, "edges": ["1-2 sep", "1-3 max", "2-3 sep"]},
        ],
        "nodes": 9,
        "edges": 10,
    }
    assert list(tmp_path.iterdir()) == [path]


def test_paper_from_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, TOOL, "paper"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "expanded: 35 nodes, 70 edges\n" in done.stdout
    for name in ("paper-cell.png", "paper-expanded.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / name).stat().st_size > 20_000


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_same_picture_is_the_same_file(tmp_path: Path, suffix: str, start: bytes) -> None:
    source, path = tmp_path / "mine.toml", tmp_path / f"cell.{suffix}"
    source.write_text(POOLING.text())
    assert draw.main([str(source), "--cell", str(path)]) == 0
    first = path.read_bytes()
    assert first.startswith(start)
    assert set(tmp_path.iterdir()) == {source, path}
    assert draw.main([str(source), "--cell", str(path)]) == 0
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("{run}:5", "{run}:5: expected an individual from 0 to 4, got 5"),
        ("{empty}", "{empty}: no individual has been evaluated yet, so there is no best one"),
        ("{empty}:0", "{empty}:0: no individual has been born yet, so there is no 0"),
        ("{run}/none.toml", "{run}/none.toml: expected a readable file: No such file or directory"),
        ("{run}/bad.toml", '{run}/bad.toml: expected format = "hpcnas genotype 1", got None'),
        ("{run}/dead.toml", "dead: no path leads from the source to the sink of the cell: there is nothing to draw"),
    ],
)
def test_mistakes(tmp_path: Path, argument: str, message: str) -> None:
    places = {"run": eventful(tmp_path / "run"), "empty": empty(tmp_path / "empty")}
    (tmp_path / "run/bad.toml").write_text("")
    (tmp_path / "run/dead.toml").write_text(Genotype(CHAIN.space, bytes(9)).text())
    with pytest.raises(Error) as raised:
        draw.main([argument.format(**places)])
    assert str(raised.value) == message.format(**places)


def test_a_run_in_a_folder_that_is_not_utf_8_has_its_pictures_and_its_page(tmp_path: Path) -> None:
    folder = tmp_path / "b\udcfc"
    eventful(folder)
    for command in (
        ["draw", folder, "--cell", tmp_path / "cell.svg"],
        ["plot", folder, folder, "--search", tmp_path / "search.svg"],
        ["report", folder, "--output", tmp_path / "page.html"],
    ):
        done = subprocess.run([sys.executable, "-m", "hpcnas.command", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "b\\udcfc" in (tmp_path / "page.html").read_text(encoding="utf-8")
