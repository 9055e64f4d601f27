"""Plugins: primitives, data, strategies, evaluators, measures and objectives of others (PLUGINS.md).

    --plugin NAME   an entry point of the group `hpcnas` that has this name, else the module NAME and its `plugin`

Loads only what a person asks for: an installed plugin changes no search. A run keeps the names of its plugins, but a
run may come from somebody else: its plugins are loaded only where the person who opens it names them too (`named_here`,
HPCNAS_PLUGINS). Imports the standard library alone; what else an author needs is handed out when it is asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from hpcnas import answers, search_path
from hpcnas.architecture import primitives
from hpcnas.architecture.primitives import Primitive as Primitive
from hpcnas.errors import Error as Error

if TYPE_CHECKING:
    from hpcnas.architecture.expansion import InvalidGenotype as InvalidGenotype
    from hpcnas.architecture.expansion import expand as expand
    from hpcnas.architecture.genotype import Genotype as Genotype
    from hpcnas.architecture.mutation import NothingAllowed as NothingAllowed
    from hpcnas.architecture.mutation import mutate as mutate
    from hpcnas.architecture.sizes import size as size
    from hpcnas.config.data_spec import DataError as DataError
    from hpcnas.config.data_spec import DataFacts as DataFacts
    from hpcnas.config.search import SearchConfig as SearchConfig
    from hpcnas.config.search import SearchSettings as SearchSettings
    from hpcnas.evolution.individuals import Birth as Birth
    from hpcnas.evolution.population import Population as Population
    from hpcnas.evolution.strategy import Breeding as Breeding
    from hpcnas.evolution.strategy import Proposal as Proposal
    from hpcnas.evolution.strategy import Strategy as Strategy
    from hpcnas.job.devices import Binding as Binding
    from hpcnas.messages import Evaluation as Evaluation
    from hpcnas.messages import Failure as Failure
    from hpcnas.messages import FailureKind as FailureKind
    from hpcnas.messages import Stopped as Stopped
    from hpcnas.messages import Task as Task
    from hpcnas.training.evaluator import Evaluator as Evaluator
    from hpcnas.training.evaluator import EvaluatorRefused as EvaluatorRefused
    from hpcnas.training.evaluator import Loaded as Loaded

GROUP = "hpcnas"
VARIABLE = "HPCNAS_PLUGINS"  # the environment variable by which a person names plugins, with commas between them
Answer = TypeVar("Answer")


class PluginError(Error, ValueError):
    """A plugin cannot be used: one sentence."""


class PluginFault(Error):
    """A plugin's own code has raised an exception that it may not raise, or has given a wrong answer: one sentence that
    names the plugin. `__cause__` is the plugin's exception."""


@dataclass(frozen=True)
class DataKind:
    """A kind of data, which `--data KIND` or `--data KIND:REST` names.

    `read(rest, split, download)` returns (classes, pixels, labels) of a split, "train" or "test": the names of the
    classes, uint8, uint16, int16, float16 or float32 of shape (N, H, W, 1 to 256), and int64 of shape (N,) from 0, the
    number of each image's class. A fourth value may name each image's group, (N,): a split keeps groups together. It
    raises DataError where a person must mend something, and must not read the other split.
    """

    syntax: str  # for messages, such as "spirals:N"
    read: Callable[[str, str, bool], tuple[tuple[str, ...], Any, Any]]


@dataclass(frozen=True)
class Measure:
    """What a network is judged by, which `--fitness NAME` names.

    `of(scores, labels)` returns a finite number from −1,000,000 to 1,000,000: of class scores before the softmax,
    float64 of shape (N, classes), and int64 of shape (N,), the class of each validation image. It changes neither. It
    runs in the trainer; where it raises or answers anything else, the training has failed.
    """

    of: Callable[[Any, Any], float]
    larger_is_better: bool = True  # else the fitness is its negative


@dataclass(frozen=True)
class Objective:
    """What a network costs, which `--strategy nsga2 --objective NAME` weighs fitness against: less is better.

    `of(genotype)` returns a finite number of a valid genotype, always the same; it runs in the controller. With
    `trained` it is `of(network, images)`: of the trained small network, a torch module in evaluation mode on the
    worker's device, and up to 32 normalised validation images there, float (N, C, H, W); it runs in the trainer, once a
    fitness, and what it returns is kept. Numbers are from −1e15 to 1e15.
    """

    of: Callable[..., float]
    trained: bool = False
    words: str = ""  # what people read beside numbers of it, with their unit; else its name


