"""Pictures of a run made by hand, by their lines and points."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from toolruns import curved, empty, eventful, steady

from hpcnas.analysis.curves import Curves
from hpcnas.analysis.figures import cells, comparisons, learning, lineage, search, style
from hpcnas.analysis.guidance import Guidance
from hpcnas.analysis.rungs import LearningCurves
from hpcnas.analysis.runs import AnalysisError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return eventful(tmp_path / "run")


def points(line: object) -> list[tuple[float, float]]:
    x, y = line.get_data()  # type: ignore[attr-defined]
    return list(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True))


def by_label(axes: object) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): points(line) for line in axes.get_lines()}  # type: ignore[attr-defined]


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


def guidance_of(run: Path, predicted: list[float], measured: list[float], every: int = 1) -> Guidance:
    steps = np.arange(len(predicted)) + 3
    return Guidance(Curves.of(run), steps, steps, np.array(predicted), np.array(measured), every)


def test_predictions_and_their_rank_correlation(run: Path) -> None:
    rising = [0.5 + number / 1000 for number in range(80)]
    found = guidance_of(run, rising, [*rising[:40], *rising[:39:-1]])
    figure = search.guidance_picture([found])
    both, along = figure.axes
    diagonal, dots = both.get_lines()
    assert points(dots) == list(zip(found.predicted.tolist(), found.measured.tolist(), strict=True))
    assert [x == y for x, y in points(diagonal)] == [True, True] and both.get_xlim() == both.get_ylim()
    _, first, second = along.get_lines()
    assert points(first) == [(2.5, 1.0), (42.5, 1.0)] and points(second) == [(42.5, -1.0), (82.5, -1.0)]
    assert along.get_ylim()[0] < -1.0 < 1.0 <= along.get_ylim()[1]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "as predicted", f"run: 80 individuals, rank correlation {found.correlation:.2f}"
    ]  # fmt: skip
    assert legend.get_title().get_text() == (
        "Individuals that a model chose. Ranks are easier to tell where fitness differs more, as early in a run."
    )


def test_what_a_picture_of_predictions_leaves_out_is_said(run: Path) -> None:
    predicted = [0.5 + number / 10000 for number in range(300)]
    figure = search.guidance_picture([guidance_of(run, [*predicted[:-1], 7.0], [0.01, *predicted[1:]], every=3)])
    assert figure.legends[0].get_title().get_text().endswith("A part is shown, run: one of every 3. "
                                                             "Outside of the axes: 2.")  # fmt: skip
    assert 0.49 < figure.axes[0].get_xlim()[0] < figure.axes[0].get_xlim()[1] < 0.55


def test_few_predictions_have_no_correlation(run: Path) -> None:
    figure = search.guidance_picture([guidance_of(run, [0.5], [0.5]), guidance_of(run, [0.5] * 6, [0.5] * 6)])
    figure.draw_without_rendering()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["as predicted", "run: 1 individual", "run: 6 individuals"]
    assert len(figure.axes[1].get_lines()) == 1


def test_learning_curves_end_where_they_were_stopped(tmp_path: Path) -> None:
    found = LearningCurves.of(Curves.of(curved(tmp_path / "run")))
    figure = learning.learning_curves_picture([found])
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    drawn = {name: [point for point in points(line) if point[1] == point[1]] for name, line in lines.items()}
    assert drawn == {
        "trained to the end": [(0.25, 0.25), (0.5, 0.4375), (1.0, 0.5625), (0.25, 0.4375), (0.5, 0.5625), (1.0, 0.75)],
        "stopped early": [(0.25, 0.125), (0.5, 0.25), (0.25, 0.125)],
        "the best individual": [(0.25, 0.4375), (0.5, 0.5625), (1.0, 0.75)],
    }
    assert lines["trained to the end"].get_color() == style.COLOURS[0] != lines["stopped early"].get_color()
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["25 %", "50 %", "100 %"]
    assert by_label(figure.axes[1])["rung at 50 %"] == [(0.4375, 0.5625), (0.5625, 0.75)]
    triangles, _, second, _ = figure.axes[2].get_lines()
    assert (points(triangles), points(second)) == ([(1, 0.125)], [(0, 0.25)])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "trained to the end", "stopped early", "the best individual", "rung at 25 %", "rung at 50 %"
    ]  # fmt: skip
    assert legend.get_title().get_text() == (
        "2 trained to the end, 2 stopped early.\n"
        "A curve is the mean of the trainings with which the fitness of an individual began."
    )


def test_what_a_picture_of_learning_curves_leaves_out_is_said(tmp_path: Path) -> None:
    found = LearningCurves.of(Curves.of(curved(tmp_path / "run")))
    many = replace(found, stopped=np.tile(found.stopped, (400, 1)), stopped_view=np.zeros(800), every=(1, 5))
    figure = learning.learning_curves_picture([many])
    assert figure.legends[0].get_title().get_text().splitlines()[1] == (
        "Drawn as curves: one of every 15 stopped early. Drawn as dots: one of every 5 stopped early."
    )
    low = replace(found, reached=np.vstack([found.reached] * 300), final=np.concatenate([found.final] * 300))
    low.reached[7, 0] = 0.001
    told = learning.learning_curves_picture([low]).legends[0].get_title().get_text()
    assert "Below the axes of the learning curves: 3." in told, "with those that were stopped"


def test_each_run_has_its_row_and_one_rung_is_of_one_colour(tmp_path: Path) -> None:
    found = [LearningCurves.of(Curves.of(curved(tmp_path / name))) for name in ("one", "other")]
    whole = found[1]
    second = replace(whole, rungs=whole.rungs[1:], reached=whole.reached[:, 1:], stopped=whole.stopped[:, 1:],
                     best=None, views=whole.views[:0], floors=whole.floors[:0, 1:])  # fmt: skip
    figure = learning.learning_curves_picture([found[0], second])
    figure.draw_without_rendering()
    assert len(figure.axes) == 6 and not figure.axes[5].axison, "without floors nothing is drawn"
    colours = [
        {line.get_label(): line.get_color() for line in figure.axes[place].get_lines()}["rung at 50 %"]
        for place in (1, 4)
    ]
    assert colours[0] == colours[1]
    assert figure.axes[0].get_title(loc="left") == "one: learning curves"


def test_pictures_of_fitness_say_who_has_none(run: Path, tmp_path: Path) -> None:
    early = Curves.of(curved(tmp_path / "early"))
    said = "Not shown, since they have no fitness: {} individuals that were stopped early."
    for picture in (search.search_picture, search.pareto_picture):
        assert picture([early]).legends[0].get_title().get_text() == said.format("2")
        assert picture([early, Curves.of(run)]).legends[0].get_title().get_text() == said.format("early 2")
        assert picture([Curves.of(run)]).legends[0].get_title().get_text() == ""
    every, *_ = search.search_picture([early]).axes
    assert by_label(every) == {"drawn at random": [(1, 0.5625)], "mutated": [(2, 0.75)]}


def test_several_runs_share_the_axes(run: Path, tmp_path: Path) -> None:
    runs = [Curves.of(run), Curves.of(steady(tmp_path / "other", [0.5, 0.25], 3600.0))]
    figure = search.search_picture(runs)
    assert list(by_label(figure.axes[1])) == ["run", "other"]
    assert by_label(figure.axes[1])["other"] == [(1, 0.5), (2, 0.5)]
    assert len({line.get_color() for line in figure.axes[1].get_lines()}) == 2
    above, below = search.health_picture(runs).axes
    assert (len(above.patches), len(below.get_lines())) == (4, 2)


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


def test_a_page_leaves_a_figure_as_it_was(run: Path) -> None:
    figure = search.pareto_picture([Curves.of(run)])
    assert "<svg" in style.as_svg(figure)
    assert figure.patch.get_alpha() is None


def test_every_picture_is_of_the_house_style() -> None:
    found = {
        name: hasattr(function, "__wrapped__")
        for module in (cells, comparisons, learning, lineage, search)
        for name, function in vars(module).items()
        if name.endswith("_picture")
    }
    assert len(found) == 12 and all(found.values())


def test_runs_without_an_evaluation(run: Path, tmp_path: Path) -> None:
    none = Curves.of(empty(tmp_path / "empty"))
    for picture in (search.search_picture, search.pareto_picture):
        with pytest.raises(AnalysisError, match="^there is nothing to draw$"):
            picture([none])
    assert list(by_label(search.search_picture([none, Curves.of(run)]).axes[1])) == ["run"]
    above, below = search.health_picture([none]).axes
    assert below.get_title(loc="left") == "Failed attempts: none"


def test_without_matplotlib_the_line_says_how_to_get_it(run: Path) -> None:
    code = "import sys; sys.modules['matplotlib'] = None; import hpcnas.analysis.figures.search"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "AnalysisError: expected matplotlib for the pictures, but " in done.stderr.splitlines()[-1]
    assert done.stderr.endswith(": pip install 'hpcnas[tools]'\n")


@pytest.mark.parametrize(
    "draw",
    [
        *(search.search_picture, search.pareto_picture, search.health_picture, search.gain_picture),
        *(search.guidance_picture, learning.learning_curves_picture),
        *(comparisons.comparison_picture, comparisons.regret_picture),
        lambda none: comparisons.policies_picture(none, 100),
    ],
)
def test_of_nothing_there_is_no_picture(draw: Callable[[list[object]], object]) -> None:
    with pytest.raises(AnalysisError, match="^there is nothing to draw$"):
        draw([])


def test_a_file_that_cannot_be_is_one_sentence(run: Path) -> None:
    with pytest.raises(AnalysisError, match=r"^expected to write .*: embedded null byte$"):
        style.save(search.pareto_picture([Curves.of(run)]), Path("\0.svg"))
