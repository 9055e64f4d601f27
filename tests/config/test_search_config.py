"""Settings of a search: the paper's numbers, what is refused and how, TOML there and back, and what may change."""

from __future__ import annotations

import dataclasses

import pytest

from hpcnas import plugins
from hpcnas.config import search as search_config
from hpcnas.config.search import SECTIONS, SearchConfig, build, differences, lasting, parse_toml, preset
from hpcnas.config.settings import ConfigError, nearest

# Presets


def test_the_paper_preset_is_the_papers_experiment() -> None:
    paper = build(preset("paper"))
    assert paper.search == search_config.SearchSettings(
        space="hierarchical",  # §4.1
        strategy="tournament",
        budget=7000,
        initial_population=200,
        tournament_fraction=0.05,
        initial_mutations=1000,
        max_parameters=None,
        seed=0,
    )
    assert paper.network == search_config.NetworkSettings(channels=16, cells_per_group=1, groups=3)
    assert paper.training == search_config.TrainingSettings(
        replicates=4,
        steps=5000,
        batch_size=256,
        learning_rate=0.1,
        milestones=(0.8, 0.9),
        momentum=0.9,
        weight_decay=3e-4,
        crop=0.75,
        flip=True,
    )
    assert paper.data == search_config.DataSettings(source="cifar10:data", validation_fraction=0.2, split_seed=0)
    assert paper.evaluation.evaluator == "training"


def test_the_papers_shares_are_its_absolute_numbers() -> None:
    training = build(preset("paper")).training
    assert [share * training.steps for share in training.milestones] == [4000, 4500]
    assert training.crop * 32 == 24
    assert build(preset("paper")).data.validation_fraction * 50_000 == 10_000


def test_the_papers_spaces_have_the_papers_sizes() -> None:
    hierarchical, flat = build(preset("paper")).space, build(preset("paper-flat")).space
    assert [(level.motifs, level.nodes) for level in hierarchical.levels] == [(6, 4), (1, 5)]
    assert [(level.motifs, level.nodes) for level in flat.levels] == [(1, 11)]


@pytest.mark.parametrize("name", search_config.PRESETS)
def test_every_preset_is_a_configuration(name: str) -> None:
    assert build(preset(name)).settings().keys() == SECTIONS.keys()


def test_an_unknown_preset_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"expected a preset \(quick, .*got 'papr'; did you mean 'paper'\?$"):
        preset("papr")


# Layers


def test_later_layers_lie_over_earlier_ones_setting_by_setting() -> None:
    built = build(
        {"search": {"budget": 1, "seed": 1}}, {"search": {"budget": 2}, "data": {"source": "synthetic:10"}}, {}
    )
    assert (built.search.budget, built.search.seed, built.data.source) == (2, 1, "synthetic:10")


def test_no_layer_gives_the_defaults() -> None:
    assert build() == SearchConfig()


def test_a_later_layer_can_take_a_limit_away() -> None:
    assert build({"search": {"max_parameters": 9}}, {"search": {"max_parameters": None}}).search.max_parameters is None


