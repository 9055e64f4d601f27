"""`python -m hpcnas simulate`: options of a simulated search (`simulation`), its report, the exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hpcnas.config import options
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.job.status import BROKEN, COMPLETE, WRONG_USE
from hpcnas.plugins import PluginFault
from hpcnas.search import run_file, simulation
from hpcnas.search.controller import SearchStopped
from hpcnas.search.durations import FailureShares, RecordedDurations
from hpcnas.search.initial import looked_up
from hpcnas.search.simulation import Site
from hpcnas.search.synthetic import FACTS, Foresight
from hpcnas.storage.folder import StoreError
from hpcnas.text_file import brief, shown

_DEFAULTS: search_config.Settings = {
    "evaluation": {"synthetic_seconds": 3600.0, "synthetic_spread": 0.2}
}  # §4.1: an hour
_ALWAYS: search_config.Settings = {"evaluation": {"evaluator": "synthetic"}}
MOST_WORKERS, MOST_EVALUATIONS = 1_000_000, 10_000_000  # all of them are kept in memory
MOST_SECONDS = 1_000_000_000  # thirty years
_TIMES = ("startup", "queue", "handling")


SIMULATION = replace(
    options.SEARCH,
    command="hpcnas simulate",
    screen="""\
Simulates a whole search, job after job, with workers that do not exist: how
long it would take, how much of their time the workers would wait and for what,
and what it would find in a landscape of made-up fitness.

First, the paper's search with 200 workers, an evaluation of about an hour:
  hpcnas simulate --preset paper
In jobs of 12 hours that wait 2 hours each in the queue, and are given 64 GPUs:
  hpcnas simulate --workers 64 --walltime 12h --queue 2h
Kept, for the commands that look at a run:
  hpcnas simulate --preset efficient --keep runs/simulated

  --workers W              workers (200)
  --queue T, --startup T   seconds that each job waits in the queue, and starts
  --walltime T             how long each job may run (else one job does all)
  --from RUN               durations and failures as in this run
  --synthetic-seconds T    mean duration of an evaluation (3600)
  --synthetic-spread F     its standard deviation, as a share of the mean (0.2)
  --preset NAME            settings of the search: quick, paper, efficient, …
  --keep DIR               keep the run in this new folder
  --json                   print JSON instead of a table
  --help-all               every option, also all those of a search
