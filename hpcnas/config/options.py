"""The command line: every setting of a scheme as an option, grouped as there, and what else a person may ask for.

`--help` prints a screen that is written by hand: what the program does, what to do first, and the options that matter
most. `--help-all` prints every option, as argparse lays them out.

Settings that were given stay apart from defaults, so that a continued run can tell which ones a person asked for.
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcnas import __version__, plugins, text_file
from hpcnas.config import durations
from hpcnas.config import search as search_config
from hpcnas.config.settings import ConfigError, Scheme, Settings, at_home, base_type, field_types, fields_of, meant
from hpcnas.errors import Error


class UsageError(Error):
    """A command line that cannot be followed: one line for the person who typed it, whatever they typed."""

    def __init__(self, text: str) -> None:
        super().__init__(text_file.brief(text))


class HelpWanted(Exception):
    """The text that --help, --help-all or --version prints."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    layers: tuple[Settings, ...]  # a preset, a file, options: later ones count
    base: tuple[Settings, ...]  # below them, where the run is a new one
    dry_run: bool  # only say what would happen
    measure: bool = False  # and what it would cost, by a few steps of training


@dataclass(frozen=True)
class CommandLine:
    """A program by its words, and its settings. The defaults of `of_the_paper`'s sections are the paper's, but for
    `ours`, which the paper does not have or does not say.

    `screen` is what --help prints. A terminal shows it at once: 24 lines of 80 characters at the most.
    """

    command: str
    screen: str
    description: str
    epilog: str
    scheme: Scheme[typing.Any]
    of_the_paper: frozenset[str]
    ours: frozenset[str]  # section.key


PROGRAMS = {  # by what a person may write for the name of each: how it is started
    "search": "hpcnas search",
    "retrain": "hpcnas retrain",
    "simulate": "hpcnas simulate",
}


SEARCH = CommandLine(
    command="hpcnas search",
    screen="""\
Finds neural network architectures by evolution. Under mpirun, rank 0 controls
and every other rank trains networks; alone, one process does both.

First, a search of minutes on 2 cores, and what it has found:
  hpcnas search --preset quick --run runs/first
  hpcnas summary runs/first
The paper's search, on 8 GPUs; add --dry-run to see what it would do:
  mpirun -np 9 hpcnas search --preset paper --data cifar10:data --download
The same command continues a run that was cut short; a larger budget, any run:
  hpcnas search --run runs/first --budget 60

  --run DIR        folder of the run; an existing one is continued
  --preset NAME    settings to start from: quick, paper, efficient, paper-flat
  --config FILE    settings in TOML; they override the preset, options both
  --data DATA      digits, cifar10:DIR, imagefolder:DIR, arrays:FILE.h5, …
  --budget N       evaluations in all, the initial population included
  --strategy NAME  tournament, random, aging, nsga2, guided, a plugin's
  --walltime T     how long this job may run: 4h (else SLURM or PBS is asked)
  --dry-run        print the configuration, sizes and bindings; train nothing
  --measure        with it: train a few steps, and say what all would cost
  --help-all       every option, by what it is about, with its default
  --version        print the version
""",
    description="Finds neural network architectures by evolution. Rank 0 controls, every other rank trains networks; "
    "with one rank, it does both.",
    epilog="Settings come from a preset, then --config, then options; a run that is continued keeps its own.",
    scheme=search_config.SCHEME,
    of_the_paper=frozenset({"search", "network", "training"}),
    ours=frozenset(
        {
            "search.aging_population",
            "search.aging_sample",
            "search.survivors",
            "search.objective",
            "search.racing_confidence",
            "search.early_stopping_confidence",
            "search.seed",
            "search.tournament_draw",
            "training.precision",
        }
    ),  # fmt: skip
)