# What is refused


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"serch": {}}, "unknown section [serch]; did you mean 'search'?"),
        (
            {"zzz": {}},
            "unknown section [zzz]; known: search, network, training, data, evaluation, run",
        ),
        ({"search": {"budgt": 1}}, "unknown setting 'budgt' in [search]; did you mean 'budget'?"),
        ({"network": {"zzz": 1}}, "unknown setting 'zzz' in [network]; known: channels, cells_per_group, groups"),
        ({"search": 7}, "expected [search] to be a section, got 7"),
        # an integer, with and without an upper bound
        ({"search": {"budget": 0}}, "search.budget: expected an integer ≥ 1, got 0"),
        ({"search": {"budget": "5"}}, "search.budget: expected an integer ≥ 1, got '5'"),
        ({"search": {"budget": 5.0}}, "search.budget: expected an integer ≥ 1, got 5.0"),
        ({"search": {"budget": True}}, "search.budget: expected an integer ≥ 1, got True"),
        ({"search": {"budget": None}}, "search.budget: expected an integer ≥ 1, got None"),
        ({"training": {"replicates": 256}}, "training.replicates: expected an integer from 1 to 255, got 256"),
        # an integer or nothing
        ({"search": {"max_parameters": 0}}, "search.max_parameters: expected an integer ≥ 1, got 0"),
        # a number
        ({"training": {"momentum": 1.5}}, "training.momentum: expected a number from 0.0 to 1.0, got 1.5"),
        ({"training": {"momentum": "high"}}, "training.momentum: expected a number from 0.0 to 1.0, got 'high'"),
        ({"training": {"momentum": False}}, "training.momentum: expected a number from 0.0 to 1.0, got False"),
        ({"training": {"weight_decay": -1}}, "training.weight_decay: expected a number ≥ 0.0, got -1"),
        ({"training": {"weight_decay": float("nan")}}, "training.weight_decay: expected a number ≥ 0.0, got nan"),
        ({"training": {"weight_decay": float("inf")}}, "training.weight_decay: expected a number ≥ 0.0, got inf"),
        # a list of numbers
        ({"training": {"milestones": 0.5}}, "training.milestones: expected a list of numbers, got 0.5"),
        ({"training": {"milestones": "0.5"}}, "training.milestones: expected a list of numbers, got '0.5'"),
        ({"training": {"milestones": [0.5, 2]}}, "training.milestones: expected a number from 0.0 to 1.0, got 2"),
        ({"training": {"milestones": [0.9, 0.8]}}, "training.milestones: expected them in order, got (0.9, 0.8)"),
        # true or false
        ({"training": {"flip": 1}}, "training.flip: expected true or false, got 1"),
        # text, with and without choices, and with a meaning of its own
        ({"run": {"run": 3}}, "run.run: expected text, got 3"),
        ({"run": {"run": "a\udc80"}}, "run.run: expected text in UTF-8, got 'a\\udc80'"),
        ({"run": {"run": "a\0b"}}, "run.run: expected text without null characters, got 'a\\x00b'"),
        ({"run": {"device": "gpu"}}, "run.device: expected one of auto, cuda, cpu; got 'gpu'"),
        (
            {"search": {"space": "6x4/2x5"}},
            "search.space: the top level (level 3) is the whole cell and has one motif, got 2",
        ),
        (
            {"data": {"source": "digit"}},
            "data.source: expected data as one of digits, cifar10:DIR, cifar100:DIR, fashion-mnist:DIR, mnist:DIR, "
            "svhn:DIR, imagefolder:DIR, arrays:FILE.h5|FILE.npz|DIR, "
            "synthetic:N[:CxHxW]; got 'digit'; did you mean digits?",
        ),
    ],
)
def test_a_wrong_setting_is_refused_in_words(layer: search_config.Settings, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(layer)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [2**63, 10**400])
def test_a_number_too_large_for_anything_is_refused(value: int) -> None:
    with pytest.raises(ConfigError, match=r"^training\.learning_rate: expected a number ≥ 0.0, got \d+( … \d+)?$"):
        build({"training": {"learning_rate": value}})


def test_bounds_are_inclusive() -> None:
    built = build({"training": {"replicates": 255, "momentum": 1, "weight_decay": 0}, "search": {"budget": 1}})
    assert (built.training.replicates, built.search.budget) == (255, 1)


def test_a_whole_number_given_for_a_share_becomes_a_float() -> None:
    assert repr(build({"training": {"momentum": 1}}).training.momentum) == "1.0"


def test_every_number_has_a_lower_bound_to_name() -> None:
    numbers = [
        (item.name, item.metadata["low"])
        for section in SECTIONS.values()
        for item in dataclasses.fields(section)  # type: ignore[arg-type]
        if isinstance(item.default, int | float) and not isinstance(item.default, bool)
    ]
    assert len(numbers) > 20
    assert [name for name, low in numbers if low is None] == []


def test_nearest_lists_all_where_nothing_is_near() -> None:
    assert nearest("zzz", ["one", "two"]) == "; known: one, two"


# TOML

EVERYTHING = """
[search]
space = "2x3/1x3"
strategy = "random"
budget = 11
initial_population = 3
tournament_fraction = 0.5
initial_mutations = 7
max_parameters = 90_000
seed = 9223372036854775807

[network]
channels = 4
cells_per_group = 2
groups = 1

[training]
replicates = 1
steps = 9
batch_size = 8
learning_rate = 1e-5
milestones = []
momentum = 0.0
weight_decay = 1e18
crop = 1
flip = false

[data]
source = "imagefolder:a \\"b\\" c\\\\d"
validation_fraction = 0.25
split_seed = 1

[evaluation]
evaluator = "synthetic"
synthetic_noise = 0.1
synthetic_seconds = 2.5

[run]
run = "ü\\t\\u0001\\U000E0001"
device = "cpu"
threads = 2
download = true
progress = "plain"
max_failures = 2
compact_interval = 0.125
"""


