"""How much memory a process may still take on this host: batch systems and containers limit it by control groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

# Version 2, then version 1: the controller in /proc/self/cgroup, which is its folder too; of a group its limit, what it
# uses, and how much of that is a cache that can be let go of, its groups' within it included.
_VERSIONS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes of this host's memory that are free or can be made so, or what the control groups that this process is in
    leave of their limits if that is less."""
    free = psutil.virtual_memory().available
    for controller, limit, used, cache in _VERSIONS:
        for group in _groups(root / controller, own, controller):
            try:
                cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())[cache]
                left = int((group / limit).read_text()) - int((group / used).read_text()) + int(cached)
            except (OSError, ValueError, KeyError):  # not of this version, or "max": no limit
                continue
            free = min(free, max(0, left))
    return free


def _groups(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """The folders of the group that this process is in, and of all that this one is in. A container may see no other
    than the last, as its own."""
    yield root
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):  # another system, or names that are no text
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") and ".." not in path:
            group = root / path.strip("/")
            yield from (one for one in (group, *group.parents) if root in one.parents)
