"""The evaluator of a plugin, held to its word: what it raises is told as its own, and its numbers are Python's.

    raises EvaluatorRefused from `ready`, `start` or `poll`,
    or in being made                                         the worker goes out of use, as with any evaluator
    raises anything else                                     PluginFault: the job ends, for a person to mend the plugin
    answers what is no evaluation                            a failure of that individual (`evaluation.checked`)

It is made at the first look whether it is ready, where all of that is caught.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from hpcnas import answers, plugins
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.job.devices import Binding
from hpcnas.messages import Outcome, Task
from hpcnas.plugins import PluginFault
from hpcnas.storage import allowed
from hpcnas.training.evaluator import Evaluator, EvaluatorRefused, Loaded, warnings

_logger = logging.getLogger("hpcnas")


class PluggedEvaluator:
    """The evaluator that a plugin brings under the configured name; `whose` says which, in messages."""

    def __init__(self, config: SearchConfig, binding: Binding) -> None:
        name = config.evaluation.evaluator
        self.whose = f"{plugins.bringer('evaluators', name)}: evaluator {name!r}"
        self._make = plugins.evaluators()[name], config, binding
        self._inner: Evaluator | None = None
        self._broken = False

    def ready(self, timeout: float) -> Loaded | None:
        if self._inner is None:
            self._inner = self._answer("", *self._make)
        found: object = self._call("ready", timeout)
        return None if found is None else self._loaded(found)

    def start(self, task: Task) -> None:
        self._call("start", task)

    def poll(self, timeout: float) -> Outcome | None:
        outcome: Outcome | None = self._call("poll", timeout)  # as far as it says; the worker checks it
        return outcome

    def warnings(self) -> list[str]:
        if (inner := self._inner) is None or self._broken:
            return []
        return self._answer(": `warnings`", lambda: [str(text) for text in warnings(inner)])

    def save(self, timeout: float) -> None:
        self._try("save", timeout)

    def close(self) -> None:
        self._try("close")

    def _try(self, method: str, *arguments: object) -> None:
        """In leaving: what goes wrong there changes no result."""
        if self._inner is None or (self._broken and method != "close"):
            return
        try:
            self._call(method, *arguments)
        except (PluginFault, EvaluatorRefused) as fault:
            _logger.warning("%s", fault)

    def _call(self, method: str, *arguments: object) -> Any:
        return self._answer(f": `{method}`", lambda: getattr(self._inner, method)(*arguments))

    def _answer(self, what: str, call: Any, *arguments: object) -> Any:
        try:
            return plugins.answer(f"{self.whose}{what}", call, *arguments, but=(EvaluatorRefused,))
        except PluginFault:
            self._broken = True
            raise

    def _loaded(self, found: object) -> Loaded:
        """What `ready` has given, with Python's numbers and texts. Raises PluginFault for anything else."""
        if not isinstance(found, Loaded):
            raise PluginFault(f"{self.whose}: expected Loaded or None from `ready`, got {type(found).__name__}")
        facts: object = found.facts
        software: object = found.software
        if not isinstance(facts, DataFacts) or not isinstance(software, Mapping):
            kinds = f"{type(facts).__name__} and {type(software).__name__}"
            raise PluginFault(f"{self.whose}: expected DataFacts and a dict of software in Loaded, got {kinds}")
        known: dict[str, Any] = {name: str(getattr(facts, name)) for name in ("fingerprint", "split")}
        for name in (one.name for one in fields(DataFacts) if one.type == "int"):
            known[name] = answers.whole(getattr(facts, name))
            if known[name] is None:
                given = getattr(facts, name)
                raise PluginFault(f"{self.whose}: expected a whole number for {name}, got {answers.told(given)}")
        texts = {str(name): str(value) for name, value in software.items()}
        try:
            checked = allowed.facts(known)
        except ValueError as error:
            raise PluginFault(f"{self.whose}: {error}") from None
        return replace(found, facts=checked, software=texts, slower=str(found.slower or ""))
