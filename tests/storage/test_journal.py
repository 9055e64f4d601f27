"""Journal: what commit promises, at every byte that a crash may cut and for every error of the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from hpcnas.storage import durable, journal
from hpcnas.storage.journal import Journal, JournalError, read

RECORDS: list[journal.Record] = [
    {"birth": {"id": 0, "genotype": "0102", "born": 1.5}},
    {"settle": {"message": "Ünïcode\n\0 \ud800 ☃", "none": None, "numbers": [0.1, 1e300, float("inf")]}},
    {"begin": {}},
]


def _written(path: Path, *records: journal.Record, base: int = 0) -> bytes:
    """A closed journal with these records; its bytes."""
    log = Journal.create(path, "run-1", base)
    for record in records:
        log.append(record)
        log.commit()
    log.close()
    return path.read_bytes()


# Round trip


def test_records_come_back_as_they_went(tmp_path: Path) -> None:
    data = _written(tmp_path / "journal", *RECORDS, base=7)
    contents = read(tmp_path / "journal")
    assert (contents.run, contents.base, contents.whole) == ("run-1", 7, len(data))
    assert contents.records == RECORDS


def test_not_a_number_comes_back(tmp_path: Path) -> None:
    _written(tmp_path / "journal", {"x": float("nan")})
    assert str(read(tmp_path / "journal").records) == "[{'x': nan}]"


def test_a_commit_is_a_line_of_its_check_sum_and_its_records_as_json(tmp_path: Path) -> None:
    log = Journal.create(tmp_path / "journal", "run-1", base=2)
    log.append({"begin": {}})
    log.append({"x": 1})
    log.commit()
    log.close()
    lines = b'2b396d60 {"journal":1,"run":"run-1","base":2}\n' + b'3f9dddc7 [{"begin":{}},{"x":1}]\n'
    assert (tmp_path / "journal").read_bytes() == lines
    assert read(tmp_path / "journal").records == [{"begin": {}}, {"x": 1}]


def test_a_new_journal_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    _written(tmp_path / "journal", *RECORDS)
    Journal.create(tmp_path / "journal", "run-1", base=3).close()
    assert (read(tmp_path / "journal").base, read(tmp_path / "journal").records) == (3, [])


def test_nothing_is_written_before_commit_nor_by_close(tmp_path: Path) -> None:
    log = Journal.create(tmp_path / "journal", "run-1", 0)
    log.append(RECORDS[0])
    assert read(tmp_path / "journal").records == []
    log.close()
    assert read(tmp_path / "journal").records == []


@pytest.mark.parametrize(("synced", "expected"), [(True, ["write", "sync"]), (False, ["write"])])
def test_a_commit_is_one_write_and_one_sync_for_all(
    synced: bool, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, calls = Journal.create(tmp_path / "journal", "run-1", 0, synced=synced), []
    real_write, real_sync = os.write, os.fdatasync
    monkeypatch.setattr(os, "write", lambda *given: calls.append("write") or real_write(*given))
    monkeypatch.setattr(os, "fdatasync", lambda *given: calls.append("sync") or real_sync(*given))
    for record in RECORDS:
        log.append(record)
    log.commit()
    log.commit()  # of nothing
    log.close()
    assert calls == expected
    assert read(tmp_path / "journal").records == RECORDS


def test_appending_goes_on_where_the_last_left_off(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    _written(path, RECORDS[0])
    log = Journal(path, read(path).whole)
    log.append(RECORDS[1])
    log.commit()
    log.close()
    assert read(path).records == RECORDS[:2]


# Torn and damaged


def test_a_tail_torn_at_any_byte_is_cut_and_nothing_else_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    data = _written(path, *RECORDS)
    whole = len(_written(path, *RECORDS[:-1]))
    for cut in range(whole, len(data)):
        path.write_bytes(data[:cut])
        contents = read(path)
        assert (contents.records, contents.whole) == (RECORDS[:-1], whole), cut
        log = Journal(path, contents.whole)
        assert path.stat().st_size == whole
        log.append({"after": cut})
        log.commit()
        log.close()
        assert read(path).records == [*RECORDS[:-1], {"after": cut}], cut


def test_reading_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    data = _written(path, *RECORDS)[:-3]
    path.write_bytes(data)
    read(path)
    assert path.read_bytes() == data


@pytest.mark.parametrize("damage", [b"\0", b"{", b"9"])
def test_a_last_line_whose_newline_came_before_it_is_cut(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "journal"
    data = _written(path, *RECORDS)
    whole = len(_written(path, *RECORDS[:-1]))
    for place in range(whole, len(data) - 1):
        path.write_bytes(data[:place] + damage + data[place + 1 :])
        if path.read_bytes() != data:
            assert read(path).whole == whole, place


def test_damage_before_the_last_line_is_refused_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    data = _written(path, *RECORDS)
    last = len(_written(path, *RECORDS[:-1]))
    for place in range(last - 1):  # without the newline before the last line: two lines become one, the last
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x04]) + data[place + 1 :])
        with pytest.raises(JournalError, match=r"line \d of \d is damaged, and it is not the last one$"):
            read(path)


def test_a_missing_line_in_the_middle_of_one_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    lines = _written(path, *RECORDS).splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:20] + b"\n" + lines[2])
    with pytest.raises(JournalError, match=r"journal: line 2 of 3 is damaged, and it is not the last one$"):
        read(path)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\n",
        b"hello\n",
        journal._line({"begin": {}}),
        journal._line({"journal": 2, "run": "run-1", "base": 0}),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(header)
    with pytest.raises(JournalError, match=r'journal: expected a header with "journal": 1, got '):
        read(path)


def test_a_pipe_is_no_journal_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "journal")
    with pytest.raises(JournalError, match=r"^expected a readable journal .*/journal: it is a pipe or a device$"):
        read(tmp_path / "journal")


def test_a_journal_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"^expected a readable journal .*: No such file or directory$"):
        read(tmp_path / "journal")
    with pytest.raises(JournalError, match=r"^expected to write .*: No such file or directory$"):
        Journal(tmp_path / "journal", 0)
    with pytest.raises(JournalError, match=r"^expected to create .*: No such file or directory$"):
        Journal.create(tmp_path / "no" / "journal", "run-1", 0)


# A disk that is full or broken


def _no_space(*given: Any, **named: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_after_a_failed_commit_the_journal_takes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "journal"
    log = Journal.create(path, "run-1", 0)
    log.append(RECORDS[0])
    log.commit()
    log.append(RECORDS[1])
    with monkeypatch.context() as broken:
        broken.setattr(os, call, _no_space)
        with pytest.raises(JournalError, match=r"No space left on device; nothing acknowledged is lost, make room"):
            log.commit()
    with pytest.raises(JournalError, match=r"closed, or an earlier write failed"):
        log.commit()  # of nothing: what failed may not look recorded
    log.append(RECORDS[2])
    with pytest.raises(JournalError, match=r"closed, or an earlier write failed"):
        log.commit()
    assert read(path).records[:1] == RECORDS[:1]
    assert RECORDS[2] not in read(path).records


def test_half_a_write_on_a_full_disk_is_cut_at_the_next_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    log, real_write = Journal.create(path, "run-1", 0), os.write
    log.append(RECORDS[0])
    log.commit()
    log.append(RECORDS[1])
    room = 10

    def write(descriptor: int, data: bytes) -> int:
        nonlocal room
        taken, room = min(room, len(data)), 0
        return real_write(descriptor, data[:taken]) if taken else _no_space()

    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        with pytest.raises(JournalError, match="No space left"):
            log.commit()
    contents = read(path)
    assert contents.records == RECORDS[:1]
    assert path.stat().st_size == contents.whole + 10
    Journal(path, contents.whole).close()
    assert path.stat().st_size == contents.whole


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, real_write = Journal.create(tmp_path / "journal", "run-1", 0), os.write
    with monkeypatch.context() as slow:
        slow.setattr(os, "write", lambda descriptor, data: real_write(descriptor, data[:3]))
        log.append(RECORDS[1])
        log.commit()
    log.close()
    assert read(tmp_path / "journal").records == RECORDS[1:2]


def test_a_removed_journal_takes_no_more(tmp_path: Path) -> None:
    log = Journal.create(tmp_path / "journal", "run-1", 0)
    (tmp_path / "journal").unlink()
    log.append(RECORDS[0])
    with pytest.raises(JournalError, match=r"journal: the file has been removed$"):
        log.commit()


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_failed_replacement_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "journal"
    old = _written(path, *RECORDS)
    with monkeypatch.context() as broken:
        broken.setattr(os, call, _no_space)
        with pytest.raises(JournalError, match=r"^expected to create .*journal: No space left on device$"):
            Journal.create(path, "run-1", 3)
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["journal"]


def test_a_failed_truncation_leaves_no_descriptor_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    path.write_bytes(_written(path, *RECORDS) + b"torn")
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", _no_space)
        with pytest.raises(JournalError, match=r"^expected to write .*journal: No space left on device$"):
            Journal(path, read(path).whole)
    assert len(os.listdir("/proc/self/fd")) == before


# Files replaced as a whole


def test_replaced_text_is_utf_8(tmp_path: Path) -> None:
    durable.replace_text(tmp_path / "status", "fitness ± 0.1\n")
    assert (tmp_path / "status").read_bytes() == b"fitness \xc2\xb1 0.1\n"


def test_a_replacement_that_breaks_off_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "status"
    path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        durable.replace(path, write)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["status"]
