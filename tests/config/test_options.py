"""Options: each setting on the command line, only what was given in the layers, and mistakes told in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcnas import __version__
from hpcnas.config import options
from hpcnas.config import search as search_config
from hpcnas.config.options import HelpWanted, UsageError, parse
from hpcnas.config.retraining import RETRAINING, SCHEME
from hpcnas.config.settings import ConfigError, fields_of
from hpcnas.search import simulate

HUGE = 2**63 - 1
SETTINGS = [(section, item) for section, kind in search_config.SECTIONS.items() for item in fields_of(kind)]


def _help() -> str:
    with pytest.raises(HelpWanted) as caught:
        parse(["--help-all"])
    return str(caught.value)


def test_every_setting_has_one_option() -> None:
    names = [action.dest for action in options.parser()._actions]
    expected = [f"{section}.{item.name}" for section, item in SETTINGS]
    assert [name for name in names if "." in name] == expected


def test_an_option_for_each_kind_of_setting_reaches_its_section() -> None:
    words = (
        "--budget 5 --max-parameters 6 --momentum 0.5 --milestones 0.25 0.5 --no-flip --download "
        "--device cpu --run here --data synthetic:10"
    )
    given = {
        "search": {"budget": 5, "max_parameters": 6},
        "training": {"milestones": (0.25, 0.5), "momentum": 0.5, "flip": False},
        "data": {"source": "synthetic:10"},
        "run": {"device": "cpu", "download": True, "run": "here"},
    }
    assert parse(words.split()).layers == ({}, given)


def test_flags_can_be_said_both_ways() -> None:
    assert parse(["--flip", "--no-download"]).layers[-1] == {"training": {"flip": True}, "run": {"download": False}}


def test_nothing_given_leaves_the_layers_empty_upon_the_quick_preset() -> None:
    request = parse([])
    assert request.layers == ({}, {})
    assert request.base == (search_config.preset("quick"),)
    assert not request.dry_run


def test_a_preset_takes_the_place_of_quick() -> None:
    request = parse(["--preset", "paper", "--seed", "3"])
    assert request.layers == (search_config.preset("paper"), {}, {"search": {"seed": 3}})
    assert request.base == ()


def test_dry_run_is_asked_for() -> None:
    assert parse(["--dry-run"]).dry_run


# --config


def test_a_file_without_a_preset_stands_on_the_papers_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[search]\nseed = 4\n")
    request = parse(["--config", str(path)])
    assert request.layers == ({"search": {"seed": 4}}, {})
    assert request.base == ()
    assert search_config.build(*request.base, *request.layers).search.budget == 7000


def test_options_lie_over_the_file_and_the_file_over_its_preset(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('preset = "paper-flat"\n[search]\nseed = 4\nbudget = 50\n')
    built = search_config.build(*parse(["--config", str(path), "--budget", "60"]).layers)
    assert (built.search.space, built.search.seed, built.search.budget) == ("flat", 4, 60)


def test_the_preset_on_the_command_line_goes_before_the_files(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('preset = "quick"\n')
    assert parse(["--config", str(path), "--preset", "paper-flat"]).layers[0] == search_config.preset("paper-flat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--config: expected a readable file "),
        (b"\xff", "--config: expected a readable file "),
        (b'preset = "papr"', "expected a preset (quick, paper, efficient, paper-flat), got 'papr'; did you mean"),
        (b"[search]\nbudget = 0", "PATH: search.budget: expected an integer ≥ 1, got 0"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="^" + re.escape(message.replace("PATH", str(path)))):
        parse(["--config", str(path)])


# Mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--budget many", "argument --budget: invalid int value: 'many' (see --help)"),
        ("--momentum high", "argument --momentum: invalid float value: 'high' (see --help)"),
        ("--budget", "argument --budget: expected one argument (see --help)"),
        ("--milestones", "argument --milestones: expected at least one argument (see --help)"),
        ("--budge 5", "unrecognized arguments: --budge 5; did you mean '--budget'? (see --help)"),  # no abbreviations
        ("--flip=yes", "argument --flip/--no-flip: ignored explicit argument 'yes' (see --help)"),
        ("5", "unrecognized arguments: 5 (see --help)"),
        ("--flop=yes", "unrecognized arguments: --flop=yes; did you mean '--flip'? (see --help)"),
        ("--no-flp", "unrecognized arguments: --no-flp; did you mean '--no-flip'? (see --help)"),
        ("--seed=--", "argument --seed: expected a value, got '--' (see --help)"),
        *(
            (words, f"unrecognized arguments: {word}; did you mean {program} and then its options? (see --help)")
            for words, word, program in (
                ("retrain --cells 2 2 2", "retrain", "hpcnas retrain"),
                ("retrian", "retrian", "hpcnas retrain"),
                ("search", "search", "hpcnas search"),
                ("--seed 3 simulate", "simulate", "hpcnas simulate"),
            )
        ),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words.split())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--budget 0", "search.budget: expected an integer ≥ 1, got 0"),
        ("--momentum nan", "training.momentum: expected a number from 0.0 to 1.0, got nan"),
        ("--milestones 0.9 0.8", "training.milestones: expected them in order, got (0.9, 0.8)"),
        ("--device gpu", "run.device: expected one of auto, cuda, cpu; got 'gpu'"),
        ("--device cdua", "run.device: expected one of auto, cuda, cpu; got 'cdua'; did you mean 'cuda'?"),
        ("--groups 1000", "network.groups: expected an integer from 1 to 20, got 1000"),
        (f"--cells-per-group {HUGE}", f"network.cells_per_group: expected an integer from 1 to 10000, got {HUGE}"),
        (f"--initial-mutations {HUGE}", f"search.initial_mutations: expected an integer from 0 to 1000000, got {HUGE}"),
        (f"--batch-size {HUGE}", f"training.batch_size: expected an integer from 2 to 16777216, got {HUGE}"),
        (
            "--channels 1048576 --groups 20",
            "network.channels: expected a network that a memory holds, of at most 68,719,476,736 parameters, got one "
            "of 402,975,273,204,509,887,692,800 without its cells: 1048576 channels, which double in each of 20 groups",
        ),
        ("--space 1x2" + 200_000 * "/1x2", "search.space: expected at most 16 levels of motifs, got 17 or more"),
        ("--space 200000x4/1x5", "search.space: level 2: expected 1 to 255 motifs, got 200000"),
        (
            "--space 1x99/1x99",
            "search.space: expected cells of at most 1,000,000 operations, but the largest of 1x99/1x99 has 23,532,201",
        ),
        ("--preset papr", "expected a preset (quick, paper, efficient, paper-flat), got 'papr'; did you mean 'paper'?"),
    ],
)
def test_what_cannot_be_used_is_a_config_error(words: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(words.split())
    assert str(caught.value) == message


# Durations and paths


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("43200", 43200.0), ("1.5", 1.5), ("1e3", 1000.0), ("12:00:00", 43200.0), ("0:12:30", 750.0),
        ("100:00:00", 360000.0), ("1-12:00:00", 129600.0), ("2-06", 194400.0), ("2-06:30", 196200.0), ("4h", 14400.0),
        ("90m", 5400.0), ("90min", 5400.0), ("1h30m", 5400.0), ("1h 30m", 5400.0), ("2D", 172800.0), ("45s", 45.0),
        ("1.5h", 5400.0), ("1d2h3m4s", 93784.0),
    ],
)  # fmt: skip
def test_a_duration_is_written_as_people_and_batch_systems_do(written: str, seconds: float, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f'[run]\nwalltime = "{written}"\ngrace = "{written}"\n')
    for arguments in (["--walltime", written, f"--grace={written}"], ["--config", str(file)]):
        run = search_config.build(*parse(arguments).layers).run
        assert (run.walltime, run.grace) == (seconds, seconds)


@pytest.mark.parametrize(
    ("written", "also"),
    [
        ("soon", ""), ("", ""), ("h", ""), ("4h5h", ""), ("30m1h", ""), ("1:60:00", ""), ("12:00:00:00", ""),
        ("-1h", ""), ("12:30", " (hours and minutes as 12:30:00, minutes and seconds as 0:12:30)"),
    ],
)  # fmt: skip
def test_what_is_no_duration_or_could_be_two_is_refused(written: str, also: str, tmp_path: Path) -> None:
    wanted = f"expected seconds, or a time such as 12:00:00, 1-12:00:00, 4h, 90m or 1h30m{also}, got {written!r}"
    with pytest.raises(UsageError) as caught:
        parse([f"--walltime={written}"])
    assert str(caught.value) == f"argument --walltime: {wanted} (see --help)"
    file = tmp_path / "run.toml"
    file.write_text(f'[run]\nhang_timeout = "{written}"\n')
    with pytest.raises(ConfigError) as refused:
        parse(["--config", str(file)])
    assert str(refused.value) == f"{file}: run.hang_timeout: {wanted}"


def test_durations_keep_their_bounds() -> None:
    for written in ("0s", "-1", "nan", "inf"):
        with pytest.raises(ConfigError, match="walltime: expected a number ≥ 1.0"):
            parse([f"--walltime={written}"])


def test_home_is_found_where_a_path_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In TOML, and where a shell sees no word of its own."""
    monkeypatch.setenv("HOME", "/home/me")
    initial = {"search": {"initial": "~/cell.toml,runs/~b:2,~/runs/c:3"}}
    found = search_config.build({"run": {"run": "~/runs/a"}, "data": {"source": "cifar10:~/data"}}, initial)
    assert found.run.run == "/home/me/runs/a"
    assert found.data.source == "cifar10:/home/me/data"
    assert found.search.initial == "/home/me/cell.toml,runs/~b:2,/home/me/runs/c:3"
    assert search_config.build(*parse(["--run=~/runs/a"]).layers).run.run == "/home/me/runs/a"
    recipe = SCHEME.build({"network": {"genotype": "~/runs/a:best"}, "run": {"run": "~/large"}})
    assert (recipe.network.genotype, recipe.run.run) == ("/home/me/runs/a:best", "/home/me/large")
    assert search_config.build({"run": {"run": "./~"}}).run.run == "./~"
    (tmp_path / "run.toml").write_text('[run]\nrun = "~"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    assert search_config.build(*parse(["--config=~/run.toml"]).layers).run.run == str(tmp_path)


# Help


PROGRAMS: dict[str, Callable[[list[str]], object]] = {
    "search": parse,
    "retrain": lambda words: parse(words, RETRAINING),
    "simulate": lambda words: simulate._parser().parse_known_args(words),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_fits_a_screen_and_says_what_is_so(name: str) -> None:
    program = f"hpcnas {name}"
    screen, every = (_printed(PROGRAMS[name], option) for option in ("--help", "--help-all"))
    lines = screen.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    examples = [text.partition(f"{program} ")[2] for text in screen.replace("\\\n", "").splitlines() if program in text]
    assert len(examples) == 3
    for example in examples:
        PROGRAMS[name](example.split())
    named = set(re.findall(r"--[a-z-]+", screen))
    assert named <= set(re.findall(r"--[a-z-]+", every))
    assert every.startswith("usage: ") and f"{program} [options]" in every


def _printed(parse: Callable[[list[str]], object], option: str) -> str:
    with pytest.raises(HelpWanted) as caught:
        parse([option])
    return str(caught.value)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_all_lists_every_option(name: str) -> None:
    every = _printed(PROGRAMS[name], "--help-all")
    listed = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", every, re.MULTILINE))
    scheme = SCHEME if name == "retrain" else search_config.SCHEME
    settings = {item.metadata["option"] or item.name for kind in scheme.sections.values() for item in fields_of(kind)}
    own = {"workers", "startup", "queue", "handling", "keep", "json", "from"} if name == "simulate" else set()
    common = {"help", "help-all", "version", "preset", "config", "dry-run", "measure"}
    assert listed == {"--" + each.replace("_", "-") for each in settings | own | common}


def test_help_groups_the_options_by_section() -> None:
    lines = _help().splitlines()
    groups = [line for line in lines if line and line[0] != " " and line.endswith(":")]
    assert groups == ["options:", "What to run:", *(f"{kind.__doc__}:" for kind in search_config.SECTIONS.values())]


@pytest.mark.parametrize(
    ("option", "default"),
    [
        ("--preset", "(default: quick)"),
        ("--budget", "(paper: 7000)"),
        ("--milestones", "(paper: 0.8 0.9)"),
        ("--flip", "(paper: yes)"),
        ("--data", "(default: digits)"),
        ("--download", "(default: no)"),
    ],
)
def test_help_says_each_default_and_whose_it_is(option: str, default: str) -> None:
    text = " ".join(_help().split("What to run:")[1].split())  # without the usage, on one line
    assert re.search(rf"{option}\b[^()]*(\([^()]*embedded\)[^()]*)?{re.escape(default)}", text), text


def test_version_is_printed_not_exited() -> None:
    with pytest.raises(HelpWanted) as caught:
        parse(["--version"])
    assert str(caught.value) == f"hpcnas {__version__}\n"
