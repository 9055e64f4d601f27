"""`hpcnas plot`: its files, its numbers, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from toolruns import curved, empty, eventful

from hpcnas.command import plot
from hpcnas.config import search as search_config
from hpcnas.errors import Error
from hpcnas.search import simulation

TOOL = Path(__file__).parents[2] / "tools" / "plot.py"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return eventful(tmp_path / "run")


def test_all_pictures_by_default(run: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, TOOL, run], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "written: search.png\nwritten: pareto.png\nwritten: health.png\n"
    for name in ("search.png", "pareto.png", "health.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / name).stat().st_size > 10_000


def test_numbers_of_the_pictures(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plot.main([str(run), "--json", "--pareto", str(tmp_path / "p.svg")]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert len(found.pop("hours")) == 161
    assert len(found.pop("busy_workers")) == len(found.pop("workers")) == 160
    assert found == {
        "run": "run",
        "measure": "accuracy",
        "individual": [0, 2, 1, 4],
        "fitness": [0.5625, 0.625, 0.75, 0.8125],
        "best_fitness": [0.5625, 0.625, 0.75, 0.8125],
        "parameters": [1000, 2000, 3000, 2500],
        "objective": "parameters",
        "cost": [1000, 2000, 3000, 2500],
        "pareto_front": [0, 2, 4],
        "failures": [{"hours": 50 / 3600, "kind": "oom"}, {"hours": 160 / 3600, "kind": "nan"}],
    }
    assert (tmp_path / "p.svg").read_bytes().startswith(b"<?xml")


def test_runs_without_an_evaluation_are_left_out(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none = empty(tmp_path / "empty")
    assert plot.main([str(none), str(run), "--pareto", str(tmp_path / "p.pdf")]) == 0
    assert capsys.readouterr().err == f"{none}: no individual has been evaluated yet: left out\n"
    with pytest.raises(Error, match="^there is nothing to draw$"):
        plot.main([str(none)])


def test_a_picture_has_a_known_ending(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        plot.main([str(run), "--search", "picture.jpeg"])
    assert "expected a file ending with .png, .svg, .pdf, got 'picture.jpeg'" in capsys.readouterr().err


def test_a_folder_that_is_not_there(run: Path, tmp_path: Path) -> None:
    with pytest.raises(Error) as raised:
        plot.main([str(run), "--pareto", str(tmp_path / "no" / "p.png")])
    assert str(raised.value) == f"expected to write {tmp_path}/no/p.png: No such file or directory"


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, TOOL, empty(tmp_path / "run")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"{tmp_path / 'run'}: no individual has been evaluated yet: left out",
        "plot: there is nothing to draw",
    ]


def test_numbers_need_no_matplotlib(run: Path) -> None:
    code = "import sys; from hpcnas.command import plot; plot.main(sys.argv[1:]); sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, run, "--json"], stdout=subprocess.DEVNULL).returncode == 0


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which a model has chosen some individuals."""
    folder = tmp_path_factory.mktemp("guided") / "guided"
    chosen = search_config.build(
        {"search": {"budget": 40, "initial_population": 12, "strategy": "guided", "space": "2x3/1x3"}},
        {"evaluation": {"evaluator": "synthetic"}},
    )
    simulation.simulate(chosen, simulation.Site(3, 0.0, 0.0, 0.0), folder)
    return folder


def test_predictions_of_guided_runs(
    run: Path, guided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "guidance.png"
    assert plot.main([str(guided), str(run), "--guidance", str(picture), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == f"{run}: expected a run of --strategy guided, got one of tournament: left out\n"
    told, other = json.loads(out)
    assert "guidance" not in other and picture.read_bytes()[:4] == b"\x89PNG"
    numbers = told["guidance"]
    count = len(numbers["individual"])
    assert count > 10 and numbers["every"] == 1 and numbers["windows"][0]["individuals"] == count
    assert {len(numbers[name]) for name in ("step", "predicted", "measured")} == {count}
    assert -1.0 <= numbers["rank_correlation"] == numbers["windows"][0]["rank_correlation"] <= 1.0


def test_a_picture_of_predictions_that_is_asked_for_needs_a_guided_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(Error, match="^there is nothing to draw$"):
        plot.main([str(run), "--guidance", str(tmp_path / "g.png")])
    assert not (tmp_path / "g.png").exists()


def test_by_default_predictions_are_drawn_where_there_are_any(
    run: Path, guided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plot.main([str(run), str(guided)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "written: guidance.png" and err == ""
    assert (tmp_path / "guidance.png").stat().st_size > 10_000


def test_learning_curves(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    early, picture = curved(tmp_path / "early"), tmp_path / "curves.png"
    assert plot.main([str(early), str(run), "--learning-curves", str(picture), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == f"{run}: expected a run whose trainings have rungs (--rungs): left out\n"
    told, other = json.loads(out)
    assert "learning_curves" not in other and picture.read_bytes()[:4] == b"\x89PNG"
    nothing = {"stopped": 1, "complete_curves": 2, "rank_correlation": None, "line": None}
    assert told["learning_curves"] == {
        "rungs": [{"share": 0.25, **nothing}, {"share": 0.5, **nothing}],
        "complete": {
            "every": 1,
            "individual": [0, 2],
            "at_rungs": [[0.25, 0.4375], [0.4375, 0.5625]],
            "final": [0.5625, 0.75],
        },
        "stopped": {"every": 1, "individual": [1, 3], "view": [0, 1], "at_rungs": [[0.125, 0.25], [0.125, None]]},
        "floors": {"view": [0, 1, 2], "at_rungs": [[None, None]] * 3},
    }
    with pytest.raises(Error, match="^there is nothing to draw$"):
        plot.main([str(run), "--learning-curves", str(picture)])


def test_by_default_learning_curves_are_drawn_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plot.main([str(curved(tmp_path / "early"))]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "written: learning-curves.png"
    assert (tmp_path / "learning-curves.png").stat().st_size > 10_000


def test_the_help_lists_every_picture(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        plot.main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n{picture:8}  " in shown for picture in (*plot.PICTURES, "figure4"))
