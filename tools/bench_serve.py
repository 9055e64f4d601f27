#!/usr/bin/env python3
"""What `hpcnas serve` takes to show a run of N individuals (make bench-scale): seconds until it is open, seconds after
more have come, and memory.

    open      a fresh server: the overview, which reads the run, then the head of its page and its points
    refresh   200 workers have brought their next results: head, points and a page of the table
    look      one individual; a region of the points; all of the table by fitness

Times are those of whole requests, in this machine's own clock; the run is made up and its files are warm in memory.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench_controller
import psutil

from hpcnas.architecture.genotype import named
from hpcnas.command import common
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.messages import Evaluation, Place, Result
from hpcnas.search import run_file
from hpcnas.search.file_store import FileStore
from hpcnas.storage.journal import Journal

INTERVAL = 2.0  # seconds between the looks of a page
WORKERS, TOKEN = 200, "the-token-of-this-benchmark"
OPENED = ("overview", "search?run=run", "points?run=run&limit=2000")
REFRESHED = ("search?run=run", "points?run=run&limit=2000", "individuals?run=run&sort=step&order=desc")
LOOKED_AT = {
    "individual": "individual?run=run&id={last}",
    "region": "points?run=run&step=1000,{last}&fitness=0.88,",
    "table": "individuals?run=run&sort=fitness&order=desc",
}


def main() -> int:
    """Prints the figures."""
    parser = common.parser(__doc__, runs="")
    parser.add_argument("--individuals", type=int, default=1_000_000, metavar="N", help="default: 1000000")
    parser.add_argument("--refreshes", type=int, default=10, metavar="N", help="default: 10")
    options = parser.parse_args()
    if options.individuals < 2_000 or options.refreshes < 1:
        parser.error("expected at least 2000 individuals and one refresh")
    with tempfile.TemporaryDirectory(prefix="hpcnas-bench-") as folder:
        found = measured(Path(folder) / "run", options.individuals, options.refreshes)
    found = {"machine": bench_controller.machine(), **found}
    if options.json:
        common.print_json(found)
    else:
        rows = [[name, value] for name, value in found.items() if name != "machine"]
        print(common.table(["what", "figure"], [[name, f"{value:.3g}"] for name, value in rows]))
        print(f"load {found['machine']['load'][0]:.1f}")
    return 0


def measured(run: Path, size: int, refreshes: int) -> dict[str, Any]:
    """Seconds, and MB of the server."""
    made_up(run, size)
    process = subprocess.Popen(
        [sys.executable, "-m", "hpcnas.command", "serve", str(run), "--port", "0"],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"HPCNAS_SERVE_TOKEN": TOKEN},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = next(line for line in process.stdout if line.startswith("http")).partition("?")[0]
        server = psutil.Process(process.pid)
        found: dict[str, Any] = {"individuals": size, "mb_before": server.memory_info().rss / 1e6}
        found["open_seconds"] = took(address, OPENED)
        for name, view in LOOKED_AT.items():
            found[f"{name}_seconds"] = took(address, [view.format(last=size - 1)])
        store = FileStore.open(run)
        seconds = []
        for _ in range(refreshes):
            time.sleep(INTERVAL)
            bring(store)
            seconds.append(took(address, REFRESHED))
        store.close()
        found |= {"refresh_seconds": statistics.median(seconds), "longest_refresh_seconds": max(seconds)}
        return found | {"mb": server.memory_info().rss / 1e6}
    finally:
        process.kill()
        process.communicate()


def made_up(run: Path, size: int) -> None:
    """A run of so many individuals, with an empty journal."""
    run.mkdir()
    stored = bench_controller.filled(size)
    run_file.write(run / run_file.NAME, stored)
    Journal.create(run / "journal", stored.run, stored.records).close()


def bring(store: FileStore) -> None:
    """A birth and a result of each worker."""
    for worker in range(WORKERS):
        id = len(store.population)
        store.birth(Individual(id, named("paper"), Birth.MUTATION, id - WORKERS, id - WORKERS, 0, 1.7e9))
        outcome = Evaluation((0.87, 0.88, 0.86, 0.9), 500_000, 0.0, 0.0, 0.0)
        place = Place(1 + worker, f"node-{worker // 8}", "cuda:0")
        store.settle(Result(id, 1, place, 1.7e9, 1.7e9 + 1, outcome))
    store.commit()


def took(address: str, views: Sequence[str]) -> float:
    """Seconds of these requests, one after the other."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    began = time.perf_counter()
    for view in views:
        request = urllib.request.Request(f"{address}api/{view}", headers={"Authorization": f"token {TOKEN}"})
        with opener.open(request) as answer:
            json.load(answer)
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
