"""How much memory a process may still take on this host."""

from __future__ import annotations

from pathlib import Path

import psutil

# Of a control group: its limit, what it uses, and of what; version 2, then version 1.
_MEMORY_FILES = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def free_memory(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of this host's memory that are free or can be made so, or what the control group leaves of its limit if
    that is less."""
    free = psutil.virtual_memory().available
    for limit, used, statistics in _MEMORY_FILES:
        try:
            cached = dict(line.split() for line in (root / statistics).read_text().splitlines())["inactive_file"]
            left = int((root / limit).read_text()) - int((root / used).read_text()) + int(cached)
        except (OSError, ValueError, KeyError):  # another version, or "max": no limit
            continue
        free = min(free, max(0, left))
    return free
