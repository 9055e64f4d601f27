"""What a setting is: a dataclass field with help text, bounds and choices, checked where its value enters.

The machinery behind `config`: it knows no particular setting. Standard library alone.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import field


class ConfigError(ValueError):
    """A setting that cannot be used: one line for the person who gave it."""


def setting(
    default: object,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    metavar: str | None = None,
    alterable: bool = False,
    option: str | None = None,
) -> typing.Any:
    """A field with its help text, inclusive bounds, choices, and whether a continued run may change it."""
    extra = {
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "metavar": metavar,
        "alterable": alterable,
        "option": option,
    }
    return field(default=default, metadata=extra)


class Section:
    """Checks every field of a section on construction: type, bounds, choices."""

    def __post_init__(self) -> None:
        for key, kind in field_types(type(self)).items():
            object.__setattr__(self, key, _checked(type(self), key, kind, getattr(self, key)))


def field_types(section: type) -> dict[str, type]:
    """The annotated type of every field of a section's class."""
    return typing.get_type_hints(section)


def base_type(kind: typing.Any) -> typing.Any:
    """The type without its `| None`."""
    if isinstance(kind, types.UnionType):
        return next(item for item in typing.get_args(kind) if item is not type(None))
    return kind


def _checked(section: type, key: str, kind: typing.Any, value: object) -> object:
    """The value as its field's type; raises ConfigError on a wrong type or one out of bounds."""
    limits = section.__dataclass_fields__[key].metadata  # type: ignore[attr-defined]
    name = f"{section.__name__.lower()}.{key}"
    if value is None and isinstance(kind, types.UnionType):
        return None
    kind = base_type(kind)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name}: expected a list of numbers, got {value!r}")
        return tuple(_number(name, float, item, limits) for item in value)
    if kind in (int, float):
        return _number(name, kind, value, limits)
    if not isinstance(value, kind):
        words = {bool: "true or false", str: "text"}
        raise ConfigError(f"{name}: expected {words[kind]}, got {value!r}")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise ConfigError(f"{name}: expected text in UTF-8, got {value!r}")  # TOML has no other
    if limits["choices"] and value not in limits["choices"]:
        raise ConfigError(f"{name}: expected one of {', '.join(limits['choices'])}; got {value!r}")
    return value


def _number(name: str, kind: type, value: typing.Any, limits: Mapping[str, typing.Any]) -> int | float:
    """A finite number of that kind within its bounds; raises ConfigError."""
    low, high = limits["low"], limits["high"]
    good = isinstance(value, int) or (kind is float and isinstance(value, float) and math.isfinite(value))
    if good and not isinstance(value, bool) and abs(value) < 2**63:  # what HDF5 and C take
        number = kind(value)
        if (low is None or number >= low) and (high is None or number <= high):
            return number
    bounds = f" ≥ {low}" if high is None else f" from {low} to {high}"
    raise ConfigError(f"{name}: expected {'an integer' if kind is int else 'a number'}{bounds}, got {value!r}")


def toml_value(value: object) -> str:
    """The value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the known word that was probably meant, or all of them."""
    candidates = list(known)
    import difflib  # seldom needed, and every rank is here

    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(candidates)}"
