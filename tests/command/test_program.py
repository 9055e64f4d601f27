"""The command `hpcnas` itself: its screen, its table of commands, and what is said of words that are none."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import toolruns

from hpcnas import __version__
from hpcnas.command import completion
from hpcnas.command.__main__ import names, screen, unknown

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = ("search", "retrain", "simulate")


def hpcnas(
    *arguments: str, cwd: Path = ROOT, code: str = "pass", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command started as its installed script starts it, after `code`."""
    start = "sys.argv[0] = '/opt/bin/hpcnas'; from hpcnas.command.__main__ import main; sys.exit(main())"
    script = f"import sys\n{code}\n{start}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(
        [sys.executable, "-P", "-c", script, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_the_screen_fits_a_small_terminal() -> None:
    lines = screen().splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_the_screen_is_printed(arguments: tuple[str, ...]) -> None:
    done = hpcnas(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, screen(), "")


def test_the_version() -> None:
    assert hpcnas("--version").stdout == f"hpcnas {__version__}\n"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("sumary", "unknown command 'sumary'; did you mean summary? (see hpcnas --help)"),
        ("serach", "unknown command 'serach'; did you mean search? (see hpcnas --help)"),
        ("xyzzy", "unknown command 'xyzzy' (see hpcnas --help)"),
        ("", "unknown command '' (see hpcnas --help)"),
        ("a\nb\x1b[2J", r"unknown command 'a\nb\x1b[2J' (see hpcnas --help)"),
        ("x" * 100, f"unknown command '{'x' * 60}…' (see hpcnas --help)"),
        (
            "--run",
            "expected a command first, got '--run': hpcnas search, say, then its options (see hpcnas --help)",
        ),
    ],
)
def test_a_word_that_is_no_command(word: str, said: str) -> None:
    assert unknown(word) == said


def test_an_unknown_command_ends_with_one_line_and_2() -> None:
    done = hpcnas("sumary", "runs/one")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "hpcnas: unknown command 'sumary'; did you mean summary? (see hpcnas --help)\n"


def test_every_command_has_its_file_and_every_file_with_a_main_its_command() -> None:
    paths = (path for path in (ROOT / "hpcnas/command").glob("*.py") if path.stem != "__main__")
    files = {path.stem for path in paths if "\ndef main(" in path.read_text(encoding="utf-8")}
    assert {name.replace("-", "_") for name in names() if name not in PROGRAMS} == files


@pytest.mark.parametrize("name", names())
def test_every_command_has_help_and_names_itself(name: str) -> None:
    done = hpcnas(name, "--help", env={"COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    assert f"hpcnas {name}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("name", ["summary", "search"])
def test_help_may_come_first(name: str) -> None:
    """For every name by the same line, before any command is looked at."""
    said = hpcnas("help", name).stdout
    assert f"hpcnas {name}" in said and said == hpcnas(name, "--help").stdout


def test_lists_in_help_stay_lists() -> None:
    done = hpcnas("export", "--help", env={"COLUMNS": "64"})
    assert (
        "  module   a genotype as a Python file with its network, which\n"
        "           needs torch alone and has the same state_dict\n"
    ) in done.stdout


@pytest.mark.parametrize("name", names())
def test_complaints_name_the_command(name: str) -> None:
    done = hpcnas(name, "--no-such-option")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"hpcnas {name}: ")


@pytest.mark.parametrize(("module", "name"), [("hpcnas", "hpcnas"), ("hpcnas.retrain", "hpcnas.retrain")])
def test_a_module_that_python_runs_names_itself(module: str, name: str) -> None:
    start = [sys.executable, "-m", module, "--no-such-option"]
    done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"{name}: unrecognized arguments")