@dataclass(frozen=True)
class Plugin:
    """What a plugin brings, by name.

    `strategies[name]` is called with the settings of the search (SearchSettings) and a Breeding, and returns a
    Strategy; `evaluators[name]` with the configuration (SearchConfig) and the worker's Binding, and returns an
    Evaluator.
    """

    primitives: tuple[Primitive, ...] = ()
    data: Mapping[str, DataKind] = field(default_factory=dict)
    strategies: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)
    evaluators: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)
    measures: Mapping[str, Measure] = field(default_factory=dict)
    objectives: Mapping[str, Objective] = field(default_factory=dict)


# What else an author needs, and where it is: loaded when it is asked for, since this file stands below all of it.
_ELSEWHERE = {
    "architecture.expansion": ("InvalidGenotype", "expand"),
    "architecture.genotype": ("Genotype",),
    "architecture.mutation": ("NothingAllowed", "mutate"),
    "architecture.sizes": ("size",),
    "config.data_spec": ("DataError", "DataFacts"),
    "config.search": ("SearchConfig", "SearchSettings"),
    "evolution.individuals": ("Birth",),
    "evolution.population": ("Population",),
    "evolution.strategy": ("Breeding", "Proposal", "Strategy"),
    "job.devices": ("Binding",),
    "messages": ("Evaluation", "Failure", "FailureKind", "Stopped", "Task"),
    "training.evaluator": ("Evaluator", "EvaluatorRefused", "Loaded"),
}


