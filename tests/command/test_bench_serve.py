"""tools/bench_serve.py: that it measures what it says; never how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "bench_serve.py"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True)


def test_open_refresh_and_memory() -> None:
    done = bench("--individuals", "2000", "--refreshes", "2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["individuals"] == 2000 and 20 < found["mb_before"] <= found["mb"]
    for name in ("open", "individual", "region", "table", "refresh"):
        assert found[f"{name}_seconds"] > 0
    assert found["refresh_seconds"] <= found["longest_refresh_seconds"]


def test_wrong_use() -> None:
    done = bench("--individuals", "10")
    assert done.returncode == 2 and "expected at least 2000 individuals and one refresh" in done.stderr
