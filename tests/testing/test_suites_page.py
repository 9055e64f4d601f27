"""The suites as PLUGINS.md has them: its plugins pass, in a project of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_plugins import MODULES, PAGE

from hpcnas import plugins
from hpcnas.testing.data import DataContract
from hpcnas.testing.evaluators import EvaluatorContract
from hpcnas.testing.primitives import PrimitiveContract
from hpcnas.testing.strategies import StrategyContract


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others of this process may have loaded plugins of the same names."""
    monkeypatch.delenv(plugins.VARIABLE, raising=False)


def test_the_pages_plugins_import_from_one_place() -> None:
    for name, code in MODULES.items():
        assert set(re.findall(r"^(?:from|import) (hpcnas[\w.]*)", code, flags=re.MULTILINE)) == {"hpcnas.plugins"}, name


def test_the_one_place_has_all_that_the_page_names() -> None:
    (table,) = re.findall(r"^\| for \| names \|\n(.*?)\n\n", PAGE, flags=re.MULTILINE | re.DOTALL)
    names = re.findall(r"`(\w+)`", table)
    assert "Breeding" in names and [name for name in names if not hasattr(plugins, name)] == []
    assert {name for there in plugins._ELSEWHERE.values() for name in there} <= set(names)
    with pytest.raises(AttributeError, match="module 'hpcnas.plugins' has no attribute 'Nothing'"):
        plugins.Nothing  # type: ignore[attr-defined]  # noqa: B018


def test_the_pages_plugins_pass_the_suites_as_the_page_says(tmp_path: Path) -> None:
    """In a project of their own: the page's modules and the page's file of tests."""
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    ((name, tests),) = re.findall(r"^`(test_\w+\.py)`:\n\n```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / name).write_text(tests, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) == sum(
        name.startswith("test_")
        for suite in (PrimitiveContract, DataContract, StrategyContract, EvaluatorContract)
        for name in vars(suite)
    )


def test_a_suite_needs_no_pytest() -> None:
    names = "strategies", "evaluators", "data", "primitives", "stores"
    code = f"import sys, importlib\n[importlib.import_module('hpcnas.testing.' + name) for name in {names}]"
    check = f"{code}\nprint('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
