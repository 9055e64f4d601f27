"""What a setting is: a dataclass field with help text, bounds and choices, checked where its value enters; and what a
scheme of sections is, with presets and TOML.

`search` and `retraining` are made of it; it knows no particular setting. Standard library alone.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hpcnas import text_file
from hpcnas.config import durations
from hpcnas.errors import Error
from hpcnas.text_file import shown

Whole = TypeVar("Whole")
Settings = Mapping[str, Mapping[str, object]]
"""Values as they were given, section → key → value: by a preset, a file, or the command line."""


class ConfigError(Error, ValueError):
    """A setting that cannot be used: one line for the person who gave it, whatever they gave."""

    def __init__(self, text: str) -> None:
        super().__init__(text_file.brief(text))


def setting(
    default: object,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    metavar: str | None = None,
    alterable: bool = False,
    once: bool = False,
    option: str | None = None,
    duration: bool = False,
    paths_after: str | None = None,
    after: str | None = None,
    instead_of: str | None = None,
) -> typing.Any:
    """The field of a setting.

    `low` and `high` are inclusive. A continued run may change an `alterable` setting; a `once` setting holds only for
    the job that it was given to. `option` is its name on the command line, where that is another. A `duration` is in
    seconds and may be written as `durations` reads it. In a text with `paths_after`, ~ means a home directory, at the
    beginning and after each of those signs. A field stands `after` another one of its section, else after the field
    that the class defines before it. Where a field has a value, it stands for the one that it is given `instead_of`,
    whose value is then made of it."""
    extra = {
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "metavar": metavar,
        "alterable": alterable or once,
        "once": once,
        "option": option,
        "duration": duration,
        "paths_after": paths_after,
        "after": after,
        "instead_of": instead_of,
    }
    return field(default=default, metadata=extra)


def with_default(default: object, section: type[Section], key: str) -> typing.Any:
    """A field like the one of another section, with another default."""
    return field(default=default, metadata=section.__dataclass_fields__[key].metadata)


class Section:
    """A section of settings; `section` is its name in TOML.

    Making one checks the type, bounds and choices of each field. Raises ConfigError."""

    section: typing.ClassVar[str]
    __dataclass_fields__: typing.ClassVar[dict[str, dataclasses.Field[typing.Any]]]

    def __init_subclass__(cls, section: str) -> None:
        cls.section = section

    def __post_init__(self) -> None:
        for key, kind in field_types(type(self)).items():
            object.__setattr__(self, key, _checked(type(self), key, kind, getattr(self, key)))


def fields_of(section: type[Section]) -> list[dataclasses.Field[typing.Any]]:
    """The fields of a section's class in the order of TOML and --help, where `after` has put them."""
    result: list[dataclasses.Field[typing.Any]] = []
    place = 0
    for item in dataclasses.fields(section):
        if (after := item.metadata["after"]) is not None:
            place = [other.name for other in result].index(after) + 1
        result.insert(place, item)
        place += 1
    return result


def _replacements(section: type[Section]) -> list[tuple[str, str]]:
    """The fields of a section's class that may be given instead of others, each with that other one."""
    return [(item.name, other) for item in dataclasses.fields(section) if (other := item.metadata["instead_of"])]


def field_types(section: type[Section]) -> Mapping[str, type]:
    """The annotated type of every field of a section's class, in the order of `fields_of`."""
    if section not in _field_types:
        hints = typing.get_type_hints(section)
        _field_types[section] = {item.name: hints[item.name] for item in fields_of(section)}
    return _field_types[section]


_field_types: dict[type, Mapping[str, type]] = {}  # evaluating annotations takes a tenth of a millisecond each


def base_type(kind: typing.Any) -> typing.Any:
    """The type without its `| None`, if it has one."""
    if isinstance(kind, types.UnionType):
        return next(item for item in typing.get_args(kind) if item is not type(None))
    return kind