""",
    description="Simulates a whole search with workers that do not exist. Says how long it would take, how much of "
    "their time they would wait, and what it would find in the synthetic landscape.",
    epilog="Of the options of a search, --walltime and --grace are those of every job; here --synthetic-seconds is "
    "3600 and --synthetic-spread is 0.2 unless they are given.",
)


def _parser() -> options.Parser:
    """Takes the options of the simulation alone; its help lists those of the search besides."""
    result = options.Parser(screen=SIMULATION.screen, every=_every_option)
    result.help_option = "simulate --help"
    _add_own(result)
    return result


def _every_option() -> str:
    """What --help-all prints."""
    result = options.Parser(
        screen="", usage=f"{SIMULATION.command} [options]", description=SIMULATION.description,
        epilog=SIMULATION.epilog,
    )  # fmt: skip
    _add_own(result.add_argument_group("Simulation: where the search would run"))
    options.add_settings(result, SIMULATION)
    return result.format_help()


def _add_own(result: argparse._ActionsContainer) -> None:
    for name, default, metavar, help in (
        ("workers", 200, "W", "workers"),
        ("startup", 60.0, "T", "seconds until the workers of a job are ready"),
        ("queue", 0.0, "T", "seconds that each job waits in the batch queue"),
        ("handling", simulation.HANDLING, "T", "seconds of the controller a task, by tools/bench_controller.py"),
    ):
        kind = type(default) if name == "workers" else options.duration
        result.add_argument(f"--{name}", type=kind, default=default, metavar=metavar, help=f"{help} ({default:g})")
    result.add_argument(
        "--from", dest="times", type=Path, metavar="RUN",
        help="how long trainings take and how often they fail: as in this run, by the FLOPs of their networks",
    )  # fmt: skip
    result.add_argument("--keep", type=Path, metavar="DIR", help="keep the run in this new folder, for the tools")
    result.add_argument("--json", action="store_true", help="print JSON instead of a table")


def main(arguments: Sequence[str]) -> int:
    """Prints the report of what the command line asks for; returns the exit code."""
    try:
        parser = _parser()
        given, others = parser.parse_known_args(arguments)
        request = options.parse(others, also=list(parser._option_string_actions))
        settings = looked_up(search_config.build(*request.base, _DEFAULTS, *request.layers, _ALWAYS), _say)
        foresight = None
        if given.times is not None:
            _refuse_both(request.layers[-1])
            settings, foresight = as_in_run(settings, given.times)
        report = simulation.simulate(settings, site(given, settings), given.keep, foresight)
    except options.HelpWanted as help:
        print(str(help).rstrip())
        return COMPLETE
    except (options.UsageError, ConfigError, StoreError) as error:
        print(f"hpcnas simulate: {brief(str(error))}", file=sys.stderr)
        return WRONG_USE
    except SearchStopped as stop:
        print(f"hpcnas simulate: the search would stop: {stop}", file=sys.stderr)
        return stop.exit_code
    except PluginFault as fault:
        print(f"hpcnas simulate: {brief(str(fault))}", file=sys.stderr)
        return BROKEN
    print(json.dumps(asdict(report), indent=2) if given.json else report.text())
    return COMPLETE


def _say(text: str) -> None:
    print(f"hpcnas simulate: {text}", file=sys.stderr)


def site(given: argparse.Namespace, settings: SearchConfig) -> Site:
    """Where the search would run, as it is asked for. Raises UsageError for what no memory would hold."""
    _within("--budget", settings.search.budget, 1, MOST_EVALUATIONS)
    workers = _within("--workers", given.workers, 1, MOST_WORKERS)
    return Site(workers, *(_within(f"--{name}", getattr(given, name), 0, MOST_SECONDS) for name in _TIMES))


def _refuse_both(options_given: search_config.Settings) -> None:
    """Raises UsageError where what --from takes from a run is said as well."""
    for name in ("seconds", "spread", "crashes", "hangs", "nans"):
        if f"synthetic_{name}" in options_given.get("evaluation", {}):
            raise options.UsageError(f"--from, --synthetic-{name}: expected one of them: the run says this too")


def as_in_run(settings: SearchConfig, folder: Path) -> tuple[SearchConfig, Foresight]:
    """The settings with the failures of a run, and a foresight with its durations: what a training took there, in
    proportion to the steps. Raises UsageError."""
    try:
        stored = run_file.read(folder)
        facts = stored.sessions[0].facts if stored.sessions else FACTS
        took = RecordedDurations.of(stored.population, stored.config.skeleton(facts))
    except (StoreError, ValueError) as error:
        raise options.UsageError(f"--from {folder}: expected a search that has evaluated networks: {error}") from None
    failed, longer = FailureShares.of(stored.population), settings.training.steps / stored.config.training.steps
    evaluation = replace(
        settings.evaluation,
        synthetic_spread=0.0,
        synthetic_crashes=failed.crashes,
        synthetic_hangs=failed.hangs,
        synthetic_nans=failed.nans,
    )
    settings = replace(settings, evaluation=evaluation)
    return settings, Foresight(settings, lambda task: longer * took(task))


def _within(name: str, value: Any, least: int, most: int) -> Any:
    if not least <= value <= most:
        raise options.UsageError(f"{name}: expected {least} to {most:,}, got {shown(value)}")
    return value


if __name__ == "__main__":  # python -m hpcnas.search.simulate
    from hpcnas import search_path
    from hpcnas.job import terminal

    search_path.leave_out_current_folder()
    search_path.leave_out_for_children()
    terminal.install()
    sys.exit(main(sys.argv[1:]))