class _Print(argparse.Action):
    """An option that prints the text that its `const` returns, and does nothing else."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> typing.NoReturn:
        raise HelpWanted(self.const())


class Parser(argparse.ArgumentParser):
    """argparse that raises where it would print or leave, and that suggests what was probably meant.

    `--help` prints `screen`; `--help-all` what `every` returns, else the parser's own options.
    """

    also: Sequence[str] = ()  # options that another parser takes
    help_option = "--help"

    def __init__(self, *, screen: str, every: Callable[[], str] | None = None, **words: typing.Any) -> None:
        super().__init__(add_help=False, allow_abbrev=False, **words)
        for names, text, help in (
            (("-h", "--help"), lambda: screen, "what to do first, and the options that matter most"),
            (("--help-all",), every or self.format_help, "this list of every option"),
        ):
            self.add_argument(*names, action=_Print, nargs=0, const=text, default=argparse.SUPPRESS, help=help)

    def parse_args(self, arguments: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        """What is asked for. Raises UsageError for anything else."""
        if arguments and (hint := self._meant(arguments[0])) and arguments[0][:1] != "-":
            self.error(f"unrecognized arguments: {arguments[0]}{hint}")  # the options that follow are another program's
        try:
            parsed, others = self.parse_known_args(arguments)
        except ValueError as error:  # from the type of an argument
            self.error(str(error))
        if others:
            self.error(f"unrecognized arguments: {' '.join(others)}{self._meant(others[0])}")
        return parsed

    def parse_known_args(self, arguments: Sequence[str], namespace: None = None) -> typing.Any:  # type: ignore[override]
        """As in argparse, which however takes `--option=--` for an empty list."""
        for argument in arguments:
            if argument[:2] == "--" and argument[-3:] == "=--":
                self.error(f"argument {argument[:-3]}: expected a value, got '--'")
        return super().parse_known_args(arguments, namespace)

    def _meant(self, argument: str) -> str:
        """The end of the message about an unknown argument."""
        if not argument.startswith("-"):
            programs = [name for name in PROGRAMS if meant(argument, [name])]
            return f"; did you mean {PROGRAMS[programs[0]]} and then its options?" if programs else ""
        return meant(argument.partition("=")[0], [*self._option_string_actions, *self.also])

    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(f"{text_file.brief(message, 300)} (see {self.help_option})")

    def _print_message(self, message: str, file: object = None) -> None:
        raise HelpWanted(message)


def parser(program: CommandLine = SEARCH) -> Parser:
    """The parser of all options, grouped by section."""
    result = Parser(
        screen=program.screen,
        usage=f"mpirun -np RANKS {program.command} [options]",
        description=program.description,
        epilog=program.epilog,
    )
    add_settings(result, program)
    return result


def add_settings(result: Parser, program: CommandLine) -> None:
    """Adds --version, the choice of what to run, and every setting."""
    scheme = program.scheme
    result.add_argument("--version", action="version", version=f"hpcnas {__version__}", help="print the version")
    first = result.add_argument_group("What to run")
    first.add_argument(
        "--preset", metavar="NAME", help=f"settings to start from: {', '.join(scheme.presets)} "
        f"(default: {scheme.default_preset})",
    )  # fmt: skip
    first.add_argument("--config", type=lambda text: Path(at_home(text)), metavar="FILE", help="settings in TOML")
    first.add_argument(
        "--dry-run", action="store_true", help="print the configuration, sizes and bindings; train nothing"
    )
    first.add_argument(
        "--measure", action="store_true", help="with --dry-run: train a few steps, and say what all would cost"
    )
    for section, kind in scheme.sections.items():
        group = result.add_argument_group(kind.__doc__)
        for item in fields_of(kind):
            name = f"{section}.{item.name}"
            origin = "paper" if section in program.of_the_paper and name not in program.ours else "default"
            _add(group, name, item, field_types(kind)[item.name], origin)


def _add(
    group: argparse._ArgumentGroup, destination: str, item: dataclasses.Field[typing.Any], kind: typing.Any, origin: str
) -> None:
    """Adds a setting as an option, of value None unless it is given. `origin` of the default: paper or default."""
    limits, value_type = item.metadata, base_type(kind)
    name = "--" + (limits["option"] or item.name).replace("_", "-")
    default = "" if item.default in (None, ()) else f" ({origin}: {_shown(item.default)})"
    text = (limits["help"] + default).replace("%", "%%")
    common: dict[str, typing.Any] = {"dest": destination, "default": None, "help": text}
    if value_type is bool:
        group.add_argument(name, action=argparse.BooleanOptionalAction, **common)
    elif typing.get_origin(value_type) is tuple:
        (member, _) = typing.get_args(value_type)
        group.add_argument(name, type=member, nargs="+", metavar=limits["metavar"], **common)
    else:
        choices = limits["choices"]
        metavar = limits["metavar"] or ("{" + ",".join(choices) + "}" if choices else item.name.upper())
        group.add_argument(name, type=duration if limits["duration"] else value_type, metavar=metavar, **common)


def duration(text: str) -> float:
    """The seconds that an argument of argparse says. Raises ArgumentTypeError."""
    try:
        return durations.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


@plugins.named_here()
def parse(arguments: Sequence[str], program: CommandLine = SEARCH, also: Sequence[str] = ()) -> Request:
    """What is asked for. `also` names options that another parser takes.

    Raises UsageError and ConfigError, and HelpWanted with the text to print."""
    scheme, options = program.scheme, parser(program)
    options.also = also
    parsed = options.parse_args(arguments)
    given: dict[str, dict[str, object]] = {}
    for name, value in vars(parsed).items():
        section, dot, key = name.partition(".")
        if dot and value is not None:
            given.setdefault(section, {})[key] = tuple(value) if isinstance(value, list) else value
    file: Settings = {}
    chosen = parsed.preset
    if parsed.config is not None:
        try:
            text = text_file.read(parsed.config)
        except text_file.Unreadable as error:
            raise ConfigError(f"--config: expected a readable file {str(parsed.config):.200}: {error}") from None
        file, named = scheme.parse_toml(text, str(parsed.config))
        chosen = chosen or named
    layers = (scheme.preset(chosen), file, given) if chosen else (file, given)
    base = () if chosen or parsed.config else (scheme.preset(scheme.default_preset),)
    scheme.build(*base, *layers)  # raises before anything else happens
    if parsed.measure and not parsed.dry_run:
        raise UsageError("--measure: expected --dry-run beside it")
    return Request(layers, base, parsed.dry_run, parsed.measure)