def _checked(section: type[Section], key: str, kind: typing.Any, value: object) -> object:
    """The value as its field's type. Raises ConfigError for another type, and for a value out of bounds."""
    limits = section.__dataclass_fields__[key].metadata
    name = f"{section.section}.{key}"
    if value is None and isinstance(kind, types.UnionType):
        return None
    kind = base_type(kind)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name}: expected a list of numbers, got {shown(value)}")
        (member, _) = typing.get_args(kind)
        return tuple(_number(name, member, item, limits) for item in value)
    if limits["duration"] and isinstance(value, str):
        try:
            value = durations.seconds(value)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None
    if kind in (int, float):
        return _number(name, kind, value, limits)
    if not isinstance(value, kind):
        words = {bool: "true or false", str: "text"}
        raise ConfigError(f"{name}: expected {words[kind]}, got {shown(value)}")
    if isinstance(value, str) and "\0" in value:  # no name can have one, of a file or of anything else
        raise ConfigError(f"{name}: expected text without null characters, got {shown(value)}")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise ConfigError(f"{name}: expected text in UTF-8, got {shown(value)}")  # TOML has no other
    if limits["choices"] and value not in limits["choices"]:
        raise ConfigError(none_of(name, value, limits["choices"]))
    if isinstance(value, str) and limits["paths_after"] is not None:
        return at_home(value, limits["paths_after"])
    return value


def at_home(text: str, after: str = "") -> str:
    """The text with ~ and ~user at the beginning of a path replaced by that home directory.

    A path begins with the text, and after each of the signs `after`. Shells do not replace ~ within a word, as in
    --run=~/runs/a, and TOML does not at all."""
    if "~" not in text:
        return text
    parts = re.split(f"([{re.escape(after)}])", text) if after else [text]
    return "".join(os.path.expanduser(part) if part.startswith("~") else part for part in parts)


def _number(name: str, kind: type, value: typing.Any, limits: Mapping[str, typing.Any]) -> int | float:
    """A finite number of that kind within its bounds. Raises ConfigError."""
    low, high = limits["low"], limits["high"]
    good = isinstance(value, int) or (kind is float and isinstance(value, float) and math.isfinite(value))
    if good and not isinstance(value, bool) and abs(value) < 2**63:  # what HDF5 and C take
        number = kind(value)
        if (low is None or number >= low) and (high is None or number <= high):
            return number
    bounds = f" ≥ {low}" if high is None else f" from {low} to {high}"
    raise ConfigError(f"{name}: expected {'an integer' if kind is int else 'a number'}{bounds}, got {shown(value)}")