def test_toml_comes_back_as_it_went() -> None:
    settings, name = parse_toml(EVERYTHING, "file")
    built = build(settings)
    assert name is None
    assert built.run.run == "ü\t\1\U000e0001"
    assert built.data.source == 'imagefolder:a "b" c\\d'
    assert built.training.milestones == ()
    assert build(parse_toml(built.toml(), "again")[0]) == built


@pytest.mark.parametrize("name", search_config.PRESETS)
def test_presets_come_back_from_toml(name: str) -> None:
    built = build(preset(name))
    assert build(parse_toml(built.toml(), "file")[0]) == built


def test_a_setting_without_a_value_is_left_out_of_the_toml() -> None:
    assert "max_parameters" not in SearchConfig().toml()
    assert "max_parameters = 5" in build({"search": {"max_parameters": 5}}).toml()


def test_toml_is_written_section_by_section() -> None:
    text = build(preset("paper")).toml()
    assert text.startswith('[search]\nspace = "hierarchical"\nstrategy = "tournament"\nbudget = 7000\n')
    assert "milestones = [0.8, 0.9]\n" in text
    assert 'precision = "auto"\n\n[data]\n' in text


def test_a_file_may_name_a_preset() -> None:
    assert parse_toml('preset = "paper"\n[search]\nseed = 3\n', "file") == ({"search": {"seed": 3}}, "paper")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[search", "run.toml: expected TOML, but it cannot be read: "),
        (f"[search]\nbudget = {'9' * 5000}", "run.toml: expected TOML, but it cannot be read: "),
        ("preset = 3", 'run.toml: expected preset = "NAME", got 3'),
        ("budget = 3", "run.toml: unknown section [budget]; known: search, "),
        ("[search]\nbudgt = 3", "run.toml: unknown setting 'budgt' in [search]; did you mean 'budget'?"),
        ("[search]\nbudget = 0", "run.toml: search.budget: expected an integer ≥ 1, got 0"),
        ("[search]\nmax_parameters = nan", "run.toml: search.max_parameters: expected an integer ≥ 1, got nan"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_toml(text, "run.toml")
    assert str(caught.value).startswith(message)


# What a continued run may change


def _another(value: object) -> object:
    """A value of the same kind that differs and is within bounds."""
    texts = {
        "hierarchical": "flat", "tournament": "random", "digits": "synthetic:10", "training": "synthetic",
        "winner": "sample", "retrain": "resample", "fitness": "replicate", "parameters": "flops",
        "hpcnas-run": "elsewhere", "auto": "cpu",
    }  # fmt: skip
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return texts.get(value, "other")
    if isinstance(value, tuple):
        return (0.5,)
    if isinstance(value, int):
        return value + 1
    return 1 if value is None else value / 2 + 0.25


ALTERABLE = {
    ("search", "budget"), ("search", "trainings"), ("search", "scheduling"), ("data", "source"),
    ("search", "confirm"), ("search", "confirm_trainings"),
    ("evaluation", "synthetic_seconds"), ("evaluation", "synthetic_spread"),
    *(("run", item.name) for item in dataclasses.fields(search_config.RunSettings)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("section", "key"), [(name, item.name) for name, kind in SECTIONS.items() for item in dataclasses.fields(kind)]
)
def test_a_change_is_listed_unless_it_may_differ(section: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins._loaded, "some-plugin", plugins.Plugin())
    old = SearchConfig()
    before = getattr(getattr(old, section), key)
    texts = {"progress": "plain", "precision": "fp32", "initial": "codes:00", "plugins": "some-plugin", "mlflow": "x",
             "fitness": "log-loss", "class_weights": "balanced"}  # fmt: skip
    after = texts.get(key) or _another(before)
    old = build(needs := {"training": {"rungs": (0.1,)}} if key == "early_stopping" else {})
    new = build(needs, {section: {key: after}})
    assert new != old
    expected = [] if (section, key) in ALTERABLE else [f"{section}.{key}: {before} → {after}"]
    assert differences(old, new) == expected


def test_a_continued_run_does_not_begin_with_what_held_for_one_job() -> None:
    once = {"walltime": 600.0, "profile": True, "download": True}
    assert build(lasting(build({"run": {"grace": 5.0, **once}}))) == build({"run": {"grace": 5.0}})


def test_nothing_changed_is_no_difference() -> None:
    assert differences(build(preset("quick")), build(preset("quick"))) == []


def test_differences_are_listed_in_the_order_of_the_settings() -> None:
    new = build({"training": {"steps": 1}, "search": {"seed": 5, "budget": 2}})
    assert differences(SearchConfig(), new) == ["search.seed: 0 → 5", "training.steps: 5000 → 1"]
