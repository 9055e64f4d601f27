"""The page in real headless Chromium: clicks, a brushed region, keys, what the address keeps, what is saved, phones,
accessibility, hostile texts. Of searches under way, `test_browser_live`."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser
import pytest
import toolruns
from browser import Visitor, violations
from examples import SESSION
from toolruns import CHAIN, POOLING, SHORTCUT

from hpcnas.config import search as search_config
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.messages import Failure, FailureKind, Place, Result
from hpcnas.search import simulation

HOSTILE = "<img src=x onerror=alert(1)>\"'&\x1b[31m"
SEARCH_TABS = ("course", "individuals", "motifs", "predictions", "machine", "settings", "log")
VIEWS: dict[str, dict[str, object]] = {
    "overview": {},
    **{tab: {"view": "search", "run": "one", "tab": tab} for tab in SEARCH_TABS},
    "individual": {"view": "search", "run": "one", "id": 40},
    "failed": {"view": "search", "run": "eventful", "id": 3},
    "compare": {"view": "compare", "run": "one"},
    "retraining": {"view": "retraining", "run": "large"},
}


def simulated(folder: Path, seed: int) -> None:
    settings = search_config.build(
        {"search": {"budget": 60, "initial_population": 20, "strategy": "guided", "seed": seed}},
        {"evaluation": {"evaluator": "synthetic"}},
    )
    simulation.simulate(settings, simulation.Site(5, startup=0.0, queue=0.0, handling=0.0), folder)


def hostile(folder: Path) -> None:
    """A search whose every text is markup."""
    store = toolruns.created(folder)
    store.begin(replace(SESSION, started=1000.0, host=HOSTILE, software={"hpcnas": HOSTILE}))
    store.birth(Individual(0, CHAIN, Birth.INITIAL, None, 0, 0, 1000.0))
    store.birth(Individual(1, SHORTCUT, Birth.INITIAL, None, 0, 0, 1000.0))
    store.birth(Individual(2, POOLING, Birth.MUTATION, 1, 0, 0, 1000.0))
    place = Place(1, HOSTILE, HOSTILE)
    store.settle(Result(1, 1, place, 1000.0, 1100.0, toolruns.evaluation((0.5, 0.625), 1000)))
    store.settle(Result(0, 1, place, 1000.0, 1050.0, Failure(FailureKind.ERROR, f"Traceback\n{HOSTILE * 60}")))
    store.compact()
    store.close()
    (folder / "log").write_text(f"{HOSTILE}\n")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two searches of one setting, one by hand, one of markup, and a retraining."""
    root = tmp_path_factory.mktemp("runs")
    for name, seed in (("one", 1), ("two", 2)):
        simulated(root / name, seed)
    toolruns.eventful(root / "eventful")
    hostile(root / "hostile")
    toolruns.retrained(root / "large", [0.96, 0.97])
    return root


def ready(visitor: Visitor, name: str) -> None:
    """Waits until a view has everything."""
    wanted = {
        "overview": "main table tbody tr",
        "individuals": "#individuals table tbody tr",
        "settings": "#settings dt, #settings th, #settings td",
        "log": "#log-size",
        "individual": "#individual-drawings svg",
        "failed": "#individual pre",
    }.get(name, "main .js-plotly-plot .main-svg")
    visitor.page.locator(wanted).first.wait_for()
    visitor.until("() => document.querySelector('#banner').hidden")


# ── clicks ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_from_the_overview_to_an_individual(visitor: Visitor) -> None:
    page = visitor.open()
    page.get_by_role("link", name="eventful", exact=True).click()
    visitor.says("#search-title", "eventful")
    visitor.drawn("fitness")
    assert "token" not in page.url and "run=eventful" in page.url
    page.mouse.click(*visitor.point("fitness", 4))
    visitor.says("#individual-title", "Individual 4")
    visitor.says("#individual-changes", "M2 1-3: none → max")
    marked = page.locator("#individual-drawings [data-changed], #individual-drawings .changed")
    marked.first.wait_for()
    visitor.says("#individual", "hpcnas retrain --genotype")
    page.get_by_role("link", name="individual 1", exact=True).first.click()
    visitor.says("#individual-title", "Individual 1")
    visitor.says("#individual", "1 GiB too much")
    page.go_back()
    visitor.says("#individual-title", "Individual 4")
    page.locator("#individual-close").click()
    visitor.until("() => document.querySelector('#individual').hidden")


