"""The pictures of `hpcnas plot`: what the pictures of a run made by hand show, by their lines and points."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from examples import CONFIG, evaluated, population
from toolruns import empty, eventful, steady

from hpcnas.analysis.curves import Curves, of_runs
from hpcnas.analysis.figures import search, style
from hpcnas.analysis.runs import AnalysisError
from hpcnas.command import plot
from hpcnas.errors import Error
from hpcnas.search.run_file import StoredRun

TOOL = Path(__file__).parents[2] / "tools" / "plot.py"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return eventful(tmp_path / "run")


def points(line: object) -> list[tuple[float, float]]:
    x, y = line.get_data()  # type: ignore[attr-defined]
    return list(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True))


def by_label(axes: object) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): points(line) for line in axes.get_lines()}  # type: ignore[attr-defined]


def test_the_evaluations_of_a_run(run: Path) -> None:
    found = Curves.of(run)
    assert found.ids.tolist() == [0, 2, 1, 4]
    assert found.step.tolist() == [1, 2, 3, 4]
    assert found.fitness.tolist() == [0.5625, 0.625, 0.75, 0.8125]
    assert found.mutated.tolist() == [False, True, False, True]
    assert found.spent.tolist() == [200.0, 300.0, 360.0, 440.0]


def test_the_front_is_fitter_than_all_that_are_as_small(tmp_path: Path) -> None:
    columns = (range(6), [0.5, 0.6, 0.6, 0.7, 0.7, 0.4], [7], [20, 30, 30, 40, 35, 10], [0], [0])
    six = population(*(evaluated(id, fitness, fitness) for id, fitness in enumerate(columns[1])))
    found = Curves("", tmp_path, StoredRun("", 0, CONFIG, six), *map(np.array, columns))
    assert found.front.tolist() == [5, 0, 1, 4]
    assert found.best.tolist() == [0.5, 0.6, 0.6, 0.7, 0.7, 0.7]


def test_figure_3(run: Path) -> None:
    figure = search.search_picture([Curves.of(run)])
    every, best, size = figure.axes
    assert by_label(every) == {
        "drawn at random": [(1, 0.5625), (3, 0.75)],
        "mutated": [(2, 0.625), (4, 0.8125)],
    }
    assert by_label(best) == {"run": [(1, 0.5625), (2, 0.625), (3, 0.75), (4, 0.8125)]}
    assert by_label(size) == {"drawn at random": [(1, 1000), (3, 3000)], "mutated": [(2, 2000), (4, 2500)]}
    assert {axes.get_xlabel() for axes in figure.axes} == {"evolution step (evaluations)"}
    assert every.get_ylabel() == best.get_ylabel() == "fitness: validation accuracy (%)"
    assert every.yaxis.get_major_formatter()(0.8125, 0) == "81.25"
    assert size.get_ylabel() == "parameters (thousands)"
    assert size.yaxis.get_major_formatter()(2500, 0) == "2.5"


def test_the_pareto_front(run: Path) -> None:
    (axes,) = search.pareto_picture([Curves.of(run)]).axes
    assert by_label(axes)["Pareto front"] == [(1000, 0.5625), (2000, 0.625), (2500, 0.8125)]
    assert axes.get_xlabel() == "parameters of the small network (thousands)"


def test_busy_workers_and_failures(run: Path) -> None:
    above, below = search.health_picture([Curves.of(run)]).axes
    there, busy = above.patches
    assert len(busy.get_data().values) == 160
    assert busy.get_data().values[0] == pytest.approx(2.0)
    assert busy.get_data().values[80] == there.get_data().values[80] == 0.0
    assert below.get_xlabel() == "time since the first session began (minutes)"
    (marks,) = below.get_lines()
    assert points(marks) == [(50 / 60, 0), (160 / 60, 1)]
    assert [label.get_text() for label in below.get_yticklabels()] == ["oom (1)", "nan (1)"]


def test_several_runs_share_the_axes(run: Path, tmp_path: Path) -> None:
    runs = [Curves.of(run), Curves.of(steady(tmp_path / "other", [0.5, 0.25], 3600.0))]
    figure = search.search_picture(runs)
    assert list(by_label(figure.axes[1])) == ["run", "other"]
    assert by_label(figure.axes[1])["other"] == [(1, 0.5), (2, 0.5)]
    assert len({line.get_color() for line in figure.axes[1].get_lines()}) == 2
    above, below = search.health_picture(runs).axes
    assert (len(above.patches), len(below.get_lines())) == (4, 2)


def test_runs_of_one_name_are_called_by_their_paths(run: Path, tmp_path: Path) -> None:
    other = steady(tmp_path / "elsewhere" / "run", [0.5], 1.0)
    assert [found.name for found in of_runs([run])] == ["run"]
    assert [found.name for found in of_runs([run, other])] == [str(run), str(other)]


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


def test_one_front_needs_one_objective(run: Path, tmp_path: Path) -> None:
    other = steady(tmp_path / "other", [0.5], 1.0, strategy="nsga2", objective="flops")
    with pytest.raises(AnalysisError, match="of one objective for the Pareto front, got parameters, flops$"):
        search.pareto_picture([Curves.of(run), Curves.of(other)])


def test_a_figure_is_of_the_house_style_and_changes_no_setting(run: Path) -> None:
    """Also where it is drawn later, by somebody who has another style."""
    before = dict(matplotlib.rcParams)
    figure = search.search_picture([Curves.of(run)])
    assert dict(matplotlib.rcParams) == before
    figure.draw_without_rendering()
    ticks = figure.axes[0].yaxis.get_major_ticks()
    assert {tick.gridline.get_color() for tick in ticks} == {style.STYLE["grid.color"]}
    assert {tick.label1.get_color() for tick in ticks} == {style.STYLE["ytick.color"]}
    assert figure.canvas.manager is None, "pyplot knows nothing of it"


def test_numbers_need_no_matplotlib(run: Path) -> None:
    code = "import sys; from hpcnas.command import plot; plot.main(sys.argv[1:]); sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, run, "--json"], stdout=subprocess.DEVNULL).returncode == 0


def test_without_matplotlib_the_line_says_how_to_get_it(run: Path) -> None:
    code = "import sys; sys.modules['matplotlib'] = None; import hpcnas.analysis.figures.search"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "AnalysisError: expected matplotlib for the pictures, but " in done.stderr.splitlines()[-1]
    assert done.stderr.endswith(": pip install 'hpcnas[tools]'\n")