@dataclass(frozen=True)
class Scheme(Generic[Whole]):
    """The sections that make one configuration, and the presets that it may start from."""

    whole: Callable[..., Whole]  # the dataclass of all sections, which checks that they fit together
    sections: Mapping[str, type[Section]]
    presets: Mapping[str, Settings]
    default_preset: str

    def preset(self, name: str) -> Settings:
        """The settings of a preset. Raises ConfigError for an unknown name."""
        if name not in self.presets:
            known = ", ".join(self.presets)
            raise ConfigError(f"expected a preset ({known}), got {shown(name)}{nearest(name, self.presets)}")
        return self.presets[name]

    def build(self, *layers: Settings) -> Whole:
        """The configuration that the layers give: of a setting in several layers, the last one counts.

        Raises ConfigError, for an unknown section or key with the nearest known one.
        """
        merged: dict[str, dict[str, object]] = {name: {} for name in self.sections}
        for layer in layers:
            for section, values in layer.items():
                if section not in self.sections:
                    raise ConfigError(f"unknown section [{section:.100}]{nearest(section, self.sections)}")
                if not isinstance(values, Mapping):
                    raise ConfigError(f"expected [{section}] to be a section, got {shown(values)}")
                known = field_types(self.sections[section])
                for key in values:
                    if key not in known:
                        raise ConfigError(f"unknown setting {shown(key)} in [{section}]{nearest(key, known)}")
                for key, other in _replacements(self.sections[section]):
                    if None not in (values.get(key), values.get(other)):
                        raise ConfigError(f"expected {section}.{key} or {section}.{other}, got both")
                    for given, undone in ((key, other), (other, key)):
                        if values.get(given) is not None:
                            merged[section].pop(undone, None)
                merged[section].update(values)
        return self.whole(**{name: kind(**merged[name]) for name, kind in self.sections.items()})

    def settings(self, whole: Whole) -> dict[str, dict[str, object]]:
        """Every setting of a configuration, section → key → value."""
        return {
            name: {item.name: getattr(getattr(whole, name), item.name) for item in fields_of(kind)}
            for name, kind in self.sections.items()
        }

    def _given(self, whole: Whole) -> dict[str, dict[str, object]]:
        """Every setting of a configuration but those that others stand for."""
        found = self.settings(whole)
        for name, section in self.sections.items():
            for key, other in _replacements(section):
                if found[name][key] is not None:
                    del found[name][other]
        return found

    def lasting(self, whole: Whole) -> dict[str, dict[str, object]]:
        """The settings that a continued run begins with: all but those of the last job alone."""
        found = self._given(whole)
        for name, section in self.sections.items():
            for item in fields_of(section):
                if item.metadata["once"]:
                    del found[name][item.name]
        return found

    def toml(self, whole: Whole) -> str:
        """A configuration as TOML, without the settings that have no value or are made of others; `parse_toml` reads it
        back."""
        lines = []
        for name, values in self._given(whole).items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {toml_value(value)}" for key, value in values.items() if value is not None]
            lines.append("")
        return "\n".join(lines)

    def parse_toml(self, text: str, source: str) -> tuple[Settings, str | None]:
        """The settings of a TOML text, and the preset that it names at its top, if any.

        Raises ConfigError, in which `source` names the text."""
        import tomllib  # only where there is a text, and every rank is here

        try:
            document = tomllib.loads(text)
        except ValueError as error:  # TOMLDecodeError is one, a number of 5,000 digits another
            raise ConfigError(f"{source}: expected TOML, but it cannot be read: {error}") from None
        except RecursionError:
            raise ConfigError(f"{source}: expected TOML, but it is nested too deep") from None
        name = document.pop("preset", None)
        if name is not None and not isinstance(name, str):
            raise ConfigError(f'{source}: expected preset = "NAME", got {shown(name)}')
        try:
            self.build(document)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None
        return document, name

    def differences(self, stored: Whole, given: Whole) -> list[str]:
        """Settings that a continued run may not change and that differ, as lines `section.key: stored → given`."""
        found = []
        for name, section in self.sections.items():
            for item in fields_of(section):
                old, new = getattr(getattr(stored, name), item.name), getattr(getattr(given, name), item.name)
                if old != new and not item.metadata["alterable"]:
                    found.append(f"{name}.{item.name}: {old} → {new}")
        return found

    def departures(self, usual: Whole, found: Whole, aside: Collection[str]) -> str:
        """The settings that differ from the usual ones and that a continued run may not change, as `key value, …`.

        Those of `aside`, as `section.key`, are left out."""
        changed = (line.split(": ", 1) for line in self.differences(usual, found))
        told = {name: values.rpartition(" → ")[2] for name, values in changed if name not in aside}
        return ", ".join(f"{name.partition('.')[2]} {value}" for name, value in told.items())


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
    return meant(word, candidates, 0.5) or f"; known: {', '.join(candidates)}"


def meant(word: object, known: Iterable[str], likeness: float = 0.7) -> str:
    """The end of an error message: the known word that was probably meant, or nothing where none is like it."""
    import difflib  # seldom needed, and every rank is here

    close = difflib.get_close_matches(str(word)[:100], list(known), n=1, cutoff=likeness)
    return f"; did you mean {close[0]!r}?" if close else ""


def none_of(name: str, value: object, known: Iterable[str]) -> str:
    """The message about a value that a setting does not have."""
    candidates = list(known)
    return f"{name}: expected one of {', '.join(candidates)}; got {shown(value)}{meant(value, candidates)}"
