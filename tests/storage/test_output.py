"""What a command writes for a person is whole, or as it was."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from hpcnas.storage import durable
from hpcnas.storage.output import write_output


def test_a_file_is_replaced_as_a_whole_and_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, link = tmp_path / "table.csv", tmp_path / "link"
    write_output(path, "cat \udcfc\n")
    assert path.read_bytes() == b"cat \xfc\n"
    path.chmod(0o640)
    link.symlink_to(path.name)
    write_output(link, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01" and link.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o640

    def full(descriptor: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write_all", full)
    with pytest.raises(OSError, match="No space left"):
        write_output(path, "new")
    assert path.read_bytes() == b"\x00\x01" and sorted(os.listdir(tmp_path)) == ["link", "table.csv"]


def test_what_is_no_file_is_written_into(tmp_path: Path) -> None:
    pipe, found = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_output(pipe, "text")
    reader.join()
    assert found == [b"text"] and pipe.is_fifo()


def test_where_no_file_can_be_beside_it_it_is_written_as_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    long = tmp_path / ("n" * 250)
    write_output(long, "long")
    monkeypatch.setattr(os, "access", lambda place, how: os.path.exists(place) and Path(place) != tmp_path)
    monkeypatch.setattr(durable, "put", None)  # would be called
    write_output(path, "new")
    assert (path.read_text(), long.read_text()) == ("new", "long")
    with pytest.raises(FileNotFoundError):
        write_output(tmp_path / "missing" / "table.csv", "new")


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EACCES, errno.EBUSY, errno.EXDEV])
def test_a_file_whose_place_cannot_be_taken_is_written_in_it(
    reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder with a sticky bit, or where a container mounts one file."""
    path = tmp_path / "table.csv"
    path.write_text("old")

    def refused(source: Path, target: str, **folders: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "rename", refused)
    write_output(path, "new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["table.csv"]
