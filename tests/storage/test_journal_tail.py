"""The end of a journal, as somebody sees it who looks again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcnas.storage import journal
from hpcnas.storage.journal import Journal, JournalError
from hpcnas.storage.journal_tail import JournalTail, Replaced


def commit(target: Journal, *numbers: int) -> None:
    for number in numbers:
        target.append({"n": number})
    target.commit()


def tail(path: Path) -> JournalTail:
    contents, damage = journal.scan(path)
    assert damage is None
    return JournalTail(path, contents)


@pytest.fixture
def open_journal(tmp_path: Path) -> Journal:
    """Of 7 records before it, and one in it."""
    new = Journal.create(tmp_path / "journal", "f" * 32, 7)
    commit(new, 8)
    return new


def test_each_look_gives_what_has_come_since(open_journal: Journal) -> None:
    found = tail(open_journal.path)
    assert (found.more().base, found.more().records) == (8, [])
    commit(open_journal, 9, 10)
    commit(open_journal, 11)
    seen = found.more()
    assert (seen.base, seen.records) == (8, [{"n": 9}, {"n": 10}, {"n": 11}])
    assert (found.more().base, found.more().records) == (11, [])
    open_journal.close()


def test_a_line_that_is_being_written_is_left_for_the_next_look(open_journal: Journal) -> None:
    found, whole = tail(open_journal.path), open_journal.path.read_bytes()
    commit(open_journal, 9)
    line = open_journal.path.read_bytes()[len(whole) :]
    open_journal.close()
    for length in range(len(line)):
        open_journal.path.write_bytes(whole + line[:length])
        assert found.more().records == []
    open_journal.path.write_bytes(whole + b"\0" * (len(line) - 1) + b"\n")  # its newline reached the disk first
    assert found.more().records == []
    open_journal.path.write_bytes(whole + line)
    assert found.more().records == [{"n": 9}]


@pytest.mark.parametrize("base", [7, 9])
def test_another_journal_in_its_place_is_told(open_journal: Journal, base: int) -> None:
    found = tail(open_journal.path)
    open_journal.close()
    new = Journal.create(open_journal.path, "f" * 32, base)
    if base == 7:  # the same first line, and less behind it
        assert open_journal.path.read_bytes().count(b"\n") == 1
    else:
        commit(new, 10, 11, 12)
    new.close()
    with pytest.raises(Replaced):
        found.more()


def test_damage_is_told_and_so_is_a_file_that_is_gone(open_journal: Journal) -> None:
    found, whole = tail(open_journal.path), open_journal.path.read_bytes()
    open_journal.close()
    header, line = whole.splitlines(keepends=True)
    for more, told in (
        (b"00000000 [1]\n" + line, "line 1 of 2 is damaged, and it is not the last one"),
        (line + b"00000000 [1]\n" + line[:5], "line 2 of 2 is damaged, and it is not the last one"),
        (line + header, "line 2: expected a list of records, got {'journal': 1, "),
    ):
        open_journal.path.write_bytes(whole + more)
        with pytest.raises(JournalError, match=f"journal, after byte {len(whole)}: {told}"):
            found.more()
    open_journal.path.unlink()
    with pytest.raises(JournalError, match="expected a readable journal .*: No such file"):
        found.more()
