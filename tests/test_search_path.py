"""The current folder is searched for modules only where somebody has named it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVE_OUT = "import sys; from hpcnas import search_path; search_path.leave_out_current_folder(); "
LOOK = LEAVE_OUT + "import {}; print('found')"
MODULE = "import os; open(os.path.join(os.path.dirname(__file__), 'ran'), 'w').close()\n"


def starts(folder: Path, path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("{root}", False),
        ("{root}:", False),  # an empty part is the current folder
        (":{root}", False),
        ("{root}:.", True),
        ("{root}:{here}", True),
        ("{here}/../{name}/:{root}", True),
    ],
)
def test_a_module_of_the_current_folder_is_found_where_pythonpath_names_that(
    path: str, found: bool, tmp_path: Path
) -> None:
    (tmp_path / "lying_about.py").write_text(MODULE)
    done = starts(tmp_path, path.format(root=ROOT, here=tmp_path, name=tmp_path.name), "-c", LOOK.format("lying_about"))
    assert (done.stdout == "found\n", (tmp_path / "ran").exists()) == (found, found), done.stderr


def test_what_is_installed_is_found_from_within_its_folder(tmp_path: Path) -> None:
    """An editable installation puts the folder behind the standard library."""
    (tmp_path / "installed.py").write_text(MODULE)
    code = f"import sys; sys.path.append({str(tmp_path)!r}); {LOOK.format('installed')}"
    assert starts(tmp_path, str(ROOT), "-c", code).stdout == "found\n"


def test_processes_that_are_started_leave_it_out_too(tmp_path: Path) -> None:
    (tmp_path / "lying_about.py").write_text(MODULE)
    child = "import subprocess; subprocess.run([sys.executable, '-c', 'import lying_about'])"
    done = starts(tmp_path, f"{ROOT}:", "-c", f"{LEAVE_OUT}search_path.leave_out_for_children(); {child}")
    assert "No module named 'lying_about'" in done.stderr and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("program", ["hpcnas", "hpcnas.retrain"])
def test_libraries_are_not_taken_from_the_folder_that_a_program_is_started_in(program: str, tmp_path: Path) -> None:
    """A folder from somebody else may hold a file of that name: h5py is imported late."""
    (tmp_path / "h5py.py").write_text(MODULE)
    done = starts(tmp_path, f"{ROOT}:", "-m", program, "--run", "nothing", "--preset", "quick", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_removed_current_folder_is_no_error(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os; os.rmdir({str(gone)!r}); {LOOK.format('json')}"
    assert starts(gone, f"{ROOT}:", "-c", code).stdout == "found\n"
