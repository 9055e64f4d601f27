"""Own parts without a fork: primitives, data, strategies and evaluators that others bring (PLUGINS.md).

    --plugin NAME   an entry point of the group `hpcnas` that has this name, else the module NAME and its `plugin`

Nothing is loaded that was not asked for: what is installed changes no search. A run keeps the names, and every process
that opens it or works for it loads them again, once. Standard library alone; plugins must leave torch to their trainer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpcnas import primitives
from hpcnas.primitives import Primitive

GROUP = "hpcnas"


class PluginError(ValueError):
    """A plugin that cannot be used: one line for a person."""


@dataclass(frozen=True)
class DataKind:
    """Data that `--data KIND` or `--data KIND:REST` names.

    `read(rest, split, download)` gives (classes, pixels, labels) of a split, "train" or "test": names, uint8 of shape
    (N, H, W, 1 or 3), and int64 of shape (N,), numbers of classes. It raises `hpcnas.dataspec.DataError` for what a
    person must mend, and must not look at the other split.
    """

    syntax: str  # for messages, such as "spirals:N"
    read: Callable[[str, str, bool], tuple[tuple[str, ...], Any, Any]]


@dataclass(frozen=True)
class Plugin:
    """What a plugin brings, by name.

    `strategies` are called with the search's settings (`config.Search`) and its `evolution.Breeding`, and give an
    `evolution.Strategy`; `evaluators` with the configuration and the worker's `jobenv.Binding`, and give an
    `evaluation.Evaluator`.
    """

    primitives: tuple[Primitive, ...] = ()
    data: Mapping[str, DataKind] = field(default_factory=dict)
    strategies: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)
    evaluators: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)


_loaded: dict[str, Plugin] = {}


def load(names: str | None) -> None:
    """Loads plugins, several with commas, unless this process has them. Raises PluginError; none is added in part."""
    for name in names.split(",") if names else ():
        if name not in _loaded:
            found = _found(name)
            _check(name, found)
            primitives.ADDED.extend(found.primitives)
            _loaded[name] = found


def data() -> dict[str, DataKind]:
    """The kinds of data that plugins have brought."""
    return {kind: reader for plugin in _loaded.values() for kind, reader in plugin.data.items()}


def strategies() -> dict[str, Callable[[Any, Any], Any]]:
    """The strategies that plugins have brought."""
    return {name: make for plugin in _loaded.values() for name, make in plugin.strategies.items()}


def evaluators() -> dict[str, Callable[[Any, Any], Any]]:
    """The evaluators that plugins have brought."""
    return {name: make for plugin in _loaded.values() for name, make in plugin.evaluators.items()}


def _found(name: str) -> Plugin:
    import importlib.metadata  # brings much that ranks without plugins do not need

    points = importlib.metadata.entry_points(group=GROUP, name=name)
    try:
        found = next(iter(points)).load() if points else importlib.import_module(name).plugin
    except Exception as error:  # a plugin's own code can raise anything
        raise PluginError(
            f"expected plugin {name!r} as an entry point of the group {GROUP!r} or as a module with `plugin` in it, "
            f"but {type(error).__name__}: {error}; install it, or put its folder on PYTHONPATH"
        ) from None
    if not isinstance(found, Plugin):
        raise PluginError(f"plugin {name!r}: expected a hpcnas.plugins.Plugin, got {type(found).__name__}")
    return found


def _check(name: str, plugin: Plugin) -> None:
    """Raises PluginError for what is not of the type that `Plugin` says, and for names that are no names or that
    another plugin has (`config` knows the program's own)."""
    _check_types(name, plugin)
    ours = [*primitives.NAMES, *(one.name for one in primitives.ADDED)]
    for what, given, taken in (
        ("primitives", [one.name for one in plugin.primitives], ours),
        ("data", list(plugin.data), data()),
        ("strategies", list(plugin.strategies), strategies()),
        ("evaluators", list(plugin.evaluators), evaluators()),
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
    for field_name, value in (("data", "a DataKind"), ("strategies", "a function"), ("evaluators", "a function")):
        brought: object = getattr(plugin, field_name)
        expect(isinstance(brought, Mapping), field_name, f"a dict of names, each with {value}", brought)
        for key, one in getattr(plugin, field_name).items():
            expect(isinstance(key, str), f"a name in {field_name}", "a str", key)
            good = isinstance(one, DataKind) if field_name == "data" else callable(one)
            expect(good, f"{field_name}[{key!r}]", value, one)
    for kind, reader in plugin.data.items():
        expect(isinstance(reader.syntax, str), f"data[{kind!r}].syntax", "a str", reader.syntax)
        expect(callable(reader.read), f"data[{kind!r}].read", "a function", reader.read)
