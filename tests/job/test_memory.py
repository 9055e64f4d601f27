"""How much memory may still be taken: the host's, or what control groups leave of their limits."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from hpcnas.job.memory import free_memory


@pytest.fixture(autouse=True)
def _host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000})())


def limited(group: Path, limit: str, used: int, cached: int) -> Path:
    group.mkdir(parents=True, exist_ok=True)
    files = {"memory.max": limit, "memory.current": str(used), "memory.stat": f"anon 5\ninactive_file {cached}\n"}
    for name, text in files.items():
        (group / name).write_text(text)
    return group


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


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("0::/slurm/job_7/step_0/task_0\n", 250),  # the job's limit holds for its tasks
        ("1:cpu:/\n0::/slurm/job_7\n", 250),
        ("0::/slurm/job_8\n", 1000),  # another's does not
        ("0::/\n", 1000),
        ("0::/../slurm/job_7\n", 1000),  # of another container
        ("", 1000),
    ],
)
def test_the_limit_of_any_group_that_the_process_is_in_holds(tmp_path: Path, own: str, expected: int) -> None:
    limited(tmp_path / "root" / "slurm/job_7", "700", 500, 50)
    limited(tmp_path / "root" / "slurm/job_7/step_0/task_0", "max\n", 500, 50)
    (tmp_path / "own").write_text(own)
    assert free_memory(tmp_path / "root", tmp_path / "own") == expected


def test_groups_of_version_1_count_the_cache_of_those_within_them(tmp_path: Path) -> None:
    job = tmp_path / "root/memory/slurm/job_7"
    (job / "step_0").mkdir(parents=True)
    (job / "memory.limit_in_bytes").write_text("700\n")
    (job / "memory.usage_in_bytes").write_text("500\n")
    (job / "memory.stat").write_text("inactive_file 5\ntotal_inactive_file 50\n")
    (tmp_path / "own").write_text("5:cpu:/\n4:hugetlb,memory:/slurm/job_7/step_0\n0::/\n")
    assert free_memory(tmp_path / "root", tmp_path / "own") == 250
