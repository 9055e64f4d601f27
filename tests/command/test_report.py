"""The command `report`: one page that needs nothing else, whatever is in the run; its table sorts in a real browser.

HPCNAS_DEMAND_CHROMIUM   1: a missing Chromium fails its tests instead of skipping them
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import examples
import pytest
import toolruns
from demand import absent
from patience import GUARD

from hpcnas.command import report
from hpcnas.config import search as search_config
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.messages import Failure, FailureKind, Place, Result
from hpcnas.search import simulation
from hpcnas.search.file_store import FileStore

TOOL = Path(__file__).parent.parent.parent / "tools/report.py"
VOID = {"meta", "link", "br", "img", "hr", "input"}
EVIL = '</td><script>alert("1")</script>&amp;'


class Page(HTMLParser):
    """An HTML page as a test looks at it. Fails on tags that do not close as they opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []  # of the table of individuals
        self.texts: list[str] = []
        self._in_table = False
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._in_table = dict(attrs).get("id") == "individuals"
        if self._in_table and tag == "tr":
            self.rows.append([])
        if self._in_table and tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._in_table and self.open[-1] in ("td", "th", "a"):
            self.rows[-1][-1] += data

    def column(self, name: str) -> list[str]:
        """The cells of the table of individuals under a heading."""
        header, *rows = self.rows
        return [row[header.index(name)] for row in rows]


