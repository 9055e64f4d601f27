"""A session's settings, and RUN/status while it goes on, by which a job script sees whether it got anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples import CONFIG, SESSION, evaluated, individual

from hpcnas.config import options
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.job.log import LiveLine
from hpcnas.job.status import MORE_TO_DO
from hpcnas.messages import Evaluation, Place, Result
from hpcnas.search import session
from hpcnas.search.file_store import FileStore
from hpcnas.search.memory_store import MemoryStore
from hpcnas.storage import lock
from hpcnas.storage.folder import RunFolder
from hpcnas.tracking.trackers import Trackers


def options_of(*arguments: str) -> SearchConfig:
    request = options.parse(arguments)
    return search_config.build(*request.base, *request.layers)


def test_the_first_result_is_told_at_once_and_later_ones_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = [5000.0], []
    monkeypatch.setattr(session.time, "monotonic", lambda: clock[0])
    store = MemoryStore(SearchConfig())
    observer = session._Observer(
        SearchConfig(), LiveLine("plain"), store, lambda: written.append(clock[0]), lambda: Trackers([])
    )
    result = Result(0, 1, Place(1, "host", "cpu"), 0.0, 1.0, Evaluation((0.5,), 1, 0.0, 1.0, 0.0))
    observer.turned(MemoryStore(SearchConfig()), busy=0, workers=1)
    assert written == []
    for clock[0] in (5001.0, 5002.0, 5010.9, 5011.0, 5012.0):
        observer.settled(result, MemoryStore(SearchConfig()))
    assert written == [5001.0, 5011.0]


def test_the_end_of_one_job_is_not_that_of_the_next(tmp_path: Path) -> None:
    command = ["--run", str(tmp_path / "run"), "--evaluator", "synthetic"]
    store = FileStore.create(tmp_path / "run", options_of(*command, "--walltime", "600", "--grace", "30"))
    store.begin(SESSION)
    store.compact()
    store.close()
    again = session.SearchSession.open(options.parse(["--run", str(tmp_path / "run")]))
    again.close()
    assert (again.config.run.walltime, again.config.run.grace) == (None, 30.0)


def test_a_run_that_has_not_begun_keeps_the_settings_that_are_not_given_anew(tmp_path: Path) -> None:
    """Its data were never found, say: only what was wrong has to be given again."""
    folder = str(tmp_path / "run")
    wrong = ["--preset", "efficient", "--data", "cifar10:nowhere", "--budget", "77"]
    session.SearchSession.open(options.parse(["--run", folder, *wrong])).close()
    again = session.SearchSession.open(options.parse(["--run", folder, "--data", "digits"]))
    assert again._store is not None
    again._store.compact()  # as a job does that leaves before its data are there
    again.close()
    assert again.config == options_of("--run", folder, *wrong, "--data", "digits")
    kept = session.SearchSession.open(options.parse(["--run", folder]))
    kept.close()
    assert kept.config == again.config


def test_a_refused_start_leaves_the_settings_of_a_run_that_has_not_begun(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    FileStore.create(folder, options_of("--run", str(folder), "--seed", "5")).close()
    before = (folder / "population.h5").read_bytes(), (folder / "journal").read_bytes()
    refused = session.SearchSession.open(options.parse(["--run", str(folder), "--seed", "77"]))
    assert refused.config.search.seed == 77 and refused._store is not None
    refused._store.begin(SESSION)  # as where nothing is allowed: never committed
    refused.refuse()
    assert ((folder / "population.h5").read_bytes(), (folder / "journal").read_bytes()) == before
    assert session.SearchSession.open(options.parse(["--run", str(folder)])).config.search.seed == 5


@pytest.mark.parametrize("made", [False, True])
def test_who_waits_for_a_run_that_is_taken_away_begins_it(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "run"
    if made:
        folder.mkdir()
    first = session.SearchSession.open(options.parse(["--run", str(folder), "--seed", "5"]))
    request = options.parse(["--run", str(folder), "--seed", "77", "--lock-wait", "60"])
    second = session.SearchSession.open(request, say=lambda text: first.refuse())
    second.close()
    assert second._new and FileStore.read(folder).config.search.seed == 77


def test_who_waits_for_a_folder_that_is_taken_away_begins_a_run_there(tmp_path: Path) -> None:
    place = RunFolder.make(tmp_path / "run")
    held = lock.take(place)

    def taken_away(text: str) -> None:
        place.remove("lock")
        held.close()
        (tmp_path / "run").rmdir()

    second = session.SearchSession.open(
        options.parse(["--run", str(tmp_path / "run"), "--lock-wait", "60"]), say=taken_away
    )
    second.close()
    place.close()
    assert second._new and FileStore.exists(tmp_path / "run")


def test_a_folder_that_cannot_be_looked_into_is_refused_in_words(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 300)
    with pytest.raises(session.RunRefused) as caught:
        session.SearchSession.open(options.parse(["--run", str(long)]))
    assert str(caught.value) == f"expected a folder that can be looked into, got {long}: File name too long"


def test_the_status_counts_evaluations_and_trainings(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", CONFIG)
    store.begin(SESSION)
    store.birth(individual(0))
    store.settle(evaluated(0))
    session.SearchSession(CONFIG, store)._write_status(store, MORE_TO_DO)
    store.close()
    lines = (tmp_path / "run" / "status").read_text().splitlines()
    assert lines[:-1] == ["state=more", "evaluated=1", "budget=5", "trainings=2", "failed=0"]
