"""Event files as TensorBoard's own reader has them: whole curves, whatever was cut off, and each step once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demand import package

from hpcnas.storage.folder import RunFolder, StoreError
from hpcnas.tracking.event_files import EventFiles, event_files
from hpcnas.tracking.tracker import About, Entry

ABOUT = About("ab" * 16, "run", ("loss", "accuracy"), {"training.steps": "30", "network.genotype": "a|b"})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RunFolder]:
    package("tensorboard")
    found = RunFolder(tmp_path)
    yield found
    found.close()


def logged(place: RunFolder, step: int, *entries: Entry) -> dict[str, int]:
    """What a job that goes on after `step` finds; it logs these, and is killed."""
    files = EventFiles(place, ABOUT)
    known = files.resume("seed-0", step)
    files.log(entries)
    return dict(known)


def entry(step: int, value: float, name: str = "loss") -> Entry:
    return Entry("seed-0", step, 1000.0 + step, {name: value})


def read(place: RunFolder) -> Any:
    found = package("tensorboard.backend.event_processing.event_accumulator").EventAccumulator(
        str(place.path / "tensorboard" / "seed-0")
    )
    found.Reload()
    return found


def curve(place: RunFolder, name: str = "loss") -> list[tuple[int, float, float]]:
    return [(one.step, one.value, one.wall_time) for one in read(place).Scalars(name)]


def test_curves_go_on_after_the_step_that_was_saved_without_steps_that_are_there_twice(place: RunFolder) -> None:
    first = [entry(10, 4.0), entry(10, 0.25, "accuracy"), entry(20, 3.0), entry(30, 2.0), entry(32, 0.5, "accuracy")]
    assert logged(place, 0, *first) == {}
    assert logged(place, 20, entry(30, 2.5), entry(40, 1.0)) == {"loss": 20, "accuracy": 20, "settings": 0}
    assert curve(place) == [(10, 4.0, 1010.0), (20, 3.0, 1020.0), (30, 2.5, 1030.0), (40, 1.0, 1040.0)]
    assert curve(place, "accuracy") == [(10, 0.25, 1010.0)]
    assert logged(place, 40) == {"loss": 40, "accuracy": 20, "settings": 0}


def test_the_settings_are_there_once_as_a_table(place: RunFolder) -> None:
    logged(place, 0)
    logged(place, 0)
    (text,) = read(place).Tensors("settings")
    assert text.tensor_proto.string_val[0].decode() == (
        "| setting | value |\n|---|---|\n| training.steps | 30 |\n| network.genotype | a\\|b |"
    )


def test_what_a_kill_has_torn_ends_its_file_alone(place: RunFolder) -> None:
    logged(place, 0, entry(10, 4.0), entry(20, 3.0))
    (path,) = event_files(place.path / "tensorboard" / "seed-0")
    os.truncate(path, path.stat().st_size - 5)
    assert logged(place, 10, entry(20, 3.5)) == {"loss": 10, "settings": 0}
    assert curve(place) == [(10, 4.0, 1010.0), (20, 3.5, 1020.0)]


def test_files_are_in_order_where_clocks_are_not(place: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for now in (5000.0, 4000.0):
        monkeypatch.setattr("hpcnas.tracking.event_files.time.time", lambda now=now: now)
        logged(place, 0)
    names = [path.name.split(".")[3] for path in event_files(place.path / "tensorboard" / "seed-0")]
    assert names == ["0000005000", "0000005001"]


def test_a_file_in_the_place_of_the_folder_is_an_error_and_left_alone(place: RunFolder) -> None:
    (place.path / "tensorboard").write_text("mine")
    with pytest.raises(StoreError, match="Not a directory"):
        logged(place, 0)
    assert (place.path / "tensorboard").read_text() == "mine"


ALONE = """
import sys
from pathlib import Path
from hpcnas.storage.folder import RunFolder
from hpcnas.tracking.event_files import EventFiles
from hpcnas.tracking.tracker import About
EventFiles(RunFolder(Path(sys.argv[1])), About("a", "b", (), {})).resume("search", 0)
print([name for name in ("torch", "tensorflow") if name in sys.modules])
"""


def test_a_controller_that_writes_them_has_no_torch(place: RunFolder) -> None:
    command = [sys.executable, "-c", ALONE, str(place.path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
