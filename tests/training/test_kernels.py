"""Compiling, keeping and loading kernels: whatever is in a cache, and whatever a compiler does."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from demand import absent

from hpcnas.training import caches
from hpcnas.training.cpu import kernels
from hpcnas.training.cpu.kernels import NoKernels


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder of this test's own, and no temporary folder but one."""
    kernels.load.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("CC", "cc -O0")  # compiles in no time
    monkeypatch.setattr(caches, "_TEMPORARY", ())
    (tmp_path / "tmp").mkdir()
    yield tmp_path / "cache" / "hpcnas"
    kernels.load.cache_clear()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler but CC."""
    monkeypatch.setattr(kernels, "_COMPILERS", ())


def temporary(tmp_path: Path) -> Path:
    return tmp_path / "tmp" / f"hpcnas-{os.getuid()}"


def works(found: kernels.Kernels) -> bool:
    values, gradients, velocity = (kernels.aligned(16, found.real) for _ in range(3))
    gradients[:] = 1.0
    found.update(values, gradients, velocity, 0.5, 0.0, 0.0)
    return values.tolist() == [-0.5] * 16


def only(folder: Path) -> Path:
    """The one file there, which is whole."""
    (path,) = folder.iterdir()
    content = path.read_bytes()
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]
    return path


def loaded() -> kernels.Kernels:
    """As in a new process."""
    kernels.load.cache_clear()
    return kernels.load()


# ── the cache ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_compiled_once_and_found_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert works(loaded())
    path = only(cache)
    before = path.stat()
    monkeypatch.setattr(kernels, "_compiled", None)  # would be called
    assert works(loaded()) and loaded().drawbacks == ()
    assert path.stat() == before


def other_machine(content: bytes) -> bytes:
    """The library, for another processor (ELF's e_machine), with the right checksum."""
    library = bytearray(content[:-32])
    library[18] ^= 0xFF
    return bytes(library) + hashlib.sha256(library).digest()


def another_library(content: bytes) -> bytes:
    """A library of other functions, with the right checksum."""
    library = Path(sys.modules["_ctypes"].__file__ or "").read_bytes()
    return library + hashlib.sha256(library).digest()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20_000],
        lambda content: content[:-1],
        lambda content: content[:30_000] + bytes([content[30_000] ^ 1]) + content[30_001:],
        lambda content: b"#!/bin/sh\n",
        other_machine,
        another_library,
    ],
    ids=["empty", "cut", "a byte short", "a bit turned", "a text", "another machine", "other functions"],
)
def test_what_is_damaged_is_made_anew(damage: Callable[[bytes], bytes], cache: Path) -> None:
    loaded()
    path = only(cache)
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(damage(whole))
    code = "from hpcnas.training.cpu import kernels; print(kernels.load().drawbacks)"  # where SIGBUS would show
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "()\n"), done.stderr
    assert only(cache).stat().st_size == len(whole)


def test_a_half_that_a_kill_has_left_is_in_nobodys_way(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / ".kernels-abc.tmp").mkdir()
    (cache / ".kernels-0.so.17.tmp").write_bytes(b"half")
    assert works(loaded())


def test_several_processes_at_once(cache: Path) -> None:
    code = "from hpcnas.training.cpu import kernels; kernels.load()"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [one.wait() for one in started] == [0, 0, 0]
    assert works(loaded()) and only(cache)


