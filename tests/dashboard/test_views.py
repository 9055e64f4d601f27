"""What the page is told of a search that was made by hand (`toolruns.eventful`), in literal numbers; and of wrong
queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toolruns

from hpcnas.analysis.runs import AnalysisError
from hpcnas.dashboard import drawing, individuals, points, search_state, selection
from hpcnas.dashboard.followed import FollowedSearch


@pytest.fixture
def run(tmp_path: Path) -> FollowedSearch:
    return FollowedSearch(toolruns.eventful(tmp_path / "run"))


def query(**given: str) -> dict[str, list[str]]:
    return {name: [value] for name, value in given.items()}


def chosen(run: FollowedSearch, **given: str) -> list[int]:
    return selection.chosen(run, query(**given)).tolist()


# ── filters ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"birth": "MUTATION"}, [2, 3, 4]),
        ({"birth": "MUTATION,INITIAL"}, [0, 1, 2, 3, 4]),
        ({"state": "FAILED"}, [3]),
        ({"birth": "MUTATION", "state": "EVALUATED"}, [2, 4]),
        ({"host": "node-1"}, [0, 1, 2, 3, 4]),
        ({"host": "node-2"}, []),
        ({"parameters": "2000,2500"}, [2, 4]),
        ({"parameters": ",1000"}, [0]),
        ({"fitness": "0.75,"}, [1, 4]),
        ({"step": "2,3"}, [1, 2]),
        ({"step": ","}, [0, 1, 2, 4]),
        ({"id": "3,"}, [3, 4]),
        ({"hours": "0,0.05"}, [0, 2, 3]),
        ({"network_of": "0"}, [0]),
        ({"child_of": "0"}, [2]),
        ({"child_of": "4"}, []),
    ],
)
def test_filters(run: FollowedSearch, given: dict[str, str], expected: list[int]) -> None:
    assert chosen(run, **given) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"birth": "mutation"}, "birth: expected some of INITIAL, MUTATION, .*, got mutation"),
        ({"state": "\x1b[31m"}, r"state: expected some of ISSUED, .*, got \\x1b\[31m"),
        ({"fitness": "1"}, "fitness: expected two rising numbers such as 0.5,0.9, got 1"),
        ({"fitness": "0.9,0.5"}, "fitness: expected two rising"),
        ({"hours": "nan,nan"}, "hours: expected two rising"),
        ({"step": "1,2,3"}, "step: expected two rising"),
        ({"id": "x,"}, "id: expected two rising"),
        ({"network_of": "5"}, "network_of: expected a whole number from 0 to 4, got 5"),
        ({"child_of": "-1"}, "child_of: expected a whole number from 0 to 4, got -1"),
        ({"child_of": "9" * 5000}, "child_of: expected a whole number"),
    ],
)
def test_wrong_filters_are_told_in_one_line(run: FollowedSearch, given: dict[str, str], said: str) -> None:
    with pytest.raises(AnalysisError, match=said) as caught:
        chosen(run, **given)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_repeats_are_of_the_same_network(run: FollowedSearch) -> None:
    repeats = run.stored.population.column("repeats")
    repeats.flags.writeable = True
    repeats[3] = 1
    assert chosen(run, network_of="3") == chosen(run, network_of="1") == [1, 3]


def test_a_sample_keeps_what_must_be_there_and_does_not_jump() -> None:
    ids = np.arange(100_000)
    always = np.array([1, 77, 99_999])
    found = selection.sampled(ids, 1000, always)
    assert 500 <= len(found) <= 1003 and set(always.tolist()) <= set(found.tolist())
    assert (np.diff(found) > 0).all()
    later = selection.sampled(np.arange(100_500), 1000, always)
    assert set(found.tolist()) <= set(later.tolist()), "a point that is shown stays"
    odd = ids[1::2]
    assert 500 <= len(selection.sampled(odd, 1000, always)) <= 1200, "also of ids that no power of two divides"
    assert selection.sampled(ids[:1000], 1000, always).tolist() == list(range(1000))


# ── points and rows ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_points(run: FollowedSearch) -> None:
    found = points.points(run, {})
    assert (found["total"], found["matching"], found["shown"], found["best_id"]) == (5, 5, 5, 4)
    shown = {name: np.asarray(values).tolist() for name, values in found["points"].items()}
    assert shown["id"] == [0, 1, 2, 3, 4]
    assert shown["step"] == [1, 3, 2, 0, 4]
    assert shown["fitness"][:3] == [0.5625, 0.75, 0.625] and np.isnan(shown["fitness"][3])
    assert [found["births"][code] for code in shown["birth"]] == ["INITIAL"] * 2 + ["MUTATION"] * 3
    assert [found["states"][code] for code in shown["state"]] == ["EVALUATED"] * 3 + ["FAILED", "EVALUATED"]
    assert [found["hosts"][code] for code in shown["host"]] == ["node-1"] * 5
    assert found["best"]["id"].tolist() == [0, 2, 1, 4] and found["best"]["step"].tolist() == [1, 2, 3, 4]
    assert found["best"]["fitness"].tolist() == [0.5625, 0.625, 0.75, 0.8125]
    assert found["front"]["id"].tolist() == [0, 2, 4], "1 has more parameters than 4 and less fitness"
    assert found["objective"] == "parameters"


def test_points_of_a_filter_keep_the_staircase_of_all(run: FollowedSearch) -> None:
    found = points.points(run, query(state="FAILED"))
    assert found["points"]["id"].tolist() == [3] and found["best"]["id"].tolist() == [0, 2, 1, 4]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"sort": "fitness", "order": "desc"}, [4, 1, 2, 0, 3]),
        ({"sort": "fitness"}, [0, 2, 1, 4, 3]),
        ({"sort": "step", "order": "desc"}, [4, 1, 2, 0, 3]),
        ({"sort": "parent"}, [2, 4, 3, 0, 1]),
        ({"sort": "parameters", "state": "EVALUATED"}, [0, 2, 4, 1]),
        ({"sort": "std", "order": "desc"}, [0, 4, 1, 2, 3]),
        ({"sort": "failure"}, [3, 0, 1, 2, 4]),
        ({"sort": "id", "order": "desc", "limit": "2", "offset": "1"}, [3, 2]),
        ({"offset": "7"}, []),
    ],
)
def test_rows_are_sorted_and_come_by_pages(run: FollowedSearch, given: dict[str, str], expected: list[int]) -> None:
    found = points.rows(run, query(**given))
    assert [row["id"] for row in found["rows"]] == expected
    assert found["matching"] == (4 if "state" in given else 5)


def test_a_row(run: FollowedSearch) -> None:
    row = points.rows(run, query(id="1,1"))["rows"][0]
    assert row == {
        "id": 1, "step": 3, "birth": "INITIAL", "state": "EVALUATED", "parent": None, "fitness": 0.75, "std": 0.0,
        "parameters": 3000, "seconds": 100.0, "hours": 200 / 3600, "host": "node-1", "rank": 1, "trainings": 2,
        "attempts": 2, "failure": None,
    }  # fmt: skip
    (failed,) = points.rows(run, query(state="FAILED"))["rows"]
    assert (failed["fitness"], failed["std"], failed["step"], failed["parameters"]) == (None, None, None, None)
    assert failed["failure"] == "NAN"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sort": "genotype"}, "sort: expected one of id, step, .*, got genotype"),
        ({"order": "up"}, "order: expected asc or desc, got up"),
        ({"limit": "0"}, "limit: expected a whole number from 1 to 1000, got 0"),
        ({"limit": "1e3"}, "limit: expected a whole number"),
        ({"offset": "-1"}, "offset: expected a whole number"),
    ],
)
def test_wrong_pages_are_told(run: FollowedSearch, given: dict[str, str], said: str) -> None:
    with pytest.raises(AnalysisError, match=said):
        points.rows(run, query(**given))


# ── one individual ──────────────────────────────────────────────────────────────────────────────────────────────────
def one(run: FollowedSearch, id: int) -> dict[str, Any]:
    return individuals.individual(run, query(id=str(id)))


def test_an_individual(run: FollowedSearch) -> None:
    found = one(run, 4)
    assert (found["birth"], found["parent"], found["step"], found["fitness"]) == ("MUTATION", 1, 4, 0.8125)
    assert found["accuracies"] == (0.75, 0.875)
    assert found["seconds"] == {"setup": 1.0, "training": 2.0, "validation": 3.0, "worker": 80.0}
    assert (found["host"], found["device"], found["rank"]) == ("node-1", "cuda:0", 1)
    assert (found["started"], found["finished"], found["born"]) == (2020.0, 2100.0, 1160.0)
    assert found["mutation"] == {"parent": 1, "changes": ["M2 1-3: none → max"], "same_network": False}
    assert [(step["id"], step["change"]) for step in found["lineage"]] == [(1, "initial"), (4, "M2 1-3: none → max")]
    assert found["lineage"][1]["gain"] == 0.0625
    assert found["children"]["total"] == 0 and found["same_network_total"] == 0
    assert found["commands"]["retrain"].startswith(f"hpcnas retrain --genotype {run.folder}:4 --run ")
    assert 'space = "2x3/1x3"' in found["genotype"]


def test_what_a_mutation_changed_is_marked_beside_its_parent(run: FollowedSearch) -> None:
    found = one(run, 4)

    def marked(drawn: dict[str, Any]) -> dict[str, list[tuple[str, bool]]]:
        return {m["name"]: [(e["operation"], e["changed"]) for e in m["diagram"]["edges"]] for m in drawn["motifs"]}

    assert marked(found["drawing"])["M2"] == [("sep", False), ("max", True), ("sep", False)]
    assert marked(found["parent_drawing"])["M2"] == [("sep", False), ("sep", False)]
    removed = drawing.cell("x", toolruns.SHORTCUT, drawing.changed_edges(toolruns.SHORTCUT, toolruns.CHAIN))
    assert ("M2", True) in marked(removed)["cell"] and marked(removed)["M1"] == [("id", False), ("id", False)]
    assert found["expanded"]["nodes"] > 2 and found["expanded"]["boxes"]


def test_a_failed_individual_has_its_traceback(run: FollowedSearch) -> None:
    found = one(run, 3)
    assert found["failure"]["kind"] == "NAN" and found["failure"]["summary"] == "the loss was not finite"
    assert (found["fitness"], found["accuracies"]) == (None, ())
    again = one(run, 1)
    assert again["failure"] is None
    (attempt,) = again["failures"]
    assert (attempt["attempt"], attempt["kind"]) == (1, "OOM")
    assert attempt["message"] == "Traceback\n  line\ntorch.OutOfMemoryError: 1 GiB too much"


def test_what_is_unknown_is_told(run: FollowedSearch, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="id: expected a whole number from 0 to 4, got 5"):
        one(run, 5)
    with pytest.raises(AnalysisError, match="id: expected a whole number from 0 to 4, got $"):
        individuals.individual(run, {})
    with pytest.raises(AnalysisError, match="no individual has been born yet"):
        one(FollowedSearch(toolruns.empty(tmp_path / "empty")), 0)


def test_curves_of_what_was_stopped_early(tmp_path: Path) -> None:
    run = FollowedSearch(toolruns.curved(tmp_path / "run"))
    found = one(run, 3)
    assert (found["state"], found["fitness"], found["rungs"]) == ("STOPPED", None, (0.25, 0.5))
    assert found["curves"] == ((0.0625,), (0.1875,))
    assert one(run, 4)["state"] == "ISSUED"


# ── the head ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_how_a_search_stands(run: FollowedSearch) -> None:
    found = search_state.state(run, {})
    assert (found["done"], found["total"], found["failed"], found["in_flight"]) == (4, 6, 1, 0)
    assert (found["best"], found["best_id"], found["best_parameters"]) == (0.8125, 4, 2500)
    assert [row["id"] for row in found["bests"]] == [4, 1, 2, 0]
    assert [row["mutations"] for row in found["bests"]] == [1, 0, 1, 0]
    assert [row["id"] for row in found["recent"]] == [4, 1, 2, 0]
    assert [(one["kind"], one["attempts"]) for one in found["failures"]] == [("oom", 1), ("nan", 1)]
    assert [one["workers"] for one in found["sessions"]] == [2, 1]
    filters = found["filters"]
    assert filters["births"] == ["INITIAL", "MUTATION"] and filters["states"] == ["EVALUATED", "FAILED"]
    assert filters["parameters"] == [1000.0, 3000.0] and filters["fitness"] == [0.5625, 0.8125]
    assert (filters["hosts"], filters["steps"], filters["individuals"]) == (["node-1"], 4, 5)
    assert found["settings"]["search"]["budget"] == 6


def test_a_run_in_which_nothing_has_happened(tmp_path: Path) -> None:
    run = FollowedSearch(toolruns.empty(tmp_path / "empty"))
    found = search_state.state(run, {})
    assert (found["done"], found["best"], found["bests"], found["sessions"]) == (0, None, [], [])
    assert found["filters"]["parameters"] is None and found["filters"]["hosts"] == []
    empty = points.points(run, {})
    assert (empty["total"], len(empty["best"]["id"]), len(empty["front"]["id"])) == (0, 0, 0)
    assert points.rows(run, query(sort="fitness", order="desc"))["rows"] == []
