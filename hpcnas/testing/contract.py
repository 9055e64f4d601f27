"""What the suites share: the plugin that is tested, loaded for a while, and failing with one sentence."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator

import numpy as np

from hpcnas import plugins
from hpcnas.config.data_spec import DataFacts
from hpcnas.plugins import Plugin

TESTED = "tested"  # the name that the plugin has in messages
FACTS = DataFacts(3, 32, 32, 10, 40_000, 10_000, "tested")  # as if it were CIFAR-10


def expect(condition: object, sentence: str) -> None:
    """Fails the test with a sentence unless the condition holds."""
    __tracebackhide__ = True
    if not condition:
        raise AssertionError(sentence)


def only(name: str, brought: Iterable[str], what: str) -> str:
    """The name of what is tested: the one that the suite says, else the only one that the plugin brings."""
    names = list(brought)
    if name:
        expect(name in names, f"expected the {what} {name!r} in the plugin, got {names}")
        return name
    expect(len(names) == 1, f"expected a plugin that brings one {what}, or `name` in the suite, got {names}")
    return names[0]


@contextlib.contextmanager
def loaded(plugin: Plugin, name: str = TESTED) -> Iterator[None]:
    """Within it, this plugin is loaded under that name, and no other is. Fails for what is no Plugin: a module, say."""
    given: object = plugin
    expect(
        isinstance(given, Plugin),
        f"expected for `plugin` of the suite a hpcnas.plugins.Plugin, got {type(given).__name__}",
    )
    with plugins.alone(name, plugin), plugins.named_here():
        yield


def stir(seed: int) -> None:
    """Sets the global generators to something: what may depend on nothing global does not notice."""
    random.seed(seed)
    np.random.seed(seed)