def test_where_the_cache_is_a_file_a_temporary_folder_serves(cache: Path, tmp_path: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("")
    found = loaded()
    assert works(found) and found.drawbacks == (f"{cache}: File exists",)
    assert only(temporary(tmp_path)) and temporary(tmp_path).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_a_temporary_folder_serves(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.chdir(tmp_path)
    if home is None:  # and no entry among the users
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", home or "~/x")
    assert works(loaded())
    assert only(temporary(tmp_path)) and [path.name for path in tmp_path.iterdir()] == ["tmp"]


def test_nothing_is_loaded_from_a_folder_that_others_can_write(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.parent.write_text("")
    temporary(tmp_path).mkdir(mode=0o777)
    temporary(tmp_path).chmod(0o777)
    with pytest.raises(NoKernels, match="others may write there"):
        loaded()
    assert not list(temporary(tmp_path).iterdir())


def test_nothing_is_loaded_from_a_cache_that_others_can_write(cache: Path, tmp_path: Path) -> None:
    """The checksum of a library stands in its own file."""
    assert works(loaded()) and loaded().drawbacks == ()
    cache.chmod(0o777)
    found = loaded()
    assert works(found) and found.drawbacks == (f"{cache}: others may write there",)
    assert only(temporary(tmp_path))


@pytest.mark.parametrize(
    ("owner", "mode", "trusted"),
    [(0, 0o755, True), (0, 0o757, False), (1, 0o755, False), ("me", 0o775, True), ("me", 0o757, False)],
)
def test_whose_folders_are_trusted(
    owner: int | str, mode: int, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    found = SimpleNamespace(st_uid=1000 if owner == "me" else owner, st_mode=mode)
    monkeypatch.setattr(Path, "stat", lambda _: found)
    with nullcontext() if trusted else pytest.raises(caches.DoesNotServe, match="others may write there"):
        caches.look_into(Path("/scratch/hpcnas"))


def test_a_cache_that_is_made_without_an_umask_serves(cache: Path) -> None:
    before = os.umask(0)
    try:
        assert works(loaded()) and loaded().drawbacks == () and only(cache)
    finally:
        os.umask(before)


def test_a_folder_that_only_can_be_read_serves_with_what_it_holds(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded()

    def prepare(folder: Path) -> None:
        raise caches.DoesNotServe("Read-only file system")

    monkeypatch.setattr(caches, "prepare", prepare)
    assert works(loaded()) and loaded().drawbacks == ()


def mounted(tmp_path: Path, options: str) -> Path:
    """A file system that ends with its test's process; the test is skipped where mounting is not allowed."""
    place = tmp_path / "mounted"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        absent(f"no mounting here: {done.stderr.strip()}", "HPCNAS_DEMAND_MOUNT")
    return place


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("size=64k", "No space left on device"),
        ("size=1100k", "No space left on device"),  # room, but not for a library beside what the compiler writes
        ("noexec", "nothing may be executed there"),
        ("ro", "Read-only file system"),
    ],
)
@pytest.mark.usefixtures("alone")
def test_where_the_cache_does_not_serve_a_temporary_folder_does(
    options: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = mounted(tmp_path, options)
    try:
        if options == "size=1100k":
            (place / "other").write_bytes(bytes(1_060_000))
            monkeypatch.setattr(caches, "_ROOM", 1)
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        found = loaded()
        assert works(found) and only(temporary(tmp_path))
        (drawback,) = found.drawbacks
        assert drawback.startswith(f"{place}/hpcnas: ") and (why in drawback or options == "size=1100k")
        monkeypatch.setenv("TMPDIR", str(place))
        with pytest.raises(NoKernels):
            loaded()
    finally:
        subprocess.run(["umount", place], check=True)


# ── the compiler ────────────────────────────────────────────────────────────────────────────────────────────────────
def compiler(tmp_path: Path, script: str) -> str:
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo no licence >&2; exit 1", "ended with 1: no licence"),
        ("exit 1", "ended with 1: without a word"),
        ("kill -SEGV $$", "ended with -11: without a word"),
        ("exit 0", "cannot open shared object file"),  # it made nothing
        ('while [ "$1" != -o ]; do shift; done; echo garbage >"$2"', "file too short|invalid ELF header"),
        ('while [ "$1" != -o ]; do shift; done; head -c 99999 /dev/zero >"$2"', "invalid ELF header"),
        ("head -c 9999999 /dev/urandom; exit 3", "ended with 3"),
        ("sleep 1000", "not done after 0.5 s"),
    ],
)
@pytest.mark.usefixtures("alone")
def test_a_compiler_that_does_not_serve(
    script: str, why: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in script:
        monkeypatch.setattr(kernels, "_PATIENCE", 0.5)
        script = f"exec {script}"  # so that nothing of it is left
    monkeypatch.setenv("CC", compiler(tmp_path, script))
    with pytest.raises(NoKernels, match=why):
        loaded()
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.usefixtures("alone")
def test_a_library_that_is_cut_short_by_its_compiler_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten = 'for last; do case "$before" in -o) out=$last;; esac; before=$last; done; truncate -s 9000 "$out"'
    monkeypatch.setenv("CC", compiler(tmp_path, f'gcc "$@" -O0 || exit 1\n{shorten}'))
    with pytest.raises(NoKernels, match=r"ended with -7|file too short|cannot read|ELF"):
        loaded()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("named", ["/no/compiler/here", "", "  ", "'", "."])
def test_without_a_compiler_there_are_no_kernels(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", named)
    with pytest.raises(NoKernels, match=r"No such file|no C compiler is found|Permission denied"):
        loaded()


def test_another_compiler_takes_the_place_of_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/no/compiler/here")
    found = loaded()
    assert works(found) and found.drawbacks == ("/no/compiler/here: No such file or directory",)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="an option of that processor")
def test_options_of_cc_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU without AVX-512, wherever this runs; behind a wrapper as well."""
    for named in ("gcc -O0 -march=x86-64-v3", "env gcc -O0 -march=x86-64-v3"):
        monkeypatch.setenv("CC", named)
        assert works(loaded()) and loaded().lanes * np.dtype("float32").itemsize == 32


@pytest.mark.usefixtures("alone")
def test_a_library_of_other_records_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "RANGE", kernels.BLOCK)
    with pytest.raises(NoKernels, match=r"kernels.c and kernels.py disagree about its records"):
        loaded()
