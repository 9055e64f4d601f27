"""Standard output and error: no text steers a terminal, no reader, encoding or full disk ends a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcnas.job import log, terminal

ROOT = Path(__file__).parents[2]
SEARCH = ["-m", "hpcnas", "--evaluator", "synthetic", "--progress", "plain", "--initial-population", "5"]


def run(
    *arguments: str | Path, shell: str = '"$@"', **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Python with these arguments, started by a shell's line."""
    command = ["bash", "-c", shell, "bash", sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, 8×8 · é\tand\nlines", "plain, 8×8 · é\tand\nlines"),
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),
        ("all is well\r\x1b[1A", r"all is well\x0d\x1b[1A"),
        ("\x00\x08\x0b\x0c\x7f", r"\x00\x08\x0b\x0c\x7f"),
        ("\x80\x85\x9b31m\x9f", r"\x80\x85\x9b31m\x9f"),
        ("\u202a\u202b\u202c\u202d\u202e", r"\u202a\u202b\u202c\u202d\u202e"),
        ("\u2066\u2067\u2068\u2069\u200e\u200f\u061c", r"\u2066\u2067\u2068\u2069\u200e\u200f\u061c"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\ud800 \udcff", r"\ud800 \udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    assert terminal.printable(text) == shown
    assert terminal.one_line(text) == shown.replace("\n", "\\n").replace("\t", "\\t")


def test_a_text_of_several_lines_is_one_entry_of_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    forged = "failed:\n2026-01-01T00:00:00Z rank 0 host INFO the search is complete\n\n  table\r\n\tindented\x1b[2J"
    logger = log.configure(0, log.LiveLine("plain"))
    try:
        logger.info("%s", forged)
        logger.debug("what RUN/log alone has")
    finally:
        logger.handlers = []
    first, *others = capsys.readouterr().out.splitlines()
    assert first.endswith(" INFO failed:")
    assert others == [
        "  2026-01-01T00:00:00Z rank 0 host INFO the search is complete", "", "  table\\x0d", "\tindented\\x1b[2J",
    ]  # fmt: skip


INSTALLED = "from hpcnas.job import terminal; terminal.install(); import sys, os; "


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_an_installed_stream_steers_nothing_but_by_request(stream: str) -> None:
    code = INSTALLED + (
        f"out = sys.{stream}; print('\\x1b[31mred\\x1b[0m', file=out); terminal.steer(out, '\\x1b[2K'); "
        "terminal.Steering(out).write('\\x1b[1m'); print(out.encoding, out.fileno(), out.isatty(), file=out)"
    )
    done = run("-c", code, PYTHONIOENCODING="utf-8")
    said = done.stdout if stream == "stdout" else done.stderr
    assert said == b"\\x1b[31mred\\x1b[0m\n\x1b[2K\x1b[1mutf-8 %d False\n" % (1 if stream == "stdout" else 2)


def test_what_an_encoding_lacks_is_replaced() -> None:
    done = run("-c", INSTALLED + "print('8×8 → 4×4 · é € 字')", PYTHONIOENCODING="ascii")
    assert done.stdout == rb"8x8 -> 4x4 - \xe9 \u20ac \u5b57" + b"\n"


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&-"])
def test_no_file_gets_the_number_of_a_closed_stream(closed: str, tmp_path: Path) -> None:
    code = INSTALLED + (
        f"file = open({str(tmp_path / 'file')!r}, 'w'); file.write(str(file.fileno() > 2)); file.close(); "
        "print('lost'); print('lost', file=sys.stderr); os.write(1, b'x'); os.write(2, b'x')"
    )
    assert run("-c", code, shell=f'"$@" {closed}').returncode == 0
    assert (tmp_path / "file").read_text() == "True"


def test_a_file_that_has_got_the_number_already_gets_no_text(tmp_path: Path) -> None:
    code = (
        f"import sys; file = open({str(tmp_path / 'file')!r}, 'w'); file.write(str(file.fileno())); "
        + INSTALLED + "print('lost', flush=True); file.close()"
    )
    assert run("-c", code, shell='"$@" >&-').returncode == 0
    assert (tmp_path / "file").read_text() == "1"


@pytest.mark.parametrize("shell", ['"$@" >&-', '"$@" 2>&-', '"$@" >&- 2>&-', '"$@" >/dev/full', '"$@" | head -n 1'])
def test_a_search_goes_on_whatever_becomes_of_its_output(shell: str, tmp_path: Path) -> None:
    done = run(*SEARCH, "--budget", "9", "--synthetic-seconds", "0.02", "--run", tmp_path / "run",
               shell=f'set -o pipefail; {shell}')  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "run" / "log").read_text().count("\n") > 3
    assert "state=complete" in (tmp_path / "run" / "status").read_text()


