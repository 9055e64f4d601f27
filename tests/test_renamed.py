"""Names of files before version 0.2: they go on, with a warning, and UPGRADING.md lists them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpcnas.renamed import NAMES

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("older", sorted(NAMES))
def test_a_name_stands_for_a_file_that_is_there(older: str) -> None:
    assert ROOT.joinpath("hpcnas", *NAMES[older].split(".")).with_suffix(".py").is_file()
    assert not ROOT.joinpath("hpcnas", older).exists()


def test_the_page_has_them_all() -> None:
    rows = re.findall(r"^\| `hpcnas\.(\w+)` \| `hpcnas\.([\w.]+)` \|", (ROOT / "UPGRADING.md").read_text("utf-8"), re.M)
    assert dict(rows) == NAMES


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    "code",
    [
        "from hpcnas.canonical import expand; import hpcnas.architecture.expansion as new; print(new.expand is expand)",
        "import hpcnas.canonical as old, hpcnas.architecture.expansion as new; print(new is old)",
        "from hpcnas import canonical; from hpcnas.architecture import expansion; print(canonical is expansion)",
    ],
)
def test_an_older_name_is_the_same_file_and_is_told(code: str) -> None:
    done = python(code)
    assert done.stdout == "True\n", done.stderr
    assert (
        "<string>:1: DeprecationWarning: hpcnas.canonical is hpcnas.architecture.expansion since hpcnas 0.2"
        in done.stderr
    )


def test_a_file_keeps_its_name_and_its_specification() -> None:
    done = python("import hpcnas.canonical as old; print(old.__name__, old.__spec__.name)")
    assert done.stdout == "hpcnas.architecture.expansion hpcnas.architecture.expansion\n"


def test_what_never_was_is_not_found() -> None:
    assert "No module named 'hpcnas.nothing'" in python("import hpcnas.nothing").stderr
