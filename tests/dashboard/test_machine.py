"""Workers by host over time, against runs made by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import examples
import numpy as np
import pytest
from followed_stand import followed
from toolruns import CHAIN, created, curved, empty, evaluation, eventful

from hpcnas.analysis import worker_time
from hpcnas.dashboard import machine
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.messages import Failure, FailureKind, Place, Result


def test_each_host_has_what_its_workers_did(tmp_path: Path) -> None:
    run = followed(eventful(tmp_path / "run"))
    seen = machine.machine(run, {})
    (host,) = seen["hosts"]
    assert (host["host"], host["workers"], host["evaluated"], host["failed"]) == ("node-1", 2, 4, 2)
    assert host["devices"] == ["cuda:0", "cuda:1"] and seen["hosts_left_out"] == 0
    hours, busy, present = worker_time.occupancy(run.stored, machine.BINS)
    width = hours[1] - hours[0]
    assert seen["hours"] == pytest.approx(hours, abs=1e-6) and seen["present"] == pytest.approx(present, abs=1e-3)
    assert host["hours"] == pytest.approx((50 + 100 + 100 + 100 + 10 + 80) / 3600)
    assert np.sum(host["busy"]) * width == pytest.approx(host["hours"], abs=1e-3)
    assert np.sum(seen["throughput"]) * width == pytest.approx(4), "evaluations"
    assert seen["busy_share"] == pytest.approx(float(busy.sum() / present.sum()))
    assert [(one["kind"], one["individual"]) for one in seen["failures"]] == [("oom", 1), ("nan", 3)]
    assert seen["failures"][0]["hours"] == pytest.approx(50 / 3600)


def test_hosts_add_up_to_the_whole(tmp_path: Path) -> None:
    """Three workers on two hosts; the third one's individual goes on."""
    store = created(tmp_path / "run", budget=20)
    store.begin(dataclasses.replace(examples.SESSION, started=0.0, ranks=4))
    places = [Place(1, "b", "cpu"), Place(2, "a", "cpu"), Place(3, "a", "cpu")]
    for id in range(4):
        store.birth(Individual(id, CHAIN, Birth.INITIAL, None, 0, 0, 0.0))
    store.settle(Result(0, 1, places[0], 0.0, 40.0, evaluation((0.5, 0.5), 10)))
    store.retry(Result(1, 1, places[1], 0.0, 10.0, Failure(FailureKind.CRASH, "it ended")))
    store.settle(Result(1, 2, places[0], 40.0, 96.0, evaluation((0.5, 0.5), 10)))
    store.settle(Result(2, 1, places[2], 0.0, 48.0, evaluation((0.5, 0.5), 10)))
    store.commit()
    store.close()
    seen = machine.machine(followed(tmp_path / "run"), {})
    a, b = seen["hosts"]
    assert (a["host"], a["workers"], a["failed"], a["evaluated"]) == ("a", 2, 1, 1)
    assert (b["host"], b["workers"], b["failed"], b["evaluated"]) == ("b", 1, 0, 2)
    assert b["busy"] == pytest.approx(np.ones(96)), "one worker, always busy"
    assert a["busy"][:10] == pytest.approx(np.full(10, 2.0)) and a["busy"][10:48] == pytest.approx(np.ones(38))
    assert (seen["in_flight_count"], seen["queue"], len(seen["workers"])) == (1, 0, 3)
    assert [one["id"] for one in seen["in_flight"]] == [3]


def test_a_worker_that_is_at_work_counts_to_the_last_event(tmp_path: Path) -> None:
    seen = machine.machine(followed(curved(tmp_path / "run"), running=True), {})
    (host,) = seen["hosts"]
    assert seen["states"] == {"at work?": 1, "silent?": 1}
    assert host["busy"][:64] == pytest.approx(np.full(64, 2.0)), "until second 100 of 150"
    assert host["busy"][-10:] == pytest.approx(np.ones(10))


def test_of_many_hosts_those_that_worked_most_have_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MOST_HOSTS", 2)
    store = created(tmp_path / "run")
    store.begin(dataclasses.replace(examples.SESSION, started=0.0, ranks=4))
    for id, (host, seconds) in enumerate({"a": 10.0, "b": 30.0, "c": 20.0}.items()):
        store.birth(Individual(id, CHAIN, Birth.INITIAL, None, 0, 0, 0.0))
        store.settle(Result(id, 1, Place(id + 1, host, "cpu"), 0.0, seconds, evaluation((0.5, 0.5), 10)))
    store.commit()
    store.close()
    seen = machine.machine(followed(tmp_path / "run"), {})
    assert [host["host"] for host in seen["hosts"]] == ["b", "c"] and seen["hosts_left_out"] == 1


def test_a_name_that_is_cut_within_a_letter_spoils_nothing(tmp_path: Path) -> None:
    """The file holds 64 bytes of a host's name."""
    store = created(tmp_path / "run")
    store.begin(dataclasses.replace(examples.SESSION, started=0.0, ranks=2))
    for id in range(2):
        store.birth(Individual(id, CHAIN, Birth.INITIAL, None, 0, 0, 0.0))
    store.settle(Result(0, 1, Place(1, "x" + "é" * 40, "cpu"), 0.0, 10.0, evaluation((0.5, 0.5), 10)))
    store.commit()
    store.close()
    (host,) = machine.machine(followed(tmp_path / "run", running=True), {})["hosts"]
    assert host["host"] == "x" + "é" * 31 + "�" and host["evaluated"] == 1


def test_a_run_that_has_not_begun(tmp_path: Path) -> None:
    seen = machine.machine(followed(empty(tmp_path / "run")), {})
    assert (seen["hosts"], seen["workers"], seen["busy_share"], seen["in_flight"]) == ([], [], None, [])


def test_what_a_terminal_would_obey_is_shown(tmp_path: Path) -> None:
    store = created(tmp_path / "run")
    store.begin(dataclasses.replace(examples.SESSION, started=0.0, ranks=2))
    store.birth(Individual(0, CHAIN, Birth.INITIAL, None, 0, 0, 0.0))
    place = Place(1, "\x1b[31m<b>", "cpu\nx")
    store.settle(Result(0, 1, place, 0.0, 10.0, evaluation((0.5, 0.5), 10)))
    store.commit()
    store.close()
    seen = machine.machine(followed(tmp_path / "run"), {})
    assert seen["hosts"][0]["host"] == "\\x1b[31m<b>" == seen["workers"][0]["host"]
    assert seen["workers"][0]["device"] == "cpu\\nx"