def test_the_live_line_steers_the_terminal_and_its_text_does_not(tmp_path: Path) -> None:
    done = run(*SEARCH, "--progress", "live", "--budget", "5", "--run", tmp_path / "run")
    assert b"\r\x1b[2K" in done.stdout and b"x1b" not in done.stdout.replace(b"\r\x1b[2K", b"")


def test_a_retraining_goes_on_without_standard_output(tmp_path: Path) -> None:
    small = "--preset quick --channels 4 --cells 1 --steps 2 --batch-size 8 --micro-batch 4 --threads 1".split()
    done = run("-m", "hpcnas.retrain", *small, "--run", tmp_path / "run", shell='"$@" >&-')
    assert (done.returncode, done.stderr) == (0, b"")
    assert "state=complete" in (tmp_path / "run" / "status").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "hpcnas", "--preset", "paper", "--data", "synthetic:1000", "--dry-run"],
        [*SEARCH, "--budget", "5"],
        ["-m", "hpcnas", "simulate", "--budget", "9", "--initial-population", "5", "--workers", "2"],
        ["-m", "hpcnas.retrain", "--preset", "quick", "--dry-run"],
        ["-m", "hpcnas", "--help-all"],
    ],
    ids=["dry run", "search", "simulate", "retraining", "help"],
)
def test_programs_speak_to_terminals_of_ascii(arguments: list[str], tmp_path: Path) -> None:
    more = [] if "simulate" in arguments else ["--run", str(tmp_path / "run")]
    done = run(*arguments, *more, PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stdout.isascii() and b"Traceback" not in done.stderr


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "r\x1b[31m·\u202e"
    assert run(*SEARCH, "--budget", "40", "--run", folder).returncode == 0
    return folder


@pytest.mark.parametrize("tool", [["summary"], ["verify"], ["watch", "--once"], ["export", "csv"], ["lineage"]])
def test_tools_print_no_escapes_and_bear_any_reader(tool: list[str], searched: Path) -> None:
    command = [ROOT / "tools" / f"{tool[0]}.py", *tool[1:], searched]
    done = run(*command, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"") and b"\x1b" not in done.stdout and done.stdout.isascii()
    early = run(*command, shell='set -o pipefail; "$@" | true')
    assert (early.returncode, early.stderr) == (0, b"")
    closed = run(*command, shell='"$@" >&-')
    assert (closed.returncode, closed.stderr) == (0, b"")
    full = run(*command, shell='"$@" >/dev/full')
    assert full.returncode == 1
    assert full.stderr == f"{tool[0]}: expected to write the output: No space left on device\n".encode()


@pytest.mark.parametrize("words", [["summary", "--help"], ["--help"], ["--version"], ["jobs", "--help"]])
def test_help_that_does_not_arrive_is_told(words: list[str]) -> None:
    full = run("-m", "hpcnas.command", *words, shell='"$@" >/dev/full')
    assert full.returncode == 1 and b"expected to write the output: No space left on device\n" in full.stderr


def test_json_escapes_what_it_holds(searched: Path) -> None:
    done = run(ROOT / "tools" / "summary.py", "--json", searched)
    assert done.stdout.isascii() and b"\x1b" not in done.stdout
    assert json.loads(done.stdout)[0]["run"].endswith("r\x1b[31m·\u202e")


def test_mistakes_are_told_without_escapes(tmp_path: Path) -> None:
    for program in (["-m", "hpcnas"], ["-m", "hpcnas", "simulate"], ["-m", "hpcnas.retrain"]):
        done = run(*program, "--data", "\x1b[2Jnowhere", "--run", tmp_path / "run")
        assert done.returncode == 2 and b"\x1b" not in done.stderr and rb"\x1b[2Jnowhere" in done.stderr
