"""A stand-in for OpenPBS, for tests of job scripts: `qsub`, `qalter`, `qstat` and so on in a folder for the PATH.

It does what scripts see of PBS: `#PBS` lines, a spooled copy of the script, a bare environment with PBS_* variables, a
PBS_NODEFILE, one log, SIGTERM and then SIGKILL to the job's session when its walltime is over or it is deleted, holds,
and `depend=afterok`: a job after one that fails is deleted. It does not schedule: every job that may start does so at
once, and all its hosts are this one.

    BIN/qsub …  ─►  python pbs.py HOME qsub …  ─►  JOBS/1.standin/{script,attributes,nodes,state}
                                                └► python pbs.py HOME mom 1.standin   (until the job's end)
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

KILL_DELAY = 2.0  # seconds between SIGTERM and SIGKILL
COMMANDS = ("qsub", "qalter", "qrls", "qstat", "qdel", "pbs_tmrsh")


def install(folder: Path) -> Path:
    """Makes the commands in `folder`/bin; jobs are kept in `folder`. Returns the folder for the PATH."""
    bin = folder / "bin"
    bin.mkdir(parents=True)
    for name in COMMANDS:
        words = [sys.executable, __file__, str(folder), name]
        (bin / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (bin / name).chmod(0o755)
    return bin


def qsub(home: Path, *arguments: str) -> int:
    """`qsub [-h] [-v NAME=VALUE,…] SCRIPT`."""
    held = "-h" in arguments
    *options, script = (each for each in arguments if each != "-h")
    text = Path(script).read_text()
    given = re.findall(r"^#PBS (-\w) +(.*?)\s*$", text, re.MULTILINE)
    given += zip(options[::2], options[1::2], strict=True)
    resources = dict(value.split("=", 1) for option, value in given if option == "-l")
    count, *chunk = resources["select"].split(":")
    ranks = int(count) * int(dict(part.split("=") for part in chunk).get("mpiprocs", 1))
    job = f"{len(list(home.glob('*.standin'))) + 1}.standin"
    folder = home / job
    folder.mkdir()
    (folder / "script").write_text(text)
    (folder / "script").chmod(0o700)
    (folder / "nodes").write_text(f"{socket.gethostname()}\n" * ranks)
    attributes = {
        "name": dict(given)["-N"],
        "walltime": resources["walltime"],
        "workdir": os.getcwd(),
        "variables": dict(each.split("=", 1) for option, value in given if option == "-v" for each in value.split(",")),
    }
    (folder / "attributes").write_text(json.dumps(attributes))
    (folder / "state").write_text("Q")
    if held:
        (folder / "held").touch()
    quiet = subprocess.DEVNULL
    mom = [sys.executable, __file__, str(home), "mom", job]
    subprocess.Popen(mom, cwd=folder, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    print(job)
    return 0


def mom(home: Path, job: str) -> int:
    """Runs a job once it may start, and sees to its end."""
    folder = home / job
    while not _may_start(home, folder):
        if (folder / "deleted").exists():
            (folder / "state").write_text("F")
            return 0
        time.sleep(0.05)
    attributes = json.loads((folder / "attributes").read_text())
    environment = {  # not the submitter's; but for what tests know processes by
        **{name: value for name, value in os.environ.items() if name.startswith("HPCNAS_") or name == "HOME"},
        **{"PATH": f"{home / 'bin'}:/usr/bin:/bin", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_JOBID": job},
        **{"PBS_NODEFILE": str(folder / "nodes"), "PBS_O_WORKDIR": attributes["workdir"]},
        **attributes["variables"],
    }
    (folder / "began").write_text(str(time.time()))
    (folder / "state").write_text("R")
    with (folder / "log").open("wb") as log:
        shell = subprocess.Popen(
            [folder / "script"], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    end = time.monotonic() + _seconds(attributes["walltime"])
    while shell.poll() is None and time.monotonic() < end and not (folder / "deleted").exists():
        time.sleep(0.05)
    if shell.poll() is None:
        _signal_session(shell.pid, 15)
        with suppress(subprocess.TimeoutExpired):
            shell.wait(KILL_DELAY)
    _signal_session(shell.pid, 9)
    shell.wait()
    name, number = attributes["name"], job.split(".")[0]
    (Path(attributes["workdir"]) / f"{name}.o{number}").write_bytes((folder / "log").read_bytes())
    (folder / "exit").write_text(str(shell.returncode))
    (folder / "state").write_text("F")
    return 0


def qalter(home: Path, *arguments: str) -> int:
    """`qalter -W depend=afterok:JOB JOB`."""
    option, depend, job = arguments
    assert option == "-W"
    (home / job / "after").write_text(depend.removeprefix("depend=afterok:"))
    return 0


def qrls(home: Path, job: str) -> int:
    """`qrls JOB`."""
    (home / job / "held").unlink()
    return 0


def qstat(home: Path, *arguments: str) -> int:
    """`qstat -f JOB`."""
    folder = home / arguments[-1]
    if not folder.exists() or (folder / "state").read_text() == "F":
        print(f"qstat: Unknown Job Id {arguments[-1]}", file=sys.stderr)
        return 153
    attributes = json.loads((folder / "attributes").read_text())
    used = time.strftime("%H:%M:%S", time.gmtime(time.time() - float((folder / "began").read_text())))
    print(f"Job Id: {folder.name}")
    for name, value in {
        "Job_Name": attributes["name"],
        "resources_used.walltime": used,
        "job_state": (folder / "state").read_text(),
        "Resource_List.walltime": attributes["walltime"],
    }.items():
        print(f"    {name} = {value}")
    return 0


def qdel(home: Path, job: str) -> int:
    """`qdel JOB`."""
    (home / job / "deleted").touch()
    return 0


def pbs_tmrsh(home: Path, host: str, *command: str) -> int:
    """`pbs_tmrsh HOST COMMAND…`: runs it, and writes down where it would have been."""
    with (home / "tmrsh").open("a") as log:
        print(host, *command, file=log)
    return subprocess.run(command).returncode


def _may_start(home: Path, folder: Path) -> bool:
    """Whether a job is not held, and the one before it, if any, has ended well; deletes it if that has failed."""
    after = folder / "after"
    exit = home / after.read_text() / "exit" if after.exists() else None
    if exit is not None and exit.exists() and exit.read_text() != "0":
        (folder / "deleted").touch()
    return not (folder / "held").exists() and (exit is None or exit.exists() and exit.read_text() == "0")


def _seconds(clock: str) -> int:
    hours, minutes, seconds = clock.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds)


def _signal_session(session: int, number: int) -> None:
    """To every process of a session, as PBS does."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session:
                process.send_signal(number)


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[2]](Path(sys.argv[1]), *sys.argv[3:]))
