"""tools/bench_controller.py: that it measures what it says; never how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mpi as launcher

from hpcnas.search import run_file

TOOL = Path(__file__).parents[2] / "tools" / "bench_controller.py"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True)


def test_throughput_growth_and_opening_as_json_and_as_tables(tmp_path: Path) -> None:
    done = bench(
        *("--parts", "throughput", "asks", "growth", "opening", "--sizes", "30", "--workers", "2"),
        *("--evaluations", "40", "--strategies", "guided"),
        *("--grow-to", "300", "--folder", str(tmp_path), "--output", str(tmp_path / "bench.json")),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if line.isalpha()] == ["throughput", "asks", "growth", "opening"]
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [(row["population"], row["workers"], row["durable"]) for row in found["throughput"]] == [
        (30, 2, True),
        (30, 2, False),
    ]
    assert all(16 <= row["evaluations"] <= 32 and row["per_second"] > 0 for row in found["throughput"])
    assert [(row["strategy"], row["population"], row["asks"]) for row in found["asks"]] == [("guided", 30, 15)]
    assert 0 < found["asks"][0]["median_ms"] <= found["asks"][0]["longest_ms"]
    assert sum(name.startswith("tenth_") for name in found["growth"][0]) == 10
    assert [row["for"] for row in found["opening"]] == ["analysis", "resuming"]
    assert found["opening"][0]["individuals"] == 300 and found["opening"][1]["individuals"] >= 330  # a tenth more
    assert found["opening"][1]["journal_mb"] > 100 * found["opening"][0]["journal_mb"]
    assert found["machine"]["cores"] >= 1 and len(found["machine"]["load"]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]  # nothing is left behind


def test_a_real_job_and_a_simulation_as_they_are_measured(one_mpi: launcher.Mpi, tmp_path: Path) -> None:
    order = {"kind": "ranks", "mpirun": str(one_mpi.mpirun), "ranks": 3, "seconds": 0.5}
    job = json.loads(bench("--one", json.dumps(order | {"folder": str(tmp_path / "run")})).stdout)
    assert [job[name] for name in ("ranks", "evaluated", "workers_seen", "with_torch_or_hdf5", "left_running")] == [
        *(3, 20, 2), *(1, 0),  # HDF5 in the controller
    ]  # fmt: skip
    assert 0 < job["first_task_s"] <= job["all_working_s"] < job["ended_s"]
    assert 0.02 < job["pss_gb"] < 2
    order = {"kind": "simulation", "workers": 3, "steps": 20, "folder": str(tmp_path / "simulated")}
    simulated = json.loads(bench("--one", json.dumps(order)).stdout)
    assert (simulated["workers"], simulated["steps"]) == (3, 20) and 6 < simulated["virtual_hours"] < 12
    assert len(run_file.read(tmp_path / "simulated").population.evaluated) == 20


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    done = bench("--parts", "speed")
    assert done.returncode == 2 and "invalid choice: 'speed'" in done.stderr
    done = bench("--parts", "opening")
    assert done.returncode == 2 and "expected growth beside it" in done.stderr
    done = bench("--output", str(tmp_path / "no" / "bench.json"))
    assert done.returncode == 2 and "expected a file that can be written: No such file or directory" in done.stderr