def test_a_region_becomes_a_table(visitor: Visitor) -> None:
    page = visitor.open(view="search", run="eventful", tab="course")
    visitor.drawn("fitness")
    (left, low), (right, high) = visitor.point("fitness", 2), visitor.point("fitness", 4)
    page.mouse.move(left - 15, low + 15)
    page.mouse.down()
    page.mouse.move((left + right) / 2, (low + high) / 2, steps=4)
    page.mouse.move(right + 15, high - 15, steps=4)
    page.mouse.up()
    visitor.until("() => location.hash.includes('step=') && location.hash.includes('fitness=')")
    visitor.until("() => document.querySelectorAll('#individuals tbody tr').length === 3")
    rows = [row.split("\t")[0] for row in page.locator("#individuals tbody tr").all_inner_texts()]
    assert sorted(rows) == ["1", "2", "4"]
    page.reload()
    visitor.until("() => document.querySelectorAll('#individuals tbody tr').length === 3")


def test_filters_and_sorting_stand_in_the_address(visitor: Visitor) -> None:
    page = visitor.open(view="search", run="eventful", tab="individuals", birth="MUTATION")
    visitor.until("() => document.querySelectorAll('#individuals tbody tr').length === 3")
    page.locator("#individuals thead").get_by_role("button", name="fitness").click()
    visitor.until("() => /sort=/.test(location.hash)")
    with page.expect_download() as download:
        page.locator("#individuals-csv").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["id", "2", "3", "4"]


def test_pictures_are_saved(visitor: Visitor) -> None:
    page = visitor.open(view="search", run="one", tab="course")
    visitor.drawn("best")
    found = {}
    for kind in ("SVG", "PNG", "CSV"):
        with page.expect_download() as download:
            page.locator(f'[data-plot="best"] [data-save="{kind}"]').click()
        found[kind] = Path(download.value.path()).read_bytes()
    assert found["SVG"].startswith(b"<svg") and found["PNG"].startswith(b"\x89PNG")
    assert found["CSV"].decode().splitlines()[0] == "step,fitness,individual"


def test_keys(visitor: Visitor) -> None:
    page = visitor.open(view="search", run="one", tab="course")
    visitor.drawn("fitness")
    page.get_by_role("tab", name="Course").focus()
    page.keyboard.press("ArrowRight")
    visitor.until("() => location.hash.includes('tab=individuals')")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "tab"
    page.keyboard.press("b")
    visitor.until("() => /[#&]id=\\d+/.test(location.hash)")
    page.keyboard.press("Escape")
    visitor.until("() => !/[#&]id=/.test(location.hash)")
    page.keyboard.press("?")
    page.locator("#shortcuts[open]").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("o")
    page.locator("main table tbody tr").first.wait_for()


def test_two_runs_are_compared(visitor: Visitor) -> None:
    page = visitor.open()
    for name in ("one", "two"):
        page.locator(f'input[data-run="{name}"]').check()
    page.locator("#overview-compare").click()
    page.locator("main .js-plotly-plot .main-svg").first.wait_for()
    assert "run=one" in page.url and "run=two" in page.url
    visitor.says("#compare-body", "seed")


# ── for everybody ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_to_say(chrome: Any, address: str, scheme: str) -> None:
    visitor = Visitor(chrome, address, scheme=scheme)
    for name, state in VIEWS.items():
        page = visitor.open(**state)
        ready(visitor, name)
        assert violations(page) == [], name
    visitor.close()


