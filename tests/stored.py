"""A run in a folder, as tests of its store begin with it, and a disk that is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from examples import CONFIG, SESSION, add_births, assert_same, evaluated, failed, individual, population

from hpcnas.search.file_store import FileStore


def stored_run(folder: Path) -> Path:
    """A closed run: records 1 to 5 in population.h5, records 6 and 7 in the journal."""
    new = FileStore.create(folder, CONFIG)
    new.begin(SESSION)
    add_births(new, 3)
    new.settle(evaluated(2))
    new.compact()
    new.settle(failed(0))
    new.birth(individual(3))
    new.commit()
    new.close()
    return folder


def assert_whole(folder: Path) -> None:
    """`stored_run` opens with all its records, and goes on."""
    found = FileStore.open(folder)
    assert_same(found.population, population(evaluated(2), failed(0), births=4))
    assert found.sessions == [SESSION]
    found.settle(evaluated(1))
    found.commit()
    found.close()
    found = FileStore.open(folder)
    assert_same(found.population, population(evaluated(2), failed(0), evaluated(1), births=4))
    found.close()


def no_space(*given: Any, **named: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
