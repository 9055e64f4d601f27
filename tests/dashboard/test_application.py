"""Addresses and their answers: the page's files, runs by their keys, mistakes, CSV; and runs that come, go or are
damaged."""

from __future__ import annotations

import gzip
import json
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import toolruns
from asgi import Answer, get

from hpcnas.analysis.runs import AnalysisError
from hpcnas.dashboard import application, catalogue
from hpcnas.dashboard.application import Dashboard
from hpcnas.dashboard.catalogue import Catalogue
from hpcnas.evolution.individuals import Birth


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a search, a retraining, and one deeper."""
    monkeypatch.setattr(catalogue, "RESCAN", 0.0)
    root = tmp_path / "runs"
    (root / "deep/er").mkdir(parents=True)
    toolruns.eventful(root / "a")
    toolruns.retrained(root / "large", [0.96, 0.97])
    toolruns.curved(root / "deep/er/b")
    return root


FILES = application.files()


def page(*roots: Path) -> Any:
    return Dashboard(Catalogue(roots), FILES).application()


def overview(server: Any) -> dict[str, dict[str, Any]]:
    return {run["key"]: run for run in get(server, "/api/overview").json["runs"]}


def refused(answer: Answer, status: int, said: str) -> None:
    assert answer.status == status and answer.headers["content-type"].startswith("application/json")
    assert said in answer.json["error"] and "\n" not in answer.json["error"]


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_page_and_its_files(runs: Path) -> None:
    server = page(runs)
    html = get(server, "/")
    assert html.status == 200 and html.headers["content-type"] == "text/html; charset=utf-8"
    assert html.text.startswith("<!DOCTYPE html>")
    script = get(server, "/static/main.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    packed = get(server, "/static/main.js", accept_encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip" and gzip.decompress(packed.body) == script.body
    assert get(server, "/static/main.js", if_none_match=script.headers["etag"]).status == 304
    assert b"plotly.js" in get(server, "/static/plotly.min.js").body[:100]


@pytest.mark.parametrize("path", ["/static/../guard.py", "/static//etc/passwd", "/static/", "/static/x.js", "/nothing"])
def test_no_other_file_is_served(runs: Path, path: str) -> None:
    assert get(page(runs), path).status == 404


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_overview(runs: Path) -> None:
    found = overview(page(runs))
    assert list(found) == ["a", "deep/er/b", "large"]
    assert (found["a"]["kind"], found["a"]["best"], found["a"]["done"], found["a"]["total"]) == ("search", 0.8125, 4, 6)
    assert (found["large"]["kind"], found["large"]["best"]) == ("retraining", pytest.approx(0.965))
    assert found["a"]["hours"] == pytest.approx((50 + 100 + 100 + 10 + 100 + 80) / 3600)


def test_many_runs_are_read_a_few_at_a_time(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application.overview, "BUDGET", -1.0)
    server = page(runs)
    assert {run["state"] for run in overview(server).values()} == {"being read"}
    monkeypatch.setattr(application.overview, "BUDGET", 60.0)
    whole = overview(server)
    assert whole["a"]["best"] == 0.8125
    monkeypatch.setattr(application.overview, "BUDGET", -1.0)
    assert overview(server) == whole, "what is known stays"


def test_several_roots_and_one_run(runs: Path) -> None:
    assert list(overview(page(runs / "a"))) == ["a"]
    assert list(overview(page(runs / "a", runs / "deep"))) == ["a", "deep/er/b"]
    assert list(overview(page(runs / "a", runs / "a"))) == ["a", "a (2)"]
    with pytest.raises(AnalysisError, match="expected the folder of a run, or one with runs in it, got .* is none"):
        Catalogue([runs / "nowhere"])


def test_runs_come_and_go(runs: Path) -> None:
    server = page(runs)
    assert "c" not in overview(server)
    toolruns.empty(runs / "c")
    assert overview(server)["c"]["done"] == 0
    shutil.rmtree(runs / "a")
    assert list(overview(server)) == ["c", "deep/er/b", "large"]
    refused(get(server, "/api/search", {"run": "a"}), 404, "expected a run that is there, got a")


def test_a_damaged_run_shows_what_is_wrong_and_nothing_else_breaks(runs: Path) -> None:
    (runs / "a/population.h5").write_bytes(b"\x89HDF\r\n\x1a\n damaged")
    with h5py.File(runs / "deep/er/b/population.h5", "r+") as file:
        file["individuals/fitness"][0] = np.inf
    (runs / "large/retrain.h5").write_bytes(b"")
    toolruns.eventful(runs / "sound")
    server = page(runs)
    found = overview(server)
    assert {key: run["kind"] for key, run in found.items()} == {
        "a": "damaged", "deep/er/b": "search", "large": "damaged", "sound": "search",
    }  # fmt: skip
    assert "expected a whole file of a run" in found["a"]["problems"][0]
    assert "fitness" in found["deep/er/b"]["problems"][0]
    assert found["sound"]["problems"] == []
    refused(get(server, "/api/search", {"run": "a"}), 503, "expected a whole file of a run")
    assert get(server, "/api/search", {"run": "sound"}).status == 200


def test_answers_that_are_known_need_not_be_sent_again(runs: Path) -> None:
    server = page(runs)
    first = get(server, "/api/points", {"run": "a"})
    again = get(server, "/api/points", {"run": "a"}, if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    packed = get(server, "/api/search", {"run": "a"}, accept_encoding="gzip, br")
    assert packed.headers["content-encoding"] == "gzip" and json.loads(gzip.decompress(packed.body))["key"] == "a"


@pytest.mark.parametrize("view", ["search", "points", "individuals", "individual"])
def test_each_view_of_a_search(runs: Path, view: str) -> None:
    found = get(page(runs), f"/api/{view}", {"run": "a", "id": "4"} if view == "individual" else {"run": "a"})
    assert found.status == 200 and found.json["key"] == "a"
    refused(get(page(runs), f"/api/{view}", {"run": "zz"}), 404, "expected a run that is there, got zz")
    refused(get(page(runs), f"/api/{view}"), 404, "expected a run that is there")
    refused(get(page(runs), f"/api/{view}", {"run": "large"}), 400, "expected a search, but large is a retraining")


def test_mistakes_are_told(runs: Path) -> None:
    server = page(runs)
    refused(get(server, "/api/points", {"run": "a", "fitness": "x"}), 400, "fitness: expected two rising numbers")
    refused(get(server, "/api/individual", {"run": "a", "id": "99"}), 400, "expected a whole number from 0 to 4")
    refused(get(server, "/api/nonsense", {"run": "a"}), 404, "expected a view of this page, got nonsense")
    refused(get(server, "/api/individuals.csv", {"run": "a", "birth": "x"}), 400, "birth: expected some of")
    refused(get(server, "/api/points", [("a", "b")] * 300), 400, "")


def test_a_fault_of_ours_ends_nothing(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(run: Any, query: Any) -> dict[str, Any]:
        raise KeyError("secret")

    monkeypatch.setitem(application._OF_SEARCH, "points", broken)
    server = page(runs)
    answer = get(server, "/api/points", {"run": "a"})
    refused(answer, 500, "this is a fault of hpcnas: KeyError")
    assert "secret" not in answer.text and "secret" in capsys.readouterr().err
    assert get(server, "/api/search", {"run": "a"}).status == 200


def test_csv_of_a_selection(runs: Path) -> None:
    found = get(page(runs), "/api/individuals.csv", {"run": "a", "state": "EVALUATED", "fitness": "0.7,"})
    assert found.headers["content-disposition"] == 'attachment; filename="a-individuals.csv"'
    lines = found.text.splitlines()
    assert lines[0].startswith("id,step,birth,state,parent,fitness,")
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "4"]


def test_csv_comes_in_pieces_that_hold_nothing_between_them(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "CSV_ROWS", 2)
    catalogue = Catalogue([runs])
    dashboard = Dashboard(catalogue, FILES)
    catalogue.entries()
    lines = dashboard._lines("a", {})

    def elsewhere(function: Callable[[], Any]) -> Any:
        with ThreadPoolExecutor(1) as pool:  # a thread of its own, as any of the server's
            return pool.submit(function).result()

    pieces = [next(lines)]
    for _ in range(3):
        assert elsewhere(lambda: dashboard._answer("points", {"run": ["a"]}))["total"] == 5
        pieces.append(elsewhere(lambda: next(lines)))
    with pytest.raises(StopIteration):
        next(lines)
    rows = b"".join(pieces).decode().splitlines()
    assert [row.split(",")[0] for row in rows] == ["id", "0", "1", "2", "3", "4"]
    assert rows[1].startswith("0,1,INITIAL,EVALUATED,,0.5625,")


def test_a_cell_is_no_formula() -> None:
    assert application._harmless("=cmd()") == "'=cmd()" and application._harmless(-1.5) == -1.5


def test_what_json_does_not_know_is_null() -> None:
    value = {"a": np.array([1.5, np.nan]), "b": (math.inf, None, True, Birth.MUTATION), 3: Path("x"), "c": np.int64(7)}
    assert json.loads(application.encoded(value)) == {
        "a": [1.5, None], "b": [None, None, True, "MUTATION"], "3": "x", "c": 7,
    }  # fmt: skip


# ── hostile texts ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_texts_steer_nothing(runs: Path) -> None:
    name = "<img src=x onerror=alert(1)>\x1b[31m\u202e'\"&"
    shutil.move(runs / "a", runs / name)
    (runs / "\udcff").symlink_to(runs / "deep")  # bytes that are no text; links are not followed
    server = page(runs)
    (key,) = [key for key in overview(server) if key.startswith("<img")]
    assert key == "<img src=x onerror=alert(1)>\\x1b[31m\\u202e'\"&"
    assert get(server, "/api/search", {"run": key}).json["name"] == key
    answer = get(server, "/api/individuals.csv", {"run": key})
    assert answer.headers["content-disposition"].isascii() and answer.headers["content-disposition"].count('"') == 2


def test_searches_that_were_asked_for_long_ago_are_let_go(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "MOST_OPEN", 5)
    for number in range(4):
        toolruns.eventful(runs / f"r{number}")
    known = Catalogue([runs])
    entries = {entry.key: entry for entry in known.entries()}
    for key in ("r0", "r1", "r2", "r3"):
        known.search(entries[key])
    assert [key for key in ("r0", "r1", "r2", "r3") if known.is_open(entries[key])] == ["r2", "r3"]
