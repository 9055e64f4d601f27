"""What people and broken scripts give for values of options, and what a program may do with them: take them, and then
be able to say how large its network is; or refuse them in one line. Nothing else, and not for long, nor in much memory.

    python odd_values.py PROGRAM < JSON list of command lines      prints what was wrong, one line each
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from hpcnas import seeds
from hpcnas.architecture import expansion, mutation, sizes
from hpcnas.config import options
from hpcnas.config import search as search_config
from hpcnas.config.data_spec import DataFacts, ImageFacts
from hpcnas.config.retraining import RETRAINING
from hpcnas.config.settings import ConfigError
from hpcnas.retrain.origin import resolve_genotype
from hpcnas.search import simulate
from hpcnas.search.initial import looked_up

PROGRAMS = {"search": options.SEARCH, "retrain": RETRAINING, "simulate": options.SEARCH}
SIMULATION = ("--workers", "--startup", "--queue", "--handling", "--keep")
MOST_MEMORY = 2**32  # bytes of address space
MOST_SECONDS = 60  # of CPU, for one command line
LONGEST = 600  # characters of a line
HUGE = 2**63 - 1
FACTS = DataFacts(3, 32, 32, 10, 40_000, 10_000, "none")


def values(folder: Path) -> list[str]:
    """The odd values; some name what lies in the folder."""
    files = {
        "fifo": lambda path: os.mkfifo(path),
        "folder": lambda path: path.mkdir(),
        "empty": lambda path: path.touch(),
        "deep.toml": lambda path: path.write_text("a = " + 900 * "[" + 900 * "]"),
        "deep-key.toml": lambda path: path.write_text("[search]\nbudget." + ".".join(5000 * "a") + " = 1"),
        "long.toml": lambda path: path.write_text(f'[search]\nspace = "{"x" * 10**6}"'),
        "binary": lambda path: path.write_bytes(bytes(range(256)) * 100),
        "link": lambda path: path.symlink_to(path),
    }
    for name, make in files.items():
        make(folder / name)
    with (folder / "large.toml").open("wb") as file:
        file.truncate(10 * 2**30)  # a hole
    numbers = [
        *("0", "-1", "1", "7", "0.5", "1.5", "nan", "-nan", "inf", "-inf", "1e999", "1e-999", "1e308", "1e18"),
        *(str(HUGE), str(HUGE + 1), str(-HUGE), "1" + 400 * "0", "9" * 5000, "0x10", "1_000", "١٢٣", "½", "1,5"),
        *("12:00:00", "4h", "90m", "1000000", "4096", "true", "None", "--1", "+5", " 5 ", "5\n"),
    ]
    texts = [
        *("", " ", "\t", "\n", "a\0b", "\udc80", "x" * 10**5, "ü", "🙂", "\x1b[31mred", "-", "--", "-x", "--budget"),
        *("..", "/", "~", "~nobody-of-that-name", "$HOME", "%s%d{}", "'\"\\", "auto", "cpu", "digits", "digits:"),
        *("a,b", ",", ":", "::", "synthetic:", "synthetic:10", "synthetic:999999999:3x9999x9999", "synthetic:0"),
        *("imagefolder:", "cifar10:/dev/zero", "hierarchical", "flat+x", "1x2", "0x0", "1x1", "255x255/1x255"),
        *("200000x4/1x5", "/".join(2000 * ["1x2"]), "1x2/", "2x3", "codes:", "codes:zz", "codes:00", "paper"),
        *("RUN:best", "run:999999999999999999999", "os", "json", "__main__", "a.b.c"),
    ]
    places = ["/dev/zero", "/dev/null", "/dev/tty0", "/proc/self/mem", "/nowhere/at/all", "x" * 300]
    return [*numbers, *texts, *places, *(str(folder / name) for name in (*files, "large.toml", "absent"))]


def command_lines(program: str, folder: Path) -> Iterator[list[str]]:
    """Each option with each odd value, without any, and twice; words that are no options."""
    odd = values(folder)
    names = [name for name in options.parser(PROGRAMS[program])._option_string_actions if name[:2] == "--"]
    for name in [*names, *(SIMULATION if program == "simulate" else ())]:
        yield [name]
        for value in odd:
            yield [f"{name}={value}"] if value[:1] == "-" else [name, value]
    for value in odd:
        yield [value]
        yield ["--" + value]
    yield ["--milestones", *(["0.5"] * 10_000)]
    yield ["--preset", "quick"] * 1000


def handled(program: str, line: list[str]) -> str:
    """What the program does before it begins: "taken", or the line that it refuses the arguments with."""
    try:
        if program == "simulate":
            parser = simulate._parser()
            given, others = parser.parse_known_args(line)
            request = options.parse(others, also=list(parser._option_string_actions))
            simulate.site(
                given, search_config.build(*request.base, simulate._DEFAULTS, *request.layers, simulate._ALWAYS)
            )
            return "taken"
        scheme = PROGRAMS[program].scheme
        request = options.parse(line, PROGRAMS[program])
        settings = scheme.build(*request.base, *request.layers)
        if program == "search":
            settings, skeleton = looked_up(settings), settings.skeleton(FACTS)
            space, first = settings.space, seeds.birth_generator(0, 0)
            found, _ = mutation.redraw_until(lambda: mutation.diversified(space, 2, first), expansion.is_valid)
        else:
            skeleton = settings.skeleton(ImageFacts(3, 32, 32, 10))
            found, _ = resolve_genotype(settings.network.genotype)
        sizes.size(expansion.expand(found), skeleton)
    except options.HelpWanted:
        return "taken"
    except (ConfigError, options.UsageError) as error:
        return str(error)
    return "taken"


def wrong(program: str, line: list[str]) -> str | None:
    """What is wrong with what comes of a command line."""
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    try:
        said = handled(program, line)
    except TimeoutError:
        return f"not done within {MOST_SECONDS} s of CPU"
    except BaseException as error:  # argparse may want to leave
        return f"{type(error).__name__}: {str(error)[:200]!r}\n{traceback.format_exc()[-2000:]}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    if len(said) > LONGEST or not said.isprintable() or not said:
        return f"a message of {len(said)} characters, {said.count(chr(10)) + 1} lines: {said[:200]!r}"
    return None


def main() -> None:
    def late(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGVTALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    for line in json.load(sys.stdin):
        if (found := wrong(sys.argv[1], line)) is not None:
            print(f"{[word[:60] for word in line]}: {found}", flush=True)


if __name__ == "__main__":
    main()
