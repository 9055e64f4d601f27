"""A browser, a server and a visitor for the tests of the page. Each file of them has `runs` of its own: a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from browser import Visitor


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    """A headless browser."""
    with browser.started() as found:
        yield found


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    """`hpcnas serve` for the runs of a file."""
    with browser.served(runs) as found:
        yield found


@pytest.fixture
def visitor(chrome: Any, address: str) -> Iterator[Visitor]:
    """A page before it, and whether the browser complained of anything."""
    found = Visitor(chrome, address)
    yield found
    found.close()
