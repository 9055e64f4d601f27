"""`hpcnas NAME …`: every command of an installed hpcnas, in any folder, without the repository.

    hpcnas search | simulate | retrain …   `python -m hpcnas`, `python -m hpcnas simulate`, `python -m hpcnas.retrain`
    hpcnas NAME …                          hpcnas/command/NAME.py

Imports nothing of a command before its name is known: every rank of a search may begin here, and has to take over its
signals before anything else takes its time.
"""

from __future__ import annotations

import os
import sys

from hpcnas import __version__, collector, search_path
from hpcnas.job import terminal

COMMANDS = {  # by what they are for, each in a line
    "run": {
        "search": "find architectures; the same command continues a run",
        "retrain": "train the large network of what was found",
        "simulate": "how long a search would take, and what it would find",
        "jobs": "write job scripts into a folder, for SLURM and PBS",
    },
    "look": {
        "watch": "a search or a retraining while it goes on",
        "serve": "a page for a browser: searches and retrainings, live",
        "summary": "the best, failures, hours, when it ends",
        "plot": "pictures of the search, its networks, its workers",
        "draw": "a cell and its motifs, as in the paper's Appendix A",
        "lineage": "which mutations led to an individual",
        "report": "one HTML page about a run, or a retraining",
    },
    "compare": {
        "compare": "searches with each other, or retrainings",
        "compare-strategies": "ways to search, in simulated searches",
        "table1": "retrainings, with the paper's Table 1",
    },
    "use": {
        "export": "genotypes, PyTorch modules, weights, ONNX, CSV",
        "predict": "what a retrained network sees on pictures",
    },
    "keep": {
        "verify": "check a run; save what is sound of a damaged search",
        "merge": "join runs into one that a new search starts from",
    },
}
SHELLS = ("bash", "zsh", "fish")

FIRST = """\
hpcnas finds neural network architectures by evolution: alone, or as an MPI job.
  hpcnas search --preset quick --run runs/first        first: minutes on 2 cores
  hpcnas summary runs/first                            then, also while it runs
  mpirun -np 9 hpcnas search --preset paper --data cifar10:data --download
"""
LAST = """\
hpcnas NAME --help says more. Also: --version, completion {shells}
"""


def main() -> int:
    """The exit code: of the command, 2 where there is none of that name."""
    search_path.leave_out_folder_of(sys.argv[0])
    search_path.leave_out_current_folder()
    terminal.install()
    name, *arguments = sys.argv[1:] or ["--help"]
    if name == "help" and arguments:
        name, arguments = arguments[0], ["--help"]
    if name in ("--help", "-h", "help"):
        print(screen(), end="")
        return terminal.arrived("hpcnas", 0)
    if name == "--version":
        print(f"hpcnas {__version__}")
        return terminal.arrived("hpcnas", 0)
    if name not in names():
        print(f"hpcnas: {unknown(name)}", file=sys.stderr)
        return 2
    collector.spare_the_end()
    # What messages and usages call the program, in the folder of this one.
    sys.argv = [os.path.join(os.path.dirname(sys.argv[0]), f"hpcnas {name}"), *arguments]
    return start(name)


def names() -> list[str]:
    """All commands, in the order of the screen."""
    return [name for group in COMMANDS.values() for name in group] + ["completion"]


def screen() -> str:
    """What `hpcnas --help` prints: 24 lines of 80 characters at the most."""
    lines = []
    for purpose, group in COMMANDS.items():
        for number, (name, help) in enumerate(group.items()):
            lines.append(f"{'' if number else purpose:<8} {name:<19}{help}\n")
    return FIRST + "".join(lines) + LAST.format(shells="|".join(SHELLS))


def unknown(name: str) -> str:
    """What is said of a word that is no command."""
    import difflib  # seldom needed

    shown = repr(name if len(name) <= 60 else f"{name[:60]}…")
    if name.startswith("-"):
        return f"expected a command first, got {shown}: hpcnas search, say, then its options (see hpcnas --help)"
    close = difflib.get_close_matches(name[:60], names(), n=1)
    return f"unknown command {shown}{f'; did you mean {close[0]}?' if close else ''} (see hpcnas --help)"


def start(name: str) -> int:
    """Does what the command does with `sys.argv`; returns its exit code."""
    if name == "retrain":
        from hpcnas.retrain import __main__ as retraining

        return retraining.main()
    if name in ("search", "simulate"):
        from hpcnas import __main__ as program

        if name == "simulate":
            sys.argv.insert(1, name)
        return program.main()

    import importlib

    from hpcnas.command import common

    def command() -> int:  # imports may miss what an extra brings
        with collector.spared_imports():
            module = importlib.import_module(f"hpcnas.command.{name.replace('-', '_')}")
        exit_code: int = module.main(sys.argv[1:])
        return exit_code

    return common.run(command)


if __name__ == "__main__":
    sys.exit(main())
