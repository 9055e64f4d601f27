"""Where ranks meet, and what they tell each other while they wait."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
import torch.distributed
from patience import GUARD
from rank_threads import ThreadGroup, on_ranks

from hpcnas.retrain import hearing, process_group
from hpcnas.retrain.hearing import Hearing
from hpcnas.retrain.process_group import Group, PeerFailed, PeerLost


class Ranks:
    """A `World` of ranks that are threads."""

    def __init__(self, group: ThreadGroup) -> None:
        self.rank, self.size, self.gather = group.rank, group.size, group.gather
        self.waits, self.hears = False, lambda: None

    def broadcast(self, value: Any) -> Any:
        return self.gather(value)[0]


def listening_at(port: int) -> set[str]:
    """The addresses at which this process listens on a port."""
    found = psutil.Process().net_connections(kind="tcp")
    return {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN and each.laddr.port == port}


def test_ranks_on_one_host_meet_on_its_loopback_under_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")

    def meet(group: ThreadGroup) -> tuple[str, bool, int, set[str]]:
        meeting = process_group._Meeting(Ranks(group), None)
        if group.rank == 0:
            meeting.store.set("place", "here")
            meeting.words.set("word", "spoken")
        group.gather(None)
        plain = meeting.store.underlying_store
        found = meeting.store.get("place").decode(), plain.check(["place"]) or plain.check(["word"]), plain.port
        assert meeting.words.get("word") == b"spoken" and not meeting.store.check(["word"])
        listened = listening_at(found[2])
        group.gather(None)
        return *found, listened

    for found in on_ranks(2, meet):
        assert found[0] == "here" and not found[1] and found[3] == {"127.0.0.1"}


def test_the_meeting_point_listens_on_the_one_address_that_others_know() -> None:
    server = process_group._Server({"127.0.0.2"})
    assert server.address == "127.0.0.2" and listening_at(server.port) == {"127.0.0.2"}
    process_group._connected("127.0.0.2", server.port).set("a", "b")
    assert server.store.get("a") == b"b"


@pytest.mark.parametrize("known_as", [{"127.0.0.1", "127.0.0.2"}, {"192.0.2.7"}], ids=["several", "another's"])
def test_else_it_listens_on_all_addresses(known_as: set[str]) -> None:
    server = process_group._Server(known_as)
    assert server.address is None and listening_at(server.port) <= {"::", "0.0.0.0"}
    process_group._connected("127.0.0.1", server.port).set("a", "b")
    assert server.store.get("a") == b"b"


def test_where_no_one_address_serves_all_are_listened_on_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(logging.getLogger("hpcnas"), "warning", lambda text, *parts: said.append(text % parts))
    monkeypatch.setattr(process_group, "_numeric", lambda address: "192.0.2.7")  # a translated one
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    (port,) = on_ranks(1, lambda group: process_group._Meeting(Ranks(group), "elsewhere").store.underlying_store.port)
    (warned,) = said
    assert f"listens on all addresses of this host, port {port}: other hosts know it as 192.0.2.7" in warned


def groups(size: int, leave: int | None = None) -> list[Group]:
    """Groups of one process that hear each other's words; one of them is to leave."""
    words = torch.distributed.HashStore()
    made = []
    for rank in range(size):
        group = Group.__new__(Group)
        group.rank, group.size, group._words = rank, size, words
        group._counts, group._votes = 0, words
        group._hearing = Hearing(words, rank, size)
        group._leave = lambda rank=rank: rank == leave  # type: ignore[misc]
        made.append(group)
    return made


def test_who_waits_hears_that_another_one_is_to_leave() -> None:
    first, second, third = groups(3, leave=2)
    assert not first.called() and third.called()
    third._hearing.look()
    assert not first.called()  # it has not looked
    for group in (first, second):
        group._hearing.look()
    assert first.called() and second.called() and third.called()