def test_nothing_is_wider_than_a_phone(chrome: Any, address: str) -> None:
    visitor = Visitor(chrome, address, width=360, height=740)
    for name, state in VIEWS.items():
        page = visitor.open(**state)
        ready(visitor, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
    visitor.close()


# ── safe ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_hostile_texts_are_texts(visitor: Visitor) -> None:
    for name in ("overview", *SEARCH_TABS, "individual"):
        state = {"view": "search", "run": "hostile", "tab": name} if name in SEARCH_TABS else {}
        state = {"view": "search", "run": "hostile", "id": "0"} if name == "individual" else state
        page = visitor.open(**state)
        page.locator("main h1").first.wait_for()
        if name == "individual":
            visitor.says("#individual", "<img src=x onerror=alert(1)>\"'&\\x1b[31m")
        if name == "log":
            visitor.says("#log-lines", "<img src=x")
        if name == "course":
            visitor.drawn("fitness")
            page.mouse.move(*visitor.point("fitness", 1))
            page.locator("g.hovertext").first.wait_for()
        assert page.locator("img").count() == 0


def test_without_the_token_the_page_is_not_there(chrome: Any, address: str) -> None:
    visitor = Visitor(chrome, address)
    page = visitor.open(token=None)
    refusal = "expected the whole address that hpcnas serve has printed, with its token"
    assert page.locator("body").inner_text().strip() == refusal
    visitor.close()


def test_a_damaged_run_is_told_and_the_others_go_on(chrome: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for name in ("sound", "broken"):
        toolruns.eventful(tmp_path / "runs" / name)
    (tmp_path / "runs/broken/population.h5").write_bytes(b"nothing")
    with browser.served(tmp_path / "runs") as address:
        visitor = Visitor(chrome, address)
        page = visitor.open()
        page.locator("main table tbody tr").nth(1).wait_for()
        visitor.says("main", "expected a whole file of a run")
        page.get_by_role("link", name="sound", exact=True).click()
        visitor.drawn("fitness")
        visitor.open(view="search", run="broken")
        visitor.says("body", "expected a whole file of a run")
        visitor.close()


def test_a_run_that_goes_is_told(chrome: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    toolruns.eventful(tmp_path / "runs/a")
    with browser.served(tmp_path / "runs") as address:
        visitor = Visitor(chrome, address)
        visitor.open(view="search", run="a")
        visitor.drawn("fitness")
        shutil.rmtree(tmp_path / "runs/a")
        visitor.until("() => document.body.innerText.includes('expected a run that is there, got a')")
        toolruns.eventful(tmp_path / "runs/a")
        visitor.until("() => !document.body.innerText.includes('expected a run that is there, got a')")
        visitor.close()


def test_a_server_that_goes_and_comes_again(chrome: Any, runs: Path) -> None:
    with browser.served(runs) as address:
        visitor = Visitor(chrome, address)
        page = visitor.open(view="search", run="one", tab="course")
        visitor.drawn("fitness")
    visitor.says("#banner", "Lost the server")
    port = int(address.rpartition(":")[2].strip("/"))
    with browser.served(runs, port=port):
        visitor.until("() => document.querySelector('#banner').hidden")
        assert "run=one" in page.url
        visitor.close()


def test_drawings_are_saved(visitor: Visitor) -> None:
    page = visitor.open(view="search", run="eventful", id=4)
    page.locator("#individual-expanded summary").click()
    cell = page.locator('#individual-drawings [data-side="Individual 4"] [data-motif="M2"]')
    for figure, name in ((cell, "individual-4-m2"), (page.locator("#individual-expanded"), "individual-4-expanded")):
        found = {}
        for kind in ("SVG", "PNG", "CSV"):
            with page.expect_download() as download:
                figure.locator(f'[data-save="{kind}"]').click()
            assert download.value.suggested_filename == f"{name}.{kind.lower()}"
            found[kind] = Path(download.value.path()).read_bytes()
        root = ElementTree.fromstring(found["SVG"])
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and b"var(--" not in found["SVG"]
        assert found["PNG"].startswith(b"\x89PNG")
        header, *rows = found["CSV"].decode().splitlines()
        if figure is cell:
            assert (header, rows) == ("from,to,operation,changed", ["1,2,sep,0", "1,3,max,1", "2,3,sep,0"])
