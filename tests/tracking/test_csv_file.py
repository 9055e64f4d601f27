"""RUN/metrics.csv: one row an entry, each step once, whatever was cut off; another's file is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcnas.storage.folder import RunFolder, StoreError
from hpcnas.tracking.csv_file import CsvFile, NotOurs
from hpcnas.tracking.tracker import About, Entry

HEAD = "series,step,time,loss,accuracy\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RunFolder]:
    found = RunFolder(tmp_path)
    yield found
    found.close()


def logged(place: RunFolder, series: str, step: int, *entries: Entry) -> dict[str, int]:
    """What a job that goes on after `step` finds; it logs these, and is killed."""
    file = CsvFile(place, About("a", "b", ("loss", "accuracy"), {}))
    known = file.resume(series, step)
    file.log(entries)
    return dict(known)


def entry(series: str, step: int, **values: float) -> Entry:
    return Entry(series, step, 1000.5, values)


def test_rows_are_appended_and_those_that_are_made_again_are_there_once(place: RunFolder) -> None:
    path = place.path / "metrics.csv"
    assert logged(place, "seed-0", 0, entry("seed-0", 10, loss=4.0, accuracy=0.25), entry("seed-0", 20, loss=0.1)) == {}
    logged(place, "seed-1", 0, entry("seed-1", 30, accuracy=0.5))
    assert logged(place, "seed-0", 10, entry("seed-0", 20, loss=3.0)) == {"loss": 10, "accuracy": 10}
    expected = "seed-0,10,1000.500,4.0,0.25\nseed-1,30,1000.500,,0.5\nseed-0,20,1000.500,3.0,\n"
    assert path.read_text() == HEAD + expected
    assert logged(place, "seed-0", 20, Entry("seed-0", 30, 0.0, {}, last=True)) == {"loss": 20, "accuracy": 10}
    assert path.read_text() == HEAD + expected


def test_a_torn_row_goes_and_a_new_column_comes(place: RunFolder) -> None:
    path = place.path / "metrics.csv"
    path.write_text("series,step,time,loss\nsearch,1,2.5,0.5\nsearch,2,3.5,0.")
    assert logged(place, "search", 5, entry("search", 2, loss=0.25)) == {"loss": 1}
    assert path.read_text() == HEAD + "search,1,2.5,0.5,\nsearch,2,1000.500,0.25,\n"


@pytest.mark.parametrize(
    "content",
    [b"step;loss\n1;2\n", b"series,step,time,mine\na,1,2,3\n", b"\xff\n", b"one line", HEAD.encode() + b"a,x,1,2,3\n"],
)
def test_another_file_of_that_name_is_left_alone(place: RunFolder, content: bytes) -> None:
    path = place.path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(NotOurs, match=r"metrics.csv: expected a file that this program has written.*; move it away$"):
        logged(place, "a", 0)
    assert path.read_bytes() == content


def test_a_link_is_not_followed(place: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "other").write_text(HEAD)
    (tmp_path / "metrics.csv").symlink_to("other")
    with pytest.raises(StoreError, match="it is a link to other"):
        logged(place, "a", 0, entry("a", 1, loss=1.0))
    assert (tmp_path / "other").read_text() == HEAD
