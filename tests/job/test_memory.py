"""How much memory may still be taken: the host's, or what a control group leaves of its limit."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from hpcnas.job.memory import free_memory


@pytest.fixture(autouse=True)
def _host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000})())


def limited(root: Path, limit: str, used: int, cached: int) -> Path:
    files = {"memory.max": limit, "memory.current": str(used), "memory.stat": f"anon 5\ninactive_file {cached}\n"}
    for name, text in files.items():
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("limit", "used", "cached", "expected"),
    [("700", 500, 50, 250), ("700", 900, 50, 0), ("9000", 500, 0, 1000), ("max\n", 500, 50, 1000)],
)
def test_what_a_control_group_leaves(tmp_path: Path, limit: str, used: int, cached: int, expected: int) -> None:
    assert free_memory(limited(tmp_path, limit, used, cached)) == expected


def test_without_a_control_group_it_is_the_hosts(tmp_path: Path) -> None:
    assert free_memory(tmp_path) == 1000
    (tmp_path / "memory.max").write_text("10")  # the others are missing
    assert free_memory(tmp_path) == 1000
