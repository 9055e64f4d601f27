"""In a real browser: runs compared, a retraining, the machine, predictions, and a log that grows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toolruns
from browser import Visitor, violations
from whole_retraining import kept, recorded

from hpcnas.config import search as search_config
from hpcnas.retrain import predictions
from hpcnas.retrain.predictions import Predictions
from hpcnas.retrain.record import State
from hpcnas.search import simulation

HOSTILE = "<img src=x onerror=alert(1)>"


def searched(folder: Path, seed: int, strategy: str = "tournament") -> None:
    given = {"budget": 40, "initial_population": 20, "strategy": strategy, "space": "2x3/1x3", "seed": seed}
    settings = search_config.build({"search": given}, {"evaluation": {"evaluator": "synthetic"}})
    simulation.simulate(settings, simulation.Site(3, startup=0.0, queue=0.0, handling=0.0), folder)


def retrained(folder: Path) -> None:
    """Two seeds are complete: of four images of class 0, whose name is markup, seed 0 takes one for class 1, seed 1
    all."""
    record = recorded((State.COMPLETE, State.COMPLETE, State.TRAINING))
    record.inputs = replace(record.inputs, class_names=(HOSTILE, *map(str, range(1, 10))))
    kept(folder, record)
    for seed, predicted in ((0, [0, 0, 0, 1]), (1, [1, 1, 1, 1])):
        classes = ((np.array(predicted)[:, None] + np.arange(5)) % 10).astype(np.int32)
        probabilities = np.full((4, 5), 0.125, dtype=np.float32)
        found = Predictions(np.arange(4), np.zeros(4, np.int32), probabilities[:, 0], classes, probabilities)
        predictions.write(folder, record, seed, found)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for name, seed, strategy in (("one", 1, "tournament"), ("two", 2, "tournament"), ("guided", 1, "guided")):
        searched(root / name, seed, strategy)
    toolruns.eventful(root / "eventful")
    retrained(root / "large")
    return root


def picture(visitor: Visitor, name: str, *wanted: object) -> None:
    """Waits until a picture that somebody looks at has traces of these names; or, of a heatmap, these numbers first."""
    visitor.until(
        """([name, wanted]) => {
            const canvas = document.querySelector(`[data-plot="${name}"] .canvas`);
            canvas?.scrollIntoView({block: "center"});
            if (!canvas?.querySelector(".main-svg")) return false;
            const found = canvas.data.flatMap(({type, z, name}) => type === "heatmap" ? [...z[0]] : [name]);
            return wanted.every((one, place) => found[place] === one);
        }""",
        [name, list(wanted)],
    )


# ── from one view to another ────────────────────────────────────────────────────────────────────────────────────────
def test_a_view_that_does_not_come_can_be_left(visitor: Visitor) -> None:
    page = visitor.open()
    visitor.says("#overview-sum", "runs")
    page.route("**/api/retraining?*", lambda route: None)  # the server never answers
    page.get_by_role("link", name="large", exact=True).click()
    visitor.until("() => document.title.startsWith('retraining')")
    page.locator("#home").click()
    visitor.says("#overview-sum", "runs")


def test_the_head_of_a_run_that_cannot_be_read_is_not_that_of_the_run_before(visitor: Visitor) -> None:
    page = visitor.open(view="search", run="one", tab="settings")
    visitor.says("#run-name", "one")
    page.route("**/api/search?run=two", lambda route: route.fulfill(status=503, json={"error": "not now"}))
    page.evaluate("location.hash = '#view=search&run=two&tab=settings'")
    visitor.says("main .trouble", "not now")
    assert page.locator("#run").is_hidden()
    page.unroute("**/api/search?run=two")
    visitor.says("#run-name", "two")
    assert page.locator("#run").is_visible()


# ── runs compared ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_runs_are_chosen_one_after_the_other(visitor: Visitor) -> None:
    page = visitor.open(view="compare")
    page.get_by_label("one", exact=True).check()
    picture(visitor, "curves", "tournament")
    page.get_by_label("two", exact=True).check()
    visitor.until("() => document.activeElement?.id === 'compare two'")
    picture(visitor, "curves", "tournament: 95 %", "one", "two", "tournament")
    page.get_by_label("guided", exact=True).check()
    visitor.until("() => document.querySelector('#compare-body')?.textContent.includes('search.strategy')")
    page.locator("#compare-axis").select_option("hours")
    visitor.until("() => location.hash.includes('axis=hours')")
    visitor.until("() => document.querySelector('[data-plot=curves] h3').textContent.includes('hours')")
    assert violations(page) == []
    page.get_by_role("link", name="two", exact=True).click()
    visitor.says("#search-title", "two")


def test_a_search_beside_a_retraining_is_refused_in_a_sentence(visitor: Visitor) -> None:
    page = visitor.open(view="compare")
    page.get_by_label("one", exact=True).check()
    page.get_by_label("large (retraining)").check()
    page.get_by_text("expected searches or retrainings, got both: one is a search and large a retraining").wait_for()


# ── a retraining ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_confusion_of_all_seeds_and_of_one(visitor: Visitor) -> None:
    page = visitor.open(view="retraining", run="large")
    picture(visitor, "confusion", 0.375, 0.625)
    page.locator("#confusion-seed").select_option("0")
    picture(visitor, "confusion", 0.75, 0.25)
    assert "seed=0" in page.url
    visitor.says("main", HOSTILE)
    page.reload()
    picture(visitor, "confusion", 0.75, 0.25)  # the address says which seed
    lines = [f"seed {seed}, {what}" for seed in range(3) for what in ("training", "validation")]
    picture(visitor, "loss", *lines)
    assert violations(page) == []


def test_the_log_of_a_retraining_opens(visitor: Visitor, runs: Path) -> None:
    (runs / "large" / "log").write_text("first line\n")
    page = visitor.open(view="retraining", run="large")
    page.locator("#retraining-log > summary").click()
    page.get_by_text("first line").wait_for()


# ── tabs of a search ────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_machine_tells_hosts_workers_and_failures(visitor: Visitor) -> None:
    page = visitor.open(view="search", run="eventful", tab="machine")
    picture(visitor, "hosts")
    picture(visitor, "workers", "there", "busy", "failed: oom", "failed: nan")
    page.get_by_role("group", name="Hosts", exact=True).get_by_text("node-1").wait_for()
    with page.expect_download() as download:
        page.locator("[data-plot=hosts] [data-save=CSV]").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0] == "host,from_hour,to_hour,busy_workers,workers" and len(lines) == 97
    page.get_by_role("group", name="Failed attempts", exact=True).get_by_role("link", name="3").click()
    visitor.says("#individual-title", "Individual 3")


def test_a_tab_that_is_opened_again_is_drawn_again(visitor: Visitor) -> None:
    page = visitor.open(view="search", run="one", tab="motifs")
    picture(visitor, "best", "1x1", "dw", "sep")
    for name in ("machine", "course", "motifs", "course"):
        page.locator(f"#tab-{name}").click()
        picture(visitor, {"machine": "hosts", "course": "fitness", "motifs": "now"}[name])


def test_predictions_come_until_all_are_there(visitor: Visitor) -> None:
    page = visitor.open(view="search", run="guided", tab="predictions")
    visitor.until("() => document.querySelector('#predictions-progress')?.hidden")
    visitor.says("#predictions-about", "individuals that the model has chosen")
    picture(visitor, "against", "individuals", "as predicted")
    assert violations(page) == []


def test_a_log_that_grows(visitor: Visitor, runs: Path) -> None:
    log = runs / "one" / "log"
    log.write_text("\x1b[2Jbegan <b>\n")
    page = visitor.open(view="search", run="one", tab="log")
    page.get_by_text("\\x1b[2Jbegan <b>").wait_for()
    with log.open("a") as file:
        file.write("".join(f"line {number}\n" for number in range(300)))
    visitor.until("() => document.querySelector('#log-lines').textContent.includes('line 299')")
    assert "began" not in page.locator("#log-lines").inner_text(), "the last 200 lines"
    page.get_by_label("Last lines").select_option("1000")
    visitor.until("() => document.querySelector('#log-lines').textContent.includes('began')")
