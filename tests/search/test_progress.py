"""What a person sees: the live line, log lines, and the final table, to the letter."""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import curved
import pytest
from examples import CONFIG, SESSION, evaluated, failed, individual, population

from hpcnas.config.search import SearchSettings
from hpcnas.evolution.population import Population
from hpcnas.job import log
from hpcnas.job.log import LiveLine, duration
from hpcnas.search import progress
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.progress import Progress, final_table, front_table

TEN = SearchSettings(budget=10)

# The live line


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal_of_20_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((20, 5)))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE", raising=False)


def test_a_line_takes_the_place_of_the_last() -> None:
    stream = Terminal()
    line = LiveLine("live", stream)
    line.show("one")
    line.show("two")
    line.clear()
    assert stream.getvalue() == "\r\x1b[2Kone" + "\r\x1b[2Ktwo" + "\r\x1b[2K"


@pytest.mark.parametrize("length", [18, 19, 20, 500])
def test_a_line_ends_before_the_terminal_does(length: int) -> None:
    stream = Terminal()
    LiveLine("live", stream).show("ä" * length)
    assert stream.getvalue() == "\r\x1b[2K" + "ä" * min(length, 19)


def test_plain_writes_nothing() -> None:
    stream = Terminal()
    line = LiveLine("plain", stream)
    line.show("one")
    line.clear()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("stream", "variables", "live"),
    [
        (Terminal(), {}, True),
        (io.StringIO(), {}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {"OMPI_COMM_WORLD_SIZE": "3"}, False),  # Open MPI pretends a terminal
    ],
)
def test_auto_is_live_on_a_true_terminal(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, variables: dict[str, str], live: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert LiveLine("auto", stream).live is live


def test_live_is_live_anywhere() -> None:
    assert LiveLine("live", io.StringIO()).live


# Log lines


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    """The program's logger, put back as it was."""
    found = logging.getLogger("hpcnas")
    before = found.handlers, found.level, found.propagate
    yield found
    for handler in found.handlers:
        if handler not in before[0]:
            handler.close()
    found.handlers, found.propagate = before[0], before[2]
    found.setLevel(before[1])


WHEN = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
HOST = re.escape(socket.gethostname())


def test_a_log_line_says_when_where_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(0, LiveLine("plain")).info("hello %s", "there")
    assert re.fullmatch(rf"{WHEN} rank 0 {HOST} INFO hello there\n", capsys.readouterr().out)


def test_time_is_utc(capsys: pytest.CaptureFixture[str]) -> None:
    line = log.configure(0, LiveLine("plain"))
    record = logging.LogRecord("hpcnas", logging.INFO, "", 0, "x", None, None)
    record.created = 86_400.0
    line.handle(record)
    assert capsys.readouterr().out.startswith("1970-01-02T00:00:00Z rank 0 ")


def test_workers_only_warn(capsys: pytest.CaptureFixture[str]) -> None:
    logger = log.configure(7, LiveLine("plain"))
    logger.info("nothing new")
    logger.warning("careful")
    assert re.fullmatch(rf"{WHEN} rank 7 {HOST} WARNING careful\n", capsys.readouterr().out)


def test_a_log_line_stands_above_the_live_line(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Terminal()
    line = LiveLine("live", stream)
    logger = log.configure(0, line)
    line.show("42 evaluated")
    logger.info("hello")
    assert stream.getvalue().endswith("42 evaluated\r\x1b[2K")  # cleared first
    assert capsys.readouterr().out.endswith("INFO hello\n")


def test_the_log_goes_to_a_file_as_well_and_is_continued(tmp_path: Path) -> None:
    for text in ("first ±", "second"):
        logger = log.configure(0, LiveLine("plain"))
        log.also_to_file((tmp_path / "log").open("a", encoding="utf-8"))
        logger.info(text)
        logger.handlers[1].close()
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert [line.rpartition("INFO ")[2] for line in lines] == ["first ±", "second"]


def test_configuring_again_does_not_double_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        logger = log.configure(0, LiveLine("plain"))
    logger.info("once")
    assert capsys.readouterr().out.count("once") == 1


# Progress


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, logger: logging.Logger) -> Callable[[], list[str]]:
    """Gives what the program has logged so far, without time and place."""
    logger.propagate = True
    caplog.set_level(logging.INFO, "hpcnas")
    return lambda: [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


def holding(found: Population) -> MemoryStore:
    """A store of one session with this population."""
    store = MemoryStore(CONFIG)
    store.begin(SESSION)
    store.population = found
    return store


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((200, 5)))


def shown(stream: io.StringIO) -> str:
    """The text of the live line."""
    return stream.getvalue().rpartition("\x1b[2K")[2]


def test_the_live_line_says_how_far_and_how_fast(clock: Clock, wide: None) -> None:
    stream = Terminal()
    observer = Progress(TEN, LiveLine("live", stream))
    observer.began(SESSION)
    clock.now += 120.0
    observer.turned(holding(population(evaluated(0), evaluated(2), failed(1), births=5)), busy=2, workers=3)
    assert shown(stream) == "2/10 evaluated · best 0.5500 · 1.0/min · ETA 8 min · 2/3 workers busy · 1 failed"


def test_where_trainings_end_the_search_the_time_left_goes_by_them(clock: Clock, wide: None) -> None:
    stream = Terminal()
    observer = Progress(SearchSettings(budget=100, trainings=10), LiveLine("live", stream))
    observer.began(SESSION)
    clock.now += 120.0
    observer.turned(holding(population(evaluated(0), evaluated(1), births=4)), busy=2, workers=3)
    assert "2/100 evaluated · 4/10 trainings · best 0.5500 · 1.0/min · ETA 3 min" in shown(stream)


def test_the_live_line_begins_without_a_speed(clock: Clock, wide: None) -> None:
    stream = Terminal()
    Progress(TEN, LiveLine("live", stream)).turned(holding(population(births=2)), busy=2, workers=3)
    assert shown(stream) == "0/10 evaluated · 2/3 workers busy"


def test_a_continued_run_counts_its_speed_from_where_it_began(clock: Clock, wide: None) -> None:
    stream = Terminal()
    observer = Progress(TEN, LiveLine("live", stream))
    observer.resumed(population(*(evaluated(id) for id in range(4))))
    observer.began(SESSION)
    clock.now += 60.0
    observer.turned(holding(population(*(evaluated(id) for id in range(6)))), busy=1, workers=1)
    assert shown(stream) == "6/10 evaluated · best 0.5500 · 2.0/min · ETA 2 min · 1/1 workers busy"


def test_the_live_line_is_renewed_five_times_a_second(clock: Clock) -> None:
    stream = Terminal()
    observer = Progress(TEN, LiveLine("live", stream))
    for _ in range(100):  # a second
        observer.turned(holding(population()), busy=0, workers=1)
        clock.now += 0.01
    assert stream.getvalue().count("\r") == 5


def test_plain_lines_come_twice_a_minute(clock: Clock, told: Callable[[], list[str]]) -> None:
    observer = Progress(TEN, LiveLine("plain"))
    for _ in range(60):
        observer.turned(holding(population()), busy=0, workers=1)
        clock.now += 1.0
    assert told() == ["INFO 0/10 evaluated · 0/1 workers busy"] * 2


def test_plain_lines_wait_for_the_first_worker(clock: Clock, told: Callable[[], list[str]]) -> None:
    Progress(TEN, LiveLine("plain")).turned(MemoryStore(CONFIG), busy=0, workers=1)
    assert told() == []


def test_the_beginning_says_what_is_learnt_with_what(told: Callable[[], list[str]]) -> None:
    Progress(TEN, LiveLine("plain")).began(SESSION)
    assert told() == [
        "INFO data: 40000 training and 10000 validation images, 32×32, 3 channels, 10 classes; "
        "software: hpcnas 0, numpy 2"
    ]


def test_a_continuation_says_what_there_is(told: Callable[[], list[str]]) -> None:
    Progress(TEN, LiveLine("plain")).resumed(population(evaluated(0), failed(1), births=5))
    assert told() == ["INFO continuing: 1 evaluated, 1 failed, 3 in flight to be issued again"]


def test_new_bests_and_failures_are_told_and_nothing_else(told: Callable[[], list[str]]) -> None:
    observer, found = Progress(TEN, LiveLine("plain")), population(births=4)
    for result in (evaluated(0, 0.5, 0.6), evaluated(1, 0.1, 0.2), failed(2), evaluated(3, 0.6, 0.6)):
        found.settle(result)
        observer.settled(result, holding(found))
    place = "on rank 2 on node-7 (cuda:GPU-6f1c1c1e-4a4b-9d8e-7a61-2b3c4d5e6f70)"
    assert told() == [
        f"INFO new best: individual 0: fitness 0.5500 (0.5000 0.6000) {place}",
        f"WARNING individual 2 failed (oom, attempt 2) {place}: out of memory",
        f"INFO new best: individual 3: fitness 0.6000 (0.6000 0.6000) {place}",
    ]


def test_a_best_that_was_measured_before_is_told_with_the_fitness_of_all(told: Callable[[], list[str]]) -> None:
    observer, found = Progress(TEN, LiveLine("plain")), population(evaluated(0, 0.5, 0.6), births=1)
    found.add(replace(individual(1), repeats=0))
    found.settle(evaluated(1, 0.7))
    observer.settled(evaluated(1, 0.7), holding(found))
    assert told() == [
        "INFO new best: individual 1: fitness 0.6000, the mean of 3 trainings of its network, the last on "
        "rank 2 on node-7 (cuda:GPU-6f1c1c1e-4a4b-9d8e-7a61-2b3c4d5e6f70)"
    ]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_results_that_arrive_together_the_best_is_told(
    told: Callable[[], list[str]], order: tuple[int, int]
) -> None:
    results = (evaluated(0, 0.1, 0.1), evaluated(1, 0.9, 0.9))
    found = population(*(results[id] for id in order))
    observer = Progress(TEN, LiveLine("plain"))
    for id in order:
        observer.settled(results[id], holding(found))
    assert [line.split(":")[1] for line in told()] == [" individual 1"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (150, "2 min"),
        (5369, "89 min"),
        (5400, "1 h 30 min"),
        (7500, "2 h 05 min"),
        (172_740, "47 h 59 min"),
        (172_800, "2 d 0 h"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# The final table


def test_the_final_table() -> None:
    found = population(evaluated(1, 0.5, 0.5), failed(0, "no"), births=2)
    found.add(individual(2, parent=1, redrawn=3))
    found.settle(evaluated(2, 0.5, 0.7))
    found.add(individual(3, parent=2))
    found.settle(evaluated(3, 0.25, 0.25))
    found.add(individual(4))
    assert final_table(found) == (
        "  evaluated          3\n"
        "  failed             1\n"
        "  trainings          6\n"
        "  refused genotypes  3 drawn again (invalid, or over a constraint)\n"
        "  known networks     0 drawn again, 1 evaluated again\n"
        "  worker time        34 s\n"
        "  best individual    2\n"
        "    fitness          0.6000 ± 0.1414 (mean ± std over 2 trainings)\n"
        "    parameters       1,002\n"
        "    lineage          2 individuals, 1 mutations from individual 1\n"
        "  first evaluated    0.5000\n"
        "  median of all      0.5000"
    )


def test_the_final_table_names_the_best_as_expected_and_as_measured() -> None:
    found = population(evaluated(0, 0.5), evaluated(1, 0.9), evaluated(2, 0.8))
    found.expects = lambda population, view: {1: 0.7, 2: 0.75}
    table = final_table(found)
    assert re.search(r"best individual +2\n", table) and re.search(r"  fitness +0\.8000", table)
    assert (
        "new trainings of individual 2 to give 0.7500, more than those of individual 1, the best as measured (0.9000), "
        "of which it expects 0.7000\n" in table
    )
    found.expects = lambda population, view: {2: 0.75}
    assert "individual 1, the best as measured (0.9000)\n" in final_table(found)
    found.expects = lambda population, view: {1: 0.8, 2: 0.75}
    assert "  expected         new trainings of individual 1 to give 0.8000, the most of all\n" in final_table(found)


def test_the_final_table_says_what_racing_has_saved() -> None:
    found = population(evaluated(1, 0.5, 0.5), evaluated(0, 0.25))
    assert "  trainings          3, 1 less than whole fitnesses would take (25%)\n" in final_table(found)


def test_the_front_is_listed_from_the_cheapest() -> None:
    found = population(evaluated(0, 0.5, 0.5), evaluated(1, 0.4, 0.4), evaluated(2, 0.6, 0.6))
    table = front_table(found, "parameters", lambda population, id: float(population.column("parameters")[id]))
    assert table == (
        "  individual  fitness  parameters\n"
        "           0   0.5000       1,000\n"
        "           2   0.6000       1,002"
    )  # fmt: skip


def test_the_final_table_of_nobody() -> None:
    assert final_table(population()) == (
        "  evaluated          0\n"
        "  trainings          0\n"
        "  refused genotypes  0 drawn again (invalid, or over a constraint)\n"
        "  known networks     0 drawn again, 0 evaluated again\n"
        "  worker time        0 s"
    )


# Those that were stopped early


def test_the_live_line_counts_those_that_were_stopped_early(clock: Clock, wide: None) -> None:
    stream = Terminal()
    observer = Progress(TEN, LiveLine("live", stream))
    observer.began(SESSION)
    clock.now += 60.0
    found = curved.population(curved.trained(0), curved.stopped(1), curved.stopped(2), births=4)
    observer.turned(holding(found), busy=1, workers=2)
    assert shown(stream) == (
        "1/10 evaluated · 2 stopped early · best 0.5500 · 3.0/min · ETA 2 min · 1/2 workers busy"
    )


def test_a_run_that_goes_on_tells_of_them_and_counts_its_own(
    clock: Clock, wide: None, told: Callable[[], list[str]]
) -> None:
    stream = Terminal()
    observer = Progress(TEN, LiveLine("live", stream))
    found = curved.population(curved.trained(0), curved.stopped(1), births=4)
    observer.resumed(found)
    assert told() == ["INFO continuing: 1 evaluated, 1 stopped early, 0 failed, 2 in flight to be issued again"]
    clock.now += 60.0
    found.settle(curved.stopped(2))
    observer.turned(holding(found), busy=1, workers=2)
    assert "1/10 evaluated · 2 stopped early · best 0.5500 · 1.0/min · ETA 7 min" in shown(stream)


def test_a_stop_is_no_line_of_its_own(told: Callable[[], list[str]]) -> None:
    found = curved.population(curved.trained(0), curved.stopped(1))
    Progress(TEN, LiveLine("plain")).settled(found.result(1), holding(found))
    assert told() == []


def test_the_final_table_of_a_search_that_stopped_some_early() -> None:
    stopped = curved.stopped(1), curved.stopped(2, (0.1, 0.2), (0.2, 0.2))
    table = final_table(curved.population(curved.trained(0), *stopped))
    assert table.splitlines()[:3] == [
        "  evaluated          1",
        "  stopped early      2",
        "  trainings          3, 3 less than whole fitnesses would take (53%)",
    ]
