"""Nothing that a test process has started outlives it, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from live_run import await_that
from patience import GUARD
from trainer_children import lives
from warden import Child

# A test process with a child in a session of its own, whose child has neither its parent nor its environment, only its
# working folder.
TESTS = """
import os, signal, subprocess, sys, time
from pathlib import Path
from warden import Warden
folder = Path(sys.argv[1])
Warden().watch(folder)
nameless = [sys.executable, "-c", "import time; time.sleep(10 ** 6)"]
script = f"import os, subprocess, sys, time; p = subprocess.Popen({nameless}, env={{}}, start_new_session=True); "
script += "print(os.getpid(), p.pid, flush=True); time.sleep(10 ** 6)"
subprocess.Popen([sys.executable, "-c", script], start_new_session=True, cwd=folder)
if sys.argv[2] == "leave":
    (folder / "leave").touch()
    sys.stdin.read()
else:
    time.sleep(10 ** 6)
"""


@pytest.mark.parametrize("end", ["kill", "terminate", "leave"])
def test_what_tests_have_started_ends_with_them(tmp_path: Path, end: str) -> None:
    command = [sys.executable, "-c", TESTS, str(tmp_path), end]
    tests = Path(__file__).parent
    with Child(command, cwd=tests, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        found = [psutil.Process(int(number)) for number in process.stdout.readline().split()]
        assert len(found) == 2 and all(map(lives, found))
        warden = next(one for one in psutil.Process(process.pid).children() if "warden.py" in " ".join(one.cmdline()))
        if end == "leave":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGKILL if end == "kill" else signal.SIGTERM)
        await_that(lambda: not any(map(lives, [*found, warden])), "the end of all")


def test_a_with_block_that_is_cut_off_ends_its_child() -> None:
    with pytest.raises(ZeroDivisionError), Child(["sleep", "1000000"]) as process:
        raise ZeroDivisionError
    assert process.returncode == -signal.SIGKILL


def test_a_folder_that_was_named_before_the_warden_looked_is_watched(tmp_path: Path) -> None:
    """Its parent has ended by then: process 0 is nobody's parent."""
    nameless = [sys.executable, "-c", "import time; time.sleep(10 ** 6)"]
    with Child(nameless, env={}, cwd=tmp_path, start_new_session=True) as process:
        warden = [sys.executable, "-S", str(Path(__file__).with_name("warden.py")), "no mark", "0"]
        subprocess.run(warden, input=f"{tmp_path}\n", text=True, cwd="/", timeout=GUARD, check=True)
        assert process.wait(GUARD) == -signal.SIGKILL
