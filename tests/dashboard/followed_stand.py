"""A search as the server follows it, in a state of a test's own."""

from __future__ import annotations

from pathlib import Path

from hpcnas.dashboard.followed import FollowedSearch


def followed(folder: Path, running: bool = False) -> FollowedSearch:
    """The search in a folder that is whole."""
    run = FollowedSearch(folder)
    assert not run.problems, run.problems
    run.running = running
    return run
