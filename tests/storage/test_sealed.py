"""Files with a seal: no bit of one can change unnoticed, and who does not know of the seal reads them all the same."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from hpcnas.storage import sealed
from hpcnas.storage.sealed import Damaged, Sealing


def length(path: Path) -> int | None:
    with path.open("rb") as file:
        return sealed.content_length(file)


def written(path: Path, *parts: bytes) -> Path:
    path.unlink(missing_ok=True)
    sealed.write(path, lambda file: [file.write(part) for part in parts])
    return path


def test_the_seal_is_what_it_says(tmp_path: Path) -> None:
    """A format that others may read: this text never changes."""
    content = written(tmp_path / "file", b"one", b" and ", b"two").read_bytes()
    assert content == (
        b"one and twohpcnas-seal 1 000000000000000b 25cc4751a8aaab276f66c83fc4b6b9a8b66c1e47a8cd06173ced09826f26aa32\n"
    )
    assert length(tmp_path / "file") == 11


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 31, 32, 33, 160])
def test_the_seal_does_not_depend_on_how_the_content_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(sealed, "_BLOCK", 16)
    content = bytes(range(size))
    whole = written(tmp_path / "whole", content).read_bytes()
    for step in (1, 3, 16, 40):
        parts = [content[start : start + step] for start in range(0, size, step)]
        assert written(tmp_path / "parts", *parts).read_bytes() == whole
        assert length(tmp_path / "parts") == size
    shaped = memoryview(content).cast("B", (4, size // 4)) if size and size % 4 == 0 else memoryview(content)
    assert written(tmp_path / "shaped", shaped).read_bytes() == whole  # type: ignore[arg-type]


@pytest.mark.parametrize("processors", [1, 2])
def test_no_bit_changes_unnoticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int) -> None:
    monkeypatch.setattr(sealed, "_BLOCK", 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(processors)))
    path = written(tmp_path / "file", bytes(range(40)))
    whole = path.read_bytes()
    found = {"damaged": 0, "no seal": 0}
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert length(path) is None
            found["no seal"] += 1
        except Damaged:
            found["damaged"] += 1
    assert found["damaged"] >= 8 * 40 and sum(found.values()) == 8 * len(whole)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda whole: b"", "it is empty"),
        (lambda whole: whole[7:], "it was written with 40 bytes and now has 33"),
        (lambda whole: b"more" + whole, "it was written with 40 bytes and now has 44"),
        (lambda whole: whole[:20] + bytes(4) + whole[24:], "its checksum does not fit its 40 bytes"),
        (lambda whole: whole[16:32] + whole[:16] + whole[32:], "its checksum does not fit its 40 bytes"),
    ],
    ids=["empty", "without its beginning", "with more", "hole", "blocks in another order"],
)
def test_damage_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: object, reason: str) -> None:
    monkeypatch.setattr(sealed, "_BLOCK", 16)
    path = written(tmp_path / "file", bytes(range(40)))
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(Damaged) as caught:
        length(path)
    assert str(caught.value) == reason


@pytest.mark.parametrize("content", [b"short", bytes(500), b"hpcnas-seal 2 " + b"0" * 82], ids=["short", "0", "newer"])
def test_a_file_without_a_seal_is_another_thing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert length(tmp_path / "file") is None


def test_who_does_not_know_of_the_seal_reads_the_content(tmp_path: Path) -> None:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("name", "text")
    with zipfile.ZipFile(written(tmp_path / "file", memory.getvalue())) as archive:
        assert archive.testzip() is None and archive.read("name") == b"text"


def test_a_write_that_fails_is_raised_whatever_is_made_of_it(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    sealing = Sealing(Full())
    with pytest.raises(OSError, match="No space left"):
        sealing.write(b"x")
    assert sealing.error is not None and sealing.error.errno == 28

    def fill(file: Sealing) -> None:
        file.error = OSError(122, "Disk quota exceeded")
        raise RuntimeError("unexpected pos 315 vs 0")  # what torch makes of it

    with pytest.raises(OSError, match="Disk quota exceeded"):
        sealed.write(tmp_path / "file", fill)


def test_of_damaged_files_set_aside_the_latest_few_stay_and_nothing_else_is_touched(tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("mine.pt.damaged", "4-1.pt.damaged", "4.pt", "a4.pt.damaged")]
    for other in others:
        other.touch()
    for number in range(10):
        (tmp_path / f"{number + 100}.pt").write_text(str(number))
        aside = sealed.set_aside(tmp_path / f"{number + 100}.pt")
        assert aside == tmp_path / f"{number + 100}.pt.damaged"
        while tmp_path.stat().st_mtime_ns <= aside.stat().st_ctime_ns:  # the clock of a file system is a coarse one
            (tmp_path / "clock").touch()
            (tmp_path / "clock").unlink()
    kept = sorted(set(tmp_path.iterdir()) - set(others))
    assert [path.name for path in kept] == [f"{number}.pt.damaged" for number in (106, 107, 108, 109)]
    assert [path.read_text() for path in kept] == ["6", "7", "8", "9"]
    assert all(other.exists() for other in others)
    (tmp_path / "109.pt").write_text("again")
    sealed.set_aside(tmp_path / "109.pt")
    assert (tmp_path / "109.pt.damaged").read_text() == "again"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "4.pt")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(sealed.Damaged, match="^it is no plain file$"):
        sealed.opened(tmp_path / "4.pt")
    assert len(os.listdir("/proc/self/fd")) == before
