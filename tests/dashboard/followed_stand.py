"""A search for tests of views, as the server has followed it: its files as they are, and a state of a test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpcnas.dashboard.followed import FollowedSearch
from hpcnas.search import recovery


def followed(folder: Path, running: bool = False) -> Any:
    """Nothing is kept between two views."""
    stored, problems = recovery.salvage(folder)
    assert not problems, problems
    return FollowedSearch(folder, stored, problems, running)
