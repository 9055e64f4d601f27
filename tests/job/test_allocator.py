"""Where large blocks of the C library lie, in processes of their own: glibc counts those that have a mapping."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from patience import GUARD

COUNTED = """
import ctypes
from hpcnas.job import allocator
libc = ctypes.CDLL(None)
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keep")]
libc.mallinfo2.restype = Info
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
allocator.{way}()
before = libc.mallinfo2().hblkhd
assert libc.malloc(100 << 20)
print(libc.mallinfo2().hblkhd - before >> 20)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 33),
    reason="mallinfo2 is of glibc from 2.33 on",
)
@pytest.mark.parametrize(("way", "mapped"), [("keep_memory", 0), ("give_memory_back", 100)])
def test_a_large_block_has_a_mapping_of_its_own_only_where_it_is_given_back(way: str, mapped: int) -> None:
    command = [sys.executable, "-c", COUNTED.format(way=way)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 0 and int(done.stdout) == mapped, done.stdout + done.stderr
