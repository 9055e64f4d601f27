"""tools/bench_retraining.py: that both programs train the same network, by turns, and how turns are compared; never how
fast anything is."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

TOOL = Path(__file__).parents[2] / "tools" / "bench_retraining.py"
SMALL = ["--channels", "1", "--cells", "1", "--batch-size", "4", "--threads", "1"]
STUB = """
import sys
name = sys.argv[sys.argv.index("--program") + 1]
for seconds in ("9", "2", "4", "6") if name == "ordinary" else ("5", "1", "1", "2"):
    print(seconds, 2**30 if name == "ours" else 2**31, flush=True)
    if not sys.stdin.readline():
        break
"""


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_retraining", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Enough(Exception):
    """The steps that were wanted are made."""


@pytest.mark.parametrize("program", ["_ordinary", "_ours"])
def test_a_program_trains_the_network_step_by_step(
    program: str, bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[torch.Tensor]] = []
    networks: list[torch.nn.Module] = []
    build = bench.Network

    def network(*parts: object) -> torch.nn.Module:
        networks.append(build(*parts))
        return networks[-1]

    monkeypatch.setattr(bench, "Network", network)
    monkeypatch.setattr("hpcnas.retrain.loop.Network", network)

    def made_step() -> None:
        made.append([parameter.detach().clone() for parameter in networks[-1].parameters()])
        if len(made) == 2:
            raise Enough

    options = argparse.Namespace(
        channels=1, cells=[1], batch_size=4, steps=1, precision="fp32", compile=False, recompute=False, stream=False,
        device="cpu", folder=None,
    )  # fmt: skip
    try:
        with pytest.raises(Enough):
            getattr(bench, program)(options, torch.device("cpu"), made_step)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    assert sum(parameter.numel() for parameter in made[0]) == 697  # the paper's cell, c0 = 1
    assert not all(map(torch.equal, *made))  # it learns


def test_turns_are_compared_pair_by_pair_without_the_first(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "stub.py"))
    monkeypatch.setattr(sys, "argv", ["bench", *SMALL, "--turns", "3", "--json"])
    assert bench.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ratio"], found["interval"]) == (3.0, [2.0, 4.0])
    assert found["images_per_second"] == {"ordinary": 1.0, "ours": 4.0}
    assert found["memory"] == {"ordinary": 2**31, "ours": 2**30}
    monkeypatch.setattr(sys, "argv", ["bench", *SMALL, "--turns", "3"])
    assert bench.main() == 0
    assert "ours is 3.00 (2.00 to 4.00) times as fast, by 3 turns of 1 steps" in capsys.readouterr().out