def written(folder: Path, target: Path) -> str:
    """The page of a run."""
    assert report.main([str(folder), "-o", str(target)]) == 0
    return target.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the eventful run."""
    folder = tmp_path_factory.mktemp("report")
    written(toolruns.eventful(folder / "run"), folder / "run.html")
    return folder / "run.html"


@pytest.fixture(scope="module")
def page(html: Path) -> Page:
    return Page(html.read_text(encoding="utf-8"))


# ── what stands in it ───────────────────────────────────────────────────────────────────────────────────────────────
def test_the_table_lists_everybody_the_fittest_first(page: Page) -> None:
    assert page.column("individual") == ["4", "1", "2", "0", "3"]
    assert page.column("fitness %") == ["81.25", "75.00", "62.50", "56.25", ""]
    assert page.column("±") == ["8.84", "0.00", "0.00", "8.84", ""]
    assert page.column("gain") == ["+6.25", "", "+6.25", "", ""]
    assert page.column("step") == ["4", "3", "2", "1", ""]
    assert page.column("parent") == ["1", "", "0", "", "2"]
    assert page.column("parameters") == ["2,500", "3,000", "2,000", "1,000", ""]
    assert page.column("state") == ["evaluated", "evaluated", "evaluated", "evaluated", "failed: nan"]
    assert page.column("time") == ["80 s", "2 min", "2 min", "2 min", "10 s"]


def test_the_outcome_stands_on_top(page: Page) -> None:
    text = " ".join(" ".join(page.texts).split())
    assert "81.25 % best fitness ± 8.84" in text
    assert "4 best individual 2.5 k its parameters 4 evaluated of 6, 1 failed 7 min GPU time, 96 % busy" in text


def test_pictures_are_within(page: Page) -> None:
    labels = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert labels == [
        "The best cell and its motifs",
        "The expanded cell",
        "Fitness, best fitness and parameters against the evolution step",
        "Fitness against parameters",
        "Busy workers and failed attempts over time",
        "The lineage of the best individual",
    ]
    assert "M2, used 1×" in page.texts and "Best fitness so far" in page.texts  # texts stay texts


def test_failures_sessions_and_settings(page: Page) -> None:
    assert "torch.OutOfMemoryError: 1 GiB too much" in page.texts
    assert "1970-01-01 00:33:20 UTC" in page.texts
    settings = next(text for text in page.texts if text.startswith("[search]"))
    assert 'space = "2x3/1x3"' in settings and "fingerprint: 5f2e" in settings


def test_what_was_stopped_early_has_its_state_and_its_curve(tmp_path: Path) -> None:
    page = Page(written(toolruns.curved(tmp_path / "run"), tmp_path / "page.html"))
    assert page.column("individual") == ["2", "0", "1", "3", "4"]
    assert page.column("state") == [
        "evaluated", "evaluated", "stopped early at 50 %", "stopped early at 25 %", "in flight"
    ]  # fmt: skip
    assert page.column("at 25 %") == ["43.75", "25.00", "12.50", "12.50", ""]
    assert page.column("at 50 %") == ["56.25", "43.75", "25.00", "", ""]
    assert page.column("fitness %") == ["75.00", "56.25", "", "", ""]
    assert page.column("parameters") == ["2,500", "1,000", "3,000", "2,000", ""]
    assert page.column("time") == ["2 min", "2 min", "50 s", "25 s", ""]
    text = " ".join(" ".join(page.texts).split())
    assert "2 evaluated, 2 stopped early, of 8, 1 in flight" in text
    assert "Stopped early: 2: 1 at 25 %, 1 at 50 % of the steps, which saved 2 trainings." in text
    assert "Learning curves and rungs" in [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    keys = [attributes["data-key"] for tag, attributes in page.tags if tag == "th" and "data-key" in attributes]
    assert keys[7:9] == ["rung_a", "rung_b"]


# ── that it needs nothing else ──────────────────────────────────────────────────────────────────────────────────────
def test_nothing_is_fetched_from_elsewhere(html: Path, page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,")), f"{tag} {name}={value[:80]}"
    text = html.read_text(encoding="utf-8")
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text and "fetch(" not in text
    assert not {"link", "iframe", "img", "object", "base"} & {tag for tag, _ in page.tags}
    assert [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes] == [
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    ]


def test_ids_are_there_once_and_links_lead_to_them(page: Page) -> None:
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert max(ids.values()) == 1
    links = {
        str(attributes.get(name))[1:]
        for _, attributes in page.tags
        for name in ("href", "xlink:href")
        if name in attributes
    }
    links -= {link for link in links if link.startswith(("sort=", "ata:"))}
    assert {"i0", "i1", "i2"} <= links <= set(ids)


def test_whatever_stands_in_a_run_is_text(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / '<b>"x" & y', examples.CONFIG)
    store.begin(replace(examples.SESSION, host=EVIL, software={"hpcnas": EVIL}))
    store.birth(Individual(0, toolruns.CHAIN, Birth.INITIAL, None, 0, 0, 2000.0))
    store.birth(Individual(1, toolruns.CHAIN, Birth.INITIAL, None, 0, 0, 2000.0))
    place = Place(2, EVIL, EVIL)
    store.settle(Result(1, 1, place, 3000.0, 3001.0, Failure(FailureKind.ERROR, EVIL)))
    store.settle(replace(examples.evaluated(0), place=place))
    store.compact()
    store.close()
    text = written(store.folder, tmp_path / "page.html")
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert text.count("<b>") == 5  # of the tiles
    assert 'alert("1")' not in text
    assert page.texts.count(EVIL) >= 3  # session's host, its hpcnas, the failure
    assert page.column("host") == [EVIL, EVIL]
    assert '<b>"x" & y' in page.texts


def test_an_empty_run(tmp_path: Path) -> None:
    page = Page(written(toolruns.empty(tmp_path / "run"), tmp_path / "page.html"))
    assert page.rows == [] and "None has been born yet." in page.texts
    assert not [tag for tag, _ in page.tags if tag == "svg"]


def test_a_run_in_progress_without_a_result(tmp_path: Path) -> None:
    store = toolruns.created(tmp_path / "run")
    store.begin(examples.SESSION)
    store.birth(Individual(0, toolruns.CHAIN, Birth.INITIAL, None, 0, 0, 2000.0))
    store.compact()
    page = Page(written(store.folder, tmp_path / "page.html"))  # while it is held
    store.close()
    assert (page.column("individual"), page.column("state"), page.column("time")) == (["0"], ["in flight"], [""])


def test_the_best_drawn_at_random_has_no_lineage(tmp_path: Path) -> None:
    text = written(toolruns.steady(tmp_path / "run", [0.5, 0.75], 10.0), tmp_path / "page.html")
    assert "Its lineage" not in text and "75.00 %" in text


def test_as_a_command(tmp_path: Path) -> None:
    folder = toolruns.steady(tmp_path / "my run", [0.5], 10.0)
    done = subprocess.run([sys.executable, TOOL, folder, "--json"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said == {"output": "my run.html", "bytes": (tmp_path / "my run.html").stat().st_size, "individuals": 1}
    done = subprocess.run([sys.executable, TOOL, tmp_path], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"report: expected a run in {tmp_path}, but there is no population.h5\n"


# ── in a browser ────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser's command."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    absent("no Chromium here: on Debian, `apt-get install chromium` brings it", "HPCNAS_DEMAND_CHROMIUM")


def browsed(chromium: str, address: str, folder: Path) -> Page:
    """The page as the browser has it after its script; fails on whatever the browser complains of."""
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--disable-dev-shm-usage", f"--user-data-dir={folder / 'browser'}", "--enable-logging=stderr"),
    ]
    command = [chromium, *options, "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
    return Page(done.stdout)


@pytest.mark.parametrize(
    ("address", "expected", "sorted_by", "next_link"),
    [
        ("", ["4", "1", "2", "0", "3"], ("fitness", "descending"), "#sort=fitness"),
        ("#sort=fitness", ["0", "2", "1", "4", "3"], ("fitness", "ascending"), "#sort=-fitness"),
        ("#sort=-parameters", ["1", "4", "2", "0", "3"], ("parameters", "descending"), "#sort=parameters"),
        ("#sort=individual", ["0", "1", "2", "3", "4"], ("individual", "ascending"), "#sort=-individual"),
        ("#sort=-state", ["3", "4", "1", "2", "0"], ("state", "descending"), "#sort=state"),
        ("#sort=nothing", ["4", "1", "2", "0", "3"], ("fitness", "descending"), "#sort=fitness"),
    ],
)
def test_the_table_sorts_as_the_address_says(
    address: str, expected: list[str], sorted_by: tuple[str, str], next_link: str,
    chromium: str, html: Path, tmp_path: Path,
) -> None:  # fmt: skip
    page = browsed(chromium, html.as_uri() + address, tmp_path)
    assert page.column("individual") == expected
    found = [(a["data-key"], a["aria-sort"]) for tag, a in page.tags if tag == "th" and "aria-sort" in a]
    assert found == [sorted_by]
    assert next_link in {attributes.get("href") for tag, attributes in page.tags if tag == "a"}


def test_what_was_confirmed_and_predicted_is_said(tmp_path: Path) -> None:
    chosen = search_config.build(
        {"search": {"budget": 60, "initial_population": 20, "strategy": "guided", "confirm": 3, "space": "2x3/1x3"}},
        {"evaluation": {"evaluator": "synthetic"}},
    )
    simulation.simulate(chosen, simulation.Site(5, startup=0.0, queue=0.0, handling=0.0), tmp_path / "run")
    found = Page(written(tmp_path / "run", tmp_path / "page.html"))
    labels = [attributes["aria-label"] for tag, attributes in found.tags if tag == "svg"]
    assert "Predicted and measured fitness, and their rank correlation" in labels
    page = " ".join(found.texts)
    assert "What the model predicted" in page
    assert re.search(r"Confirmed: individual \d+ of the search, with new seeds: 0.\d{4} had been measured, ", page)
    assert re.search(r"Predictions: rank correlation -?0.\d\d with the latest outcomes", page)
