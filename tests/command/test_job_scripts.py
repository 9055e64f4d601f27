"""`hpcnas jobs DIR`: what it writes, and what it never overwrites."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from demand import absent

from hpcnas.command import jobs
from hpcnas.errors import Error

SCRIPTS = ["local.sh", "pbs.sh", "pbs_chain.sh", "pbs_retrain.sh", "slurm.sh", "slurm_array.sh", "slurm_chain.sh",
           "slurm_retrain.sh"]  # fmt: skip
STARTING = [name for name in SCRIPTS if not name.endswith("_chain.sh")]


def written(folder: Path, python: str = "/opt/env/bin/python") -> dict[str, str]:
    """The files that belong into the folder, which are there by now."""
    files = jobs.job_scripts(folder, Path(python))
    jobs.write(folder, files, overwrite=False)
    return files


def test_every_file_of_the_repositorys_jobs_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "not/there/yet"
    files = written(folder)
    assert sorted(files) == sorted(["README.md", "common.sh", *SCRIPTS])
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    assert [name for name in sorted(files) if os.access(folder / name, os.X_OK)] == SCRIPTS


@pytest.mark.parametrize("name", STARTING)
def test_a_script_knows_its_folder_and_the_python(name: str, tmp_path: Path) -> None:
    text = written(tmp_path)[name]
    lines = text.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("PYTHON=")] == ["PYTHON=/opt/env/bin/python"]
    folder = 'JOBS=$(cd "$(dirname "$0")" && pwd)' if name == "local.sh" else f"JOBS={tmp_path}"
    assert [line.split("  ")[0] for line in lines if line.startswith("JOBS=")] == [folder]


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_knows_a_repository(name: str, tmp_path: Path) -> None:
    text = written(tmp_path)[name]
    assert [word for word in ("hpcnas/jobs", "jobs/", ".venv", "repository") if word in text] == []


def test_names_with_blanks_and_quotes_are_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "it's my jobs"
    written(folder, "/opt/my env/bin/python")
    script = (folder / "slurm.sh").read_text().split("RUN=")[0] + 'printf "%s\\n" "$JOBS" "$PYTHON"\n'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{folder}\n/opt/my env/bin/python\n"


def test_shellcheck_finds_nothing_in_what_is_written(tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        absent("no shellcheck here (Debian: shellcheck)", "HPCNAS_DEMAND_SHELLCHECK")
    folder = tmp_path / "my jobs"
    written(folder)
    done = subprocess.run(["shellcheck", *sorted(folder.glob("*.sh"))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_is_there_like_that_stays(tmp_path: Path) -> None:
    files = written(tmp_path)
    before = {name: (tmp_path / name).stat().st_ino for name in files}
    assert jobs.write(tmp_path, files, overwrite=False) == []
    assert {name: (tmp_path / name).stat().st_ino for name in files} == before


def test_a_changed_file_is_never_overwritten_and_nothing_else_is_written(tmp_path: Path) -> None:
    files = written(tmp_path)
    (tmp_path / "slurm.sh").write_text("mine\n")
    (tmp_path / "pbs.sh").unlink()
    with pytest.raises(
        Error, match=r"nothing is written, since slurm\.sh there is not as this version has it: --force"
    ):
        jobs.write(tmp_path, files, overwrite=False)
    assert (tmp_path / "slurm.sh").read_text() == "mine\n" and not (tmp_path / "pbs.sh").exists()


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_what_is_no_file_counts_as_changed(kind: str, tmp_path: Path) -> None:
    if kind == "folder":
        (tmp_path / "common.sh").mkdir()
    else:
        (tmp_path / "common.sh").symlink_to("nowhere")
    with pytest.raises(Error, match=r"since common\.sh there"):
        written(tmp_path)


def test_force_overwrites_what_was_changed_and_follows_no_link(tmp_path: Path) -> None:
    files = jobs.job_scripts(tmp_path, Path("/opt/python"))
    (tmp_path / "elsewhere").write_text("mine\n")
    (tmp_path / "slurm.sh").symlink_to("elsewhere")
    (tmp_path / "pbs.sh").write_text("mine\n")
    jobs.write(tmp_path, files, overwrite=True)
    assert {name: (tmp_path / name).read_text() for name in files} == files
    assert (tmp_path / "elsewhere").read_text() == "mine\n"


def test_a_folder_that_takes_no_files_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Error, match="file: expected a folder, got something else"):
        written(tmp_path / "file")


def test_names_choose_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path)
    for name in ("common.sh", "slurm.sh"):
        (tmp_path / name).write_text("mine\n")
    assert jobs.main([str(tmp_path), "common.sh", "--force"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}: wrote common.sh\n")
    assert (tmp_path / "common.sh").read_text() == jobs.job_scripts(tmp_path, Path(sys.executable))["common.sh"]
    assert (tmp_path / "slurm.sh").read_text() == "mine\n"


def test_a_name_that_is_none_of_them_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        jobs.main([str(tmp_path), "slurm"])
    assert "expected names among README.md, common.sh, local.sh" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
