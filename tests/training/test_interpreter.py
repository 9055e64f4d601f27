"""Processes that import what their parent imports, whatever way the parent was started and the package installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARENT = f"""
import json, subprocess, sys
sys.path.append({str(ROOT)!r})
from hpcnas.training.interpreter import python
told = "[sys.path, sys.flags.isolated, sys.flags.ignore_environment, sys.flags.no_user_site, sys.flags.optimize]"
files = "pathlib.__file__, random.__file__"
child = python(f"import json, pathlib, random; print(json.dumps([{{told}}, {{files}}, sys.argv[1]]))")
import pathlib, random
print(json.dumps([eval(told), *eval(files), "7"]))
print(subprocess.run([*child, "7"], stdout=subprocess.PIPE, text=True, check=True).stdout)
"""


@pytest.mark.parametrize("flags", [[], ["-P"], ["-I"], ["-E"], ["-s"], ["-O"]], ids=str)
@pytest.mark.parametrize("environment", [{}, {"PYTHONSAFEPATH": "1"}, {"PYTHONPATH": "elsewhere"}], ids=str)
def test_a_child_has_the_path_and_the_flags_of_its_parent(
    tmp_path: Path, flags: list[str], environment: dict[str, str]
) -> None:
    """The current folder and PYTHONPATH hold namesakes, which are imported by both or by neither."""
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "random.py").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "pathlib.py").write_text("")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    started = ["parent.py"] if "-P" in flags or "-I" in flags or "PYTHONSAFEPATH" in environment else ["-m", "parent"]
    done = subprocess.run(
        [sys.executable, *flags, *started],
        cwd=tmp_path, env={**inherited, **environment}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    parent, child = (json.loads(line) for line in done.stdout.split("\n") if line)
    assert child == parent
    kept = not set(flags) & {"-I", "-E"}
    assert ("elsewhere" in child[1]) is ("PYTHONPATH" in environment and kept)


INSTALLED = """
import sys
site = sys.argv[1]
first = next(place for place, folder in enumerate(sys.path) if folder.endswith("site-packages"))
sys.path[first:first] = [site]
from hpcnas.config import search
from hpcnas.job.devices import Binding
from hpcnas.training import trainer_process
assert trainer_process.__file__.startswith(site)
one = trainer_process.TrainerEvaluator(search.build({"data": {"source": "synthetic:100"}}), Binding(None, 1))
while (loaded := one.ready(60.0)) is None:
    pass
one.close()
print(loaded.facts.training_images)
"""


def test_a_trainer_of_an_installed_package_has_the_standard_library_first(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    shutil.copytree(ROOT / "hpcnas", site / "hpcnas", ignore=shutil.ignore_patterns("__pycache__"))
    (site / "pathlib.py").write_text("from collections import Sequence  # as the backport for Python 2 does\n")
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED, str(site)], cwd=tmp_path, capture_output=True, text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert done.stdout == "80\n", done.stderr
