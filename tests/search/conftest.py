"""What tests of the search share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def ground() -> Iterator[Path]:
    """A folder in memory where there is one: what a disk keeps is the business of `made_up_disk`, and real syncs are
    slow."""
    with tempfile.TemporaryDirectory(prefix="hpcnas-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        yield Path(name)
