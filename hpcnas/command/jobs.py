"""Writes the job scripts that fit this installation into a folder: for SLURM, PBS, and one machine without either.

They start the Python that this command runs under, and need no repository. Edit the variables at the top of one, then
submit it; README.md among them explains. What you have changed is overwritten with --force alone: without it nothing is
written where a file is there that is not as this version of hpcnas has it.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcnas.command import common
from hpcnas.errors import Error

SCRIPTS = Path(__file__).with_name("job_scripts")  # in the repository also jobs/


def job_scripts(jobs: Path, python: Path) -> dict[str, str]:
    """The files by name, for scripts that will lie in the folder `jobs` and start `python`, both absolute."""
    result = {}
    for path in sorted(SCRIPTS.iterdir()):
        text = _assigned(path.read_text(encoding="utf-8"), "JOBS", r"\$HOME/hpcnas/jobs", jobs)  # others find it by $0
        result[path.name] = _assigned(text, "PYTHON", r"\S+", python)
    return result


def _assigned(script: str, variable: str, value: str, place: Path) -> str:
    """The script with this path in place of the variable's value, a regular expression."""
    line = f"{variable}={shlex.quote(str(place))}"
    return re.sub(f"^{variable}={value}", lambda _: line, script, flags=re.MULTILINE)


def write(folder: Path, files: Mapping[str, str], *, overwrite: bool) -> list[str]:
    """Writes the files, with leave to start the scripts; returns the names of those that were not there like that.

    Raises Error, having written nothing, where one of them is there with another content and must not be overwritten;
    and where the folder takes no files.
    """
    if folder.exists() and not folder.is_dir():
        raise Error(f"{folder}: expected a folder, got something else")
    try:
        new = [name for name, text in files.items() if not _holds(folder / name, text)]
        edited = [name for name in new if os.path.lexists(folder / name)]
        if edited and not overwrite:
            raise Error(
                f"{folder}: nothing is written, since {', '.join(edited)} there {'is' if len(edited) == 1 else 'are'} "
                "not as this version has it: --force overwrites, and names after the folder choose the files"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name in new:
            unfinished = folder / f".{name}.{os.getpid()}"
            unfinished.write_text(files[name], encoding="utf-8")
            if name.endswith(".sh") and name != "common.sh":
                unfinished.chmod(0o777 & ~_umask())
            os.replace(unfinished, folder / name)
    except OSError as error:
        raise Error(f"{folder}: expected a folder that takes files: {error.strerror or error}") from None
    return new


def _holds(path: Path, text: str) -> bool:
    """Whether it is a file of this content."""
    return path.is_file() and path.read_bytes() == text.encode()


def _umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=common.HelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder for them, on a disk that jobs see")
    parser.add_argument("names", nargs="*", metavar="FILE", help="write these alone, such as common.sh")
    parser.add_argument("--force", action="store_true", help="overwrite files that are not as this version has them")
    options = parser.parse_args(arguments)
    files = job_scripts(Path(os.path.abspath(options.folder)), Path(sys.executable))
    for name in options.names:
        if name not in files:
            parser.error(f"expected names among {', '.join(files)}; got {name!r}")
    chosen = {name: text for name, text in files.items() if name in options.names or not options.names}
    written = write(options.folder, chosen, overwrite=options.force)
    if not written:
        print(f"{options.folder}: everything is there already")
        return 0
    print(f"{options.folder}: wrote {', '.join(written)}")
    print("Edit the variables at the top of one, then submit it: README.md there explains.")
    return 0
