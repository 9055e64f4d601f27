"""SECURITY.md names every file that executes, unpickles, imports by name or listens, and says what."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
MODULES = {
    *("code", "ctypes", "dill", "importlib", "joblib", "marshal", "multiprocessing", "pickle", "pty", "runpy"),
    *("shelve", "socket", "socketserver", "http", "subprocess", "urllib", "xmlrpc", "yaml", "zipimport"),
}
CALLS = {
    *("eval", "exec", "compile", "__import__", "import_module", "entry_points", "run_path", "run_module"),
    "read_pickle",
}
METHODS = {
    **{("os", name): f"os.{name}" for name in ("system", "popen", "execv", "execve", "execvp", "posix_spawn", "fork")},
    **{(module, name): f"{module}.{name}" for module, name in (
        ("torch", "load"), ("np", "load"), ("numpy", "load"), ("pickle", "loads"), ("pickle", "load"),
        ("jit", "load"), ("onnx", "load"), ("onnx", "load_from_string"), ("onnxruntime", "InferenceSession"),
    )},
}  # fmt: skip

OTHERS = {("re", "compile")}
HARMLESS = {
    "socket": {"socket.gethostname"},
    "importlib": {
        *("importlib.metadata", "importlib.metadata.version"),
        *("importlib.util", "importlib.util.find_spec"),  # of a name without dots: looks, and imports nothing
    },
    "urllib": {"urllib.parse", "urllib.parse.urlsplit"},
}

# file: what of the above it uses. Whoever adds a line says in SECURITY.md what is executed or read there, and whose.
USES = {
    "hpcnas/analysis/export.py": {"onnx.load_from_string"},
    "hpcnas/analysis/prediction.py": {"onnxruntime.InferenceSession"},
    "hpcnas/analysis/host_usage.py": {"subprocess"},
    "hpcnas/analysis/network_template.txt": {"torch.load"},
    "hpcnas/training/checkpoints.py": {"torch.load"},
    "hpcnas/command/__main__.py": {"import_module", "importlib"},
    "hpcnas/data/array_files.py": {"np.load"},
    "hpcnas/data/datasets.py": {"np.load"},
    "hpcnas/retrain/process_group.py": {"socket"},
    "hpcnas/training/trainer_process.py": {"multiprocessing", "socket", "subprocess"},
    "hpcnas/__init__.py": {"import_module", "importlib"},
    "hpcnas/renamed.py": {"__import__", "importlib"},
    "hpcnas/architecture/genotype.py": {"importlib"},
    "hpcnas/retrain/loaders.py": {"multiprocessing"},
    "hpcnas/training/interpreter.py": {"subprocess"},
    "hpcnas/job/devices.py": {"subprocess"},
    "hpcnas/training/cpu/kernels.py": {"ctypes", "subprocess"},
    "hpcnas/plugins.py": {"entry_points", "import_module", "importlib"},
    "hpcnas/retrain/compiling.py": {"compile"},
    "hpcnas/job/allocator.py": {"ctypes"},
    "hpcnas/training/trainer_loop.py": {"multiprocessing"},
    "hpcnas/data/torchvision_shim.py": {"import_module", "importlib"},
    "hpcnas/training/trainer.py": {"ctypes", "multiprocessing"},
    "hpcnas/job/walltime.py": {"subprocess"},
    "hpcnas/analysis/arena.py": {"multiprocessing"},
    "hpcnas/command/serve.py": {"socket"},
    "hpcnas/dashboard/application.py": {"urllib"},
    "hpcnas/dashboard/guard.py": {"http", "urllib"},
    "tools/bench_controller.py": {"subprocess"},
    "tools/bench_retraining.py": {"subprocess"},
    "tools/bench_serve.py": {"subprocess", "urllib"},
    "tools/bench_training.py": {"subprocess"},
}


def uses_of(path: Path) -> set[str]:
    """Modules, functions and methods of the lists above that a file names."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module.partition(".")[0]} & MODULES
        elif isinstance(node, ast.Call):
            found |= uses_of_call(node)
    for module, harmless in HARMLESS.items():
        named = {name for name in attributes if name.startswith(f"{module}.")}
        if named and named <= harmless:
            found.discard(module)
    return found


def uses_of_call(node: ast.Call) -> set[str]:
    """Of the functions and methods above, that which a call calls."""
    if isinstance(node.func, ast.Name):
        return {node.func.id} & CALLS
    if not isinstance(node.func, ast.Attribute):
        return set()
    owner, method = node.func.value, node.func.attr
    name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    if method in CALLS and (name, method) not in OTHERS and method != "eval":  # a network's eval() is another thing
        return {method}
    return {METHODS[name, method]} if (name, method) in METHODS else set()


FILES = sorted(
    [
        *(path for folder in ("hpcnas", "tools") for path in (ROOT / folder).rglob("*.py")),
        ROOT / "hpcnas/analysis/network_template.txt",  # Python, once it is filled in
    ]
)


def test_every_use_stands_in_the_list() -> None:
    found = {str(path.relative_to(ROOT)): uses for path in FILES if (uses := uses_of(path))}
    assert found == USES


@pytest.mark.parametrize("file", sorted({*USES, "hpcnas/job/world.py"}))
def test_the_page_has_a_line_for_it(file: str) -> None:
    assert f"`{file}`" in PAGE


def test_the_page_names_no_file_that_is_not_there() -> None:
    for file in re.findall(r"`((?:hpcnas|tools|tests)/[\w/]+\.\w+)`", PAGE):
        assert (ROOT / file).is_file(), file


def test_what_can_be_a_pickle_is_read_as_none() -> None:
    """Literally, at each call: no default is relied upon."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and uses_of_call(node) & {"torch.load", "np.load"}:
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("weights_only") == "True" or given.get("allow_pickle") == "False", path


@pytest.mark.parametrize(
    ("code", "uses"),
    [
        ("import pickle", {"pickle"}),
        ("from importlib import metadata", {"importlib"}),
        ("def f():\n    import subprocess as s", {"subprocess"}),
        ("eval('1')", {"eval"}),
        ("torch.load(path)", {"torch.load"}),
        ("torch.jit.load(path)", {"jit.load"}),
        ("os.system('x')", {"os.system"}),
        ("library.import_module('x')", {"import_module"}),
        ("re.compile('x')", set()),
        ("import socket\nsocket.gethostname()", set()),
        ("import socket\nsocket.gethostname()\nsocket.socket()", {"socket"}),
        ("import importlib.metadata\nimportlib.metadata.version('x')", set()),
        ("network.eval()", set()),
    ],
)
def test_uses_are_seen(code: str, uses: set[str], tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text(code)
    assert uses_of(tmp_path / "file.py") == uses