def test_a_job_that_is_to_leave_waits_for_no_rank_that_is_stopped() -> None:
    now, ranks = [0.0], groups(3, leave=0)
    for group in ranks:
        group._hearing = Hearing(group._words, group.rank, 3, lambda: lambda: now[0])

    def half_a_second(*looking: int) -> list[bool]:
        now[0] += 0.5
        for rank in looking:
            ranks[rank]._hearing.look()
        return [ranks[rank].called() for rank in looking]

    assert ranks[0].called()
    for _ in range(40):
        assert all(half_a_second(0, 1, 2)[:1])
    for _ in range(21):
        half_a_second(0, 1)  # and rank 2 is stopped
    with pytest.raises(PeerLost, match=r"is to leave, and rank 2 has not answered for 10 s \(stopped"):
        half_a_second(0)
    ranks[1]._hearing.look()
    with pytest.raises(PeerLost, match="rank 2 has not answered"):
        ranks[1].called()


def test_a_job_that_is_to_leave_does_not_wait_for_rank_0_where_the_meeting_point_is() -> None:
    now = [0.0]
    first, second = groups(2, leave=1)
    second._hearing = Hearing(second._words, 1, 2, lambda: lambda: now[0])
    assert second.called()
    second._hearing.look()
    for _ in range(21):
        assert second.called()
        now[0] += 0.5  # its thread waits for an answer
    with pytest.raises(PeerLost, match="rank 0 has not answered for 10 s"):
        second.called()
    assert not first.called()


def test_a_meeting_point_that_is_gone_is_told_by_whoever_waits() -> None:
    (group,) = groups(2)[:1]
    group._hearing.problem = "Broken pipe"
    with pytest.raises(PeerLost, match="another rank is gone or cannot be reached: Broken pipe"):
        group.called()


def test_a_thread_listens_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = groups(2)
    second._hearing.begin()
    first._words.set("leave", "")
    while not second.called():
        time.sleep(0.01)
    monkeypatch.setattr(hearing, "LOOK", GUARD)  # how long its end is waited for
    assert second._hearing.end() and not second._hearing._thread.is_alive()


def test_all_ranks_hear_the_line_of_the_first_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "_HEARING", process_group.datetime.timedelta(seconds=GUARD))
    first, second, third = groups(3)
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(second.tell, "rank 1 is out of memory")  # waits until rank 0 has heard
        while not first._words.check(["failed"]):
            time.sleep(0.001)
        for group in (third, first):
            group._hearing.look()
            with pytest.raises(PeerFailed, match="^rank 1 is out of memory$"):
                group.called()
        assert told.result() == "rank 1 is out of memory"
    assert third.tell("rank 2 has lost it") == "rank 1 is out of memory"


def test_all_ranks_count_the_same_again_and_again() -> None:
    ranks = groups(3)
    held = [(False, False, False), (True, False, True), (True, True, True), (False, True, False)]

    def counted(rank: int) -> list[int]:
        return [ranks[rank].count(each[rank]) for each in held]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(counted, range(3))) == [[0, 2, 3, 1]] * 3
    assert sorted(ranks[0]._words.list_keys()) == ["result-4", "votes-4"]


def test_who_waits_for_the_count_hears_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "LOOK", 0.01)
    first, second = groups(2)
    first._words.set("failed", "rank 1 is out of memory")
    first._hearing.look()
    with pytest.raises(PeerFailed, match="rank 1 is out of memory"):
        first.count(False)
    assert second._words.check(["heard"])


def test_a_rank_that_rank_0_does_not_hear_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "_HEARING", process_group.datetime.timedelta(milliseconds=1))
    assert groups(2)[1].tell("rank 1 is out of memory") is None
    assert groups(1)[0].tell("it is out of memory") == "it is out of memory"


def test_a_rank_alone_leaves_as_it_likes_and_counts_itself() -> None:
    (alone,) = groups(1, leave=0)
    assert alone.called() and alone.count(True) == 1 and alone.count(False) == 0