def __getattr__(name: str) -> object:
    """What `_ELSEWHERE` lists."""
    for place, names in _ELSEWHERE.items():
        if name in names:
            import importlib

            return getattr(importlib.import_module(f"hpcnas.{place}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_loaded: dict[str, Plugin] = {}
_named_here = False
_loading = threading.RLock()
_tell: ContextVar[Callable[[list[str]], None] | None] = ContextVar("tell", default=None)
"""Called with the names of plugins that are left out, where they may be: each thread reads its own runs."""


def load(names: str | None) -> None:
    """Loads the plugins that a person has named, with commas between them, unless they are loaded already. Raises
    PluginError; a plugin is added as a whole or not at all."""
    with _loading:
        for name in _each(names):
            if name not in _loaded:
                _add(name, _found(name))


def _add(name: str, plugin: Plugin) -> None:
    _check(name, plugin)
    primitives.ADDED.extend(_guarded(name, one) for one in plugin.primitives)
    _loaded[name] = plugin


def require(names: str | None) -> None:
    """Loads those of the plugins of a configuration that a person has named too. Raises PluginError, NotNamed where one
    is missing; within `done_without`, it is reported instead."""
    if _named_here:
        load(names)
        return
    wanted = [name for name in _each(names) if name not in _loaded]
    known = _each(os.environ.get(VARIABLE))
    load(",".join(name for name in wanted if name in known))
    missing = [name for name in wanted if name not in known]
    if missing and (tell := _tell.get()) is not None:
        tell(missing)
    elif missing:
        raise NotNamed(missing)


class NotNamed(PluginError):
    """A run names plugins that no person has named here."""

    def __init__(self, names: list[str]) -> None:
        listing = ",".join(names)
        super().__init__(
            f"{listing}: not loaded: what a run names is code, and is loaded only where you name it too; add --plugin "
            f"{listing} (for tools: {VARIABLE}={listing}) if you trust it"
        )


@contextlib.contextmanager
def named_here() -> Iterator[None]:
    """Within it, the plugins of every configuration are loaded: the configuration is that of the person who has started
    this process."""
    global _named_here
    before, _named_here = _named_here, True
    try:
        yield
    finally:
        _named_here = before


@contextlib.contextmanager
def done_without(tell: Callable[[list[str]], None]) -> Iterator[None]:
    """Within it, runs are read without the plugins that no person has named here; `tell` is called with their names."""
    before = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(before)


@contextlib.contextmanager
def alone(name: str, plugin: Plugin) -> Iterator[None]:
    """Within it, this plugin is loaded under that name, and no other plugin is loaded: for tests. Raises
    PluginError."""
    before, added = dict(_loaded), list(primitives.ADDED)
    _loaded.clear()
    primitives.ADDED.clear()
    try:
        _add(name, plugin)
        yield
    finally:
        _loaded.clear()
        _loaded.update(before)
        primitives.ADDED[:] = added


def left_out(names: str | None) -> list[str]:
    """Those of the plugins of a configuration that are not loaded."""
    return [name for name in _each(names) if name not in _loaded]


def _each(names: str | None) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()] if names else []


def answer(whose: str, call: Callable[..., Answer], *arguments: Any, but: tuple[type[Exception], ...] = ()) -> Answer:
    """Calls a plugin's function and returns what it returns. Exceptions of the kinds `but` pass; for all others raises
    PluginFault, in which `whose` names the function."""
    try:
        return call(*arguments)
    except Exception as error:  # a plugin's own code can raise anything
        if isinstance(error, (PluginFault, *but)):
            raise
        raise PluginFault(f"{whose} raised {told(error)}") from error


def told(error: BaseException) -> str:
    """An exception in one line, with the file and line where it was raised."""
    place, frames = "", error.__traceback__
    while frames is not None:
        place, frames = f" ({os.path.basename(frames.tb_frame.f_code.co_filename)}:{frames.tb_lineno})", frames.tb_next
    return f"{type(error).__name__}: {' '.join(str(error).split()):.300}{place}"


def bringer(field_name: str, name: str) -> str:
    """In words, which plugin brings the strategy, kind of data, evaluator, measure or objective of that
    name; `field_name` is the field of Plugin."""
    found = [plugin for plugin, brought in _loaded.items() if name in getattr(brought, field_name)]
    return f"plugin {found[0]!r}" if found else "the program"


def _guarded(plugin: str, primitive: Primitive) -> Primitive:
    """The primitive with its functions wrapped: they raise PluginFault alone, and costs are whole numbers from 0."""

    def whose(part: str) -> str:
        return f"plugin {plugin!r}: `{part}` of primitive {primitive.name!r}"

    def cost(part: str, call: Callable[[int, int], int]) -> Callable[[int, int], int]:
        def checked(inputs: int, outputs: int) -> int:
            found: object = answer(whose(part), call, inputs, outputs)
            number = answers.whole(found)
            if number is None:
                raise PluginFault(f"{whose(part)}: expected a whole number from 0, got {found!r:.100}")
            return number

        return checked

    return replace(
        primitive,
        parameters=cost("parameters", primitive.parameters),
        multiply_adds=cost("multiply_adds", primitive.multiply_adds),
        build=lambda inputs, outputs: answer(whose("build"), primitive.build, inputs, outputs),
    )


def data() -> dict[str, DataKind]:
    """The kinds of data of all loaded plugins, by name."""
    return {kind: reader for plugin in _loaded.values() for kind, reader in plugin.data.items()}


def strategies() -> dict[str, Callable[[Any, Any], Any]]:
    """The strategies of all loaded plugins, by name."""
    return {name: make for plugin in _loaded.values() for name, make in plugin.strategies.items()}


def evaluators() -> dict[str, Callable[[Any, Any], Any]]:
    """The evaluators of all loaded plugins, by name."""
    return {name: make for plugin in _loaded.values() for name, make in plugin.evaluators.items()}


def measures() -> dict[str, Measure]:
    """The measures of all loaded plugins, by name."""
    return {name: measure for plugin in _loaded.values() for name, measure in plugin.measures.items()}


def objectives() -> dict[str, Objective]:
    """The objectives of all loaded plugins, by name."""
    return {name: objective for plugin in _loaded.values() for name, objective in plugin.objectives.items()}


def _found(name: str) -> Plugin:
    import importlib.metadata  # brings much that ranks without plugins do not need

    try:
        with search_path.for_plugins():
            points = importlib.metadata.entry_points(group=GROUP, name=name)
            found = next(iter(points)).load() if points else importlib.import_module(name).plugin
    except Exception as error:  # a plugin's own code can raise anything
        module = name.partition(".")[0]
        here = isinstance(error, ModuleNotFoundError) and (os.path.isdir(module) or os.path.isfile(f"{module}.py"))
        hint = " (it lies in the current folder, which is not searched: PYTHONPATH=$PWD names it)" if here else ""
        raise PluginError(
            f"expected plugin {name!r} as an entry point of the group {GROUP!r} or as a module with `plugin` in it, "
            f"but {type(error).__name__}: {error}{hint}; install it, or put its folder on PYTHONPATH"
        ) from None
    if not isinstance(found, Plugin):
        raise PluginError(f"plugin {name!r}: expected a hpcnas.plugins.Plugin, got {type(found).__name__}")
    return found


def _check(name: str, plugin: Plugin) -> None:
    """Raises PluginError for a value of a wrong type, for a name with other characters than letters, digits and
    hyphens, and for a name that another plugin has. `config` checks against the program's own names."""
    _check_types(name, plugin)
    ours = [*primitives.NAMES, *(one.name for one in primitives.ADDED)]
    for what, given, taken in (
        ("primitives", [one.name for one in plugin.primitives], ours),
        ("data", list(plugin.data), data()),
        ("strategies", list(plugin.strategies), strategies()),
        ("evaluators", list(plugin.evaluators), evaluators()),
        ("measures", list(plugin.measures), measures()),
        ("objectives", list(plugin.objectives), objectives()),
    ):
        for one in given:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", one):
                raise PluginError(f"plugin {name!r}: expected {what} named by letters, digits and hyphens, got {one!r}")
            if one in taken or given.count(one) > 1:
                raise PluginError(f"plugin {name!r}: expected {what} of new names, but {one!r} is there already")


def _check_types(name: str, plugin: Plugin) -> None:
    """Raises PluginError."""

    def expect(good: bool, what: str, expected: str, found: object) -> None:
        if not good:
            raise PluginError(f"plugin {name!r}: {what}: expected {expected}, got {type(found).__name__}")

    many: object = plugin.primitives
    expect(isinstance(many, tuple | list), "primitives", "a tuple of Primitive, (one,) for one", many)
    for place, primitive in enumerate(plugin.primitives):
        what = f"primitives[{place}]"
        expect(isinstance(primitive, Primitive), what, "a Primitive", primitive)
        expect(isinstance(primitive.name, str), f"{what}.name", "a str", primitive.name)
        for part in ("parameters", "multiply_adds", "build"):
            made = getattr(primitive, part)
            expect(callable(made), f"{what}.{part}", "a function of input and output channels", made)
    kinds = {"data": DataKind, "measures": Measure, "objectives": Objective}
    for field_name, value in (
        ("data", "a DataKind"), ("strategies", "a function"), ("evaluators", "a function"), ("measures", "a Measure"),
        ("objectives", "an Objective"),
    ):  # fmt: skip
        brought: object = getattr(plugin, field_name)
        expect(isinstance(brought, Mapping), field_name, f"a dict of names, each with {value}", brought)
        for key, one in getattr(plugin, field_name).items():
            expect(isinstance(key, str), f"a name in {field_name}", "a str", key)
            good = isinstance(one, kinds[field_name]) if field_name in kinds else callable(one)
            expect(good, f"{field_name}[{key!r}]", value, one)
    for kind, reader in plugin.data.items():
        expect(isinstance(reader.syntax, str), f"data[{kind!r}].syntax", "a str", reader.syntax)
        expect(callable(reader.read), f"data[{kind!r}].read", "a function", reader.read)
    for key, measure in plugin.measures.items():
        expect(callable(measure.of), f"measures[{key!r}].of", "a function of scores and labels", measure.of)
        larger: object = measure.larger_is_better
        expect(isinstance(larger, bool), f"measures[{key!r}].larger_is_better", "a bool", larger)
    for key, objective in plugin.objectives.items():
        expect(callable(objective.of), f"objectives[{key!r}].of", "a function", objective.of)
        trained: object = objective.trained
        expect(isinstance(trained, bool), f"objectives[{key!r}].trained", "a bool", trained)
        expect(isinstance(objective.words, str), f"objectives[{key!r}].words", "a str", objective.words)