def test_a_run_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = hpcnas("summary", "nothing", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("hpcnas summary: expected a run in nothing, but") and done.stderr.count("\n") == 1


def test_nothing_is_imported_from_the_current_folder(tmp_path: Path) -> None:
    """Nor from an empty part of PYTHONPATH, which is it."""
    for name in ("h5py", "numpy", "argparse", "difflib", "rich", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the current folder')")
    for arguments in (["summary", "nothing"], ["serach"], ["jobs", "folder"], ["simulate", "--help"]):
        done = hpcnas(*arguments, cwd=tmp_path, env={"PYTHONPATH": f"{ROOT}:"})
        assert "a module of" not in done.stderr + done.stdout, arguments
    assert (tmp_path / "folder/common.sh").exists()


def test_nothing_is_imported_from_the_folder_of_the_command(tmp_path: Path) -> None:
    """~/.local/bin, say, where a person's own scripts lie."""
    (tmp_path / "h5py.py").write_text("raise SystemExit('a module of the folder of commands')")
    script = tmp_path / "hpcnas"
    script.write_text("import sys\nfrom hpcnas.command.__main__ import main\nsys.exit(main())\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for start in (script, tmp_path / "link"):
        if start != script:
            start.symlink_to(script)
        done = subprocess.run(
            [sys.executable, start, "summary", "nothing"], env=environment, capture_output=True, text=True
        )
        assert done.stderr.startswith("hpcnas summary: expected a run"), done.stderr


def test_the_name_of_a_command_is_known_before_anything_heavy_is_imported() -> None:
    heavy = "{'numpy', 'h5py', 'argparse', 'torch'}"
    code = f"import atexit; atexit.register(lambda: print(sorted({heavy} & set(sys.modules))))"
    assert hpcnas("--version", code=code).stdout.splitlines()[1] == "[]"


LOOK = """
import signal
class Look:
    def find_spec(self, name, *others):
        if name == "hpcnas.job.launch":
            print(signal.getsignal(signal.SIGUSR1) != signal.SIG_DFL, "numpy" in sys.modules)
sys.meta_path.insert(0, Look())
"""


@pytest.mark.parametrize("name", ["search", "retrain"])
def test_a_rank_takes_over_its_signals_before_anything_heavy_is_imported(name: str) -> None:
    assert hpcnas(name, "--version", code=LOOK).stdout == f"True False\nhpcnas {__version__}\n"


MISSING = {  # commands, what each cannot do without, and how it is asked for that
    "plot": ("matplotlib", ["run", "--search", "search.png"]),
    "draw": ("matplotlib", ["paper", "--cell", "cell.png"]),
    "watch": ("rich", ["run"]),
    "lineage": ("matplotlib", ["run", "--output", "lineage.png"]),
    "report": ("matplotlib", ["run", "--output", "report.html"]),
    "compare": ("matplotlib", ["run", "--output", "compare.png"]),
    "compare-strategies": ("matplotlib", ["--output", "strategies.png"]),  # before it searches for hours
    "export": ("onnx", ["onnx", "paper", "--output", "cell.onnx"]),
    "predict": ("onnxruntime", ["run/network.onnx", "run/image.png"]),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_package_that_is_missing_is_one_line_with_what_brings_it(name: str, tmp_path: Path) -> None:
    library, arguments = MISSING[name]
    toolruns.eventful(tmp_path / "run")
    (tmp_path / "run/network.onnx").touch()
    done = hpcnas(name, *arguments, cwd=tmp_path, code=f"sys.modules['{library}'] = None")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"hpcnas {name}: expected {library}") and done.stderr.count("\n") == 1
    assert done.stderr.endswith(": pip install 'hpcnas[tools]'\n")


def test_bash_completes_commands(tmp_path: Path) -> None:
    def completed(word: str) -> list[str]:
        script = (
            completion.script("bash") + f"COMP_WORDS=(hpcnas '{word}'); COMP_CWORD=1; _hpcnas; echo ${{COMPREPLY[@]}}"
        )
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split()

    assert completed("co") == ["compare", "compare-strategies", "completion"]
    assert completed("xyzzy") == []
    assert sorted(completed("")) == sorted(names())


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_all_commands_with_their_lines(shell: str) -> None:
    text = completion.script(shell)
    assert all(name in text for name in names())
    assert text.count("'") % 2 == 0


LOOKS = re.findall(r"^\t? +'  \$\(VENV\)/bin/hpcnas (.*)'", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("line", LOOKS)
def test_what_make_run_names_at_its_end_works(line: str, tmp_path: Path) -> None:
    toolruns.eventful(tmp_path / "runs/quick")
    done = hpcnas(*shlex.split(line), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert all((tmp_path / name).stat().st_size > 500 for name in re.findall(r"--\S+ (\S+)", line))


def test_make_run_names_some() -> None:
    assert {line.split()[0] for line in LOOKS} == {"summary", "draw", "plot", "report"}
