"""The page while a search goes on: what comes is shown by itself; a search that is killed, and started again, under an
open page."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import browser
import psutil
from browser import Visitor
from patience import GUARD

from hpcnas.architecture.genotype import named
from hpcnas.config import search as search_config
from hpcnas.config.data_spec import DataFacts
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.job.session import Session
from hpcnas.messages import Evaluation, Place, Result
from hpcnas.search.file_store import FileStore

WORKERS = 200
DONE = "() => Number(document.querySelector('#run-done').textContent.replace(/[^0-9 ]/g, '').split(' ')[0])"


class Crew:
    """A search of 200 workers as its controller would write it down, step by step."""

    def __init__(self, folder: Path) -> None:
        settings = search_config.build(
            {"search": {"budget": 5_000}, "evaluation": {"evaluator": "synthetic"}, "training": {"replicates": 1}}
        )
        self.store = FileStore.create(folder, settings)
        facts = DataFacts(3, 32, 32, 10, 40_000, 10_000, "5f2e")
        self.store.begin(Session(1000.0, "node-0", os.getpid(), WORKERS + 1, {}, facts))
        self.born = self.evaluated = 0
        while self.born < WORKERS:
            self._birth()
        self.store.commit()

    def _birth(self) -> None:
        parent = None if self.born < WORKERS else self.born - WORKERS
        birth = Birth.INITIAL if parent is None else Birth.MUTATION
        born = 1000.0 + self.evaluated / 10
        self.store.birth(Individual(self.born, named("paper"), birth, parent, self.evaluated, 0, born))
        self.born += 1

    def go_on(self, count: int) -> None:
        """So many results, and a birth for each."""
        for _ in range(count):
            id = self.evaluated
            place = Place(1 + id % WORKERS, f"node-{id % WORKERS // 8}", f"cuda:{id % 8}")
            outcome = Evaluation((0.8 + id / 1e5,), 100_000 + id, 0.0, 1.0, 0.0)
            self.store.settle(Result(id, 1, place, 1000.0 + id / 10, 1020.0 + id / 10, outcome))
            self.evaluated += 1
            self._birth()
        self.store.commit()


def test_what_comes_is_shown_by_itself(chrome: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    crew = Crew(tmp_path / "runs/big")
    with browser.served(tmp_path / "runs") as address:
        visitor = Visitor(chrome, address)
        page = visitor.open(view="search", run="big", tab="course")
        visitor.says("#run-done", "0 of")
        crew.go_on(400)
        visitor.says("#run-done", "400 of")
        visitor.drawn("fitness")
        page.mouse.click(*visitor.point("fitness", 399))
        visitor.says("#individual-title", "Individual 399")
        page.evaluate("window.scrollTo(0, 300)")
        for step in range(1, 4):
            crew.go_on(100)
            if step == 2:
                crew.store.compact()  # the journal begins anew
            visitor.says("#run-done", f"{400 + 100 * step} of")
        visitor.says("#individual-title", "Individual 399")
        assert abs(page.evaluate("window.scrollY") - 300) < 100, "the reader stays where they were"
        visitor.point("fitness", 699)
        visitor.open(view="search", run="big", tab="machine")
        visitor.says("main", "node-24")
        page.locator("#pause").click()
        shown = visitor.until(DONE)
        crew.go_on(100)
        page.locator("#pause").click()
        visitor.says("#run-done", "800 of")
        assert shown == 700
        visitor.close()
    crew.store.close()


def test_a_search_that_is_killed_and_started_again_under_an_open_page(chrome: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with browser.served(tmp_path / "runs") as address:
        visitor = Visitor(chrome, address)
        page = visitor.open()
        visitor.says("main", "Runs")
        first = search(tmp_path / "runs/killed")
        page.get_by_role("link", name="killed", exact=True).click()  # it has appeared
        visitor.says("#run-state", "running")
        visitor.until(f"() => ({DONE})() >= 3")
        first.send_signal(signal.SIGKILL)
        first.wait(GUARD)
        visitor.says("#run-state", "stopped")
        before = visitor.until(DONE)
        second = search(tmp_path / "runs/killed")
        visitor.says("#run-state", "running")
        visitor.until(f"before => ({DONE})() > before", before)
        second.send_signal(signal.SIGTERM)
        second.wait(GUARD)
        visitor.says("#run-state", "stopped")
        visitor.open(view="search", run="killed", tab="machine")
        visitor.says("main", "busy")
        visitor.close()


def search(folder: Path) -> psutil.Popen:
    """A synthetic search under way, alone in its process, of some tenths of a second an individual."""
    options = "--evaluator synthetic --synthetic-seconds 0.3 --budget 5000 --progress plain".split()
    command = [sys.executable, "-m", "hpcnas", *options, "--run", str(folder)]
    return psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
