"""Starts a real SLURM on this machine, for tests: `munged`, `slurmctld` and four `slurmd` on the loopback address.

Debian's `slurmctld slurmd slurm-client munge libpmix2`, as root, without systemd and without the system's own
configuration. Everything lives in one folder and listens on free ports of 127.0.0.1. The four nodes share this machine:
they have more cores than it has, and GPUs that are no more than device files.

Nothing outlives `start`: the daemons are its children, and all that they start carries the path of this SLURM's
configuration in its environment.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from patience import GUARD

NODES = ("n1", "n2", "n3", "n4")
GPUS = 4  # of each node
CHEAPEST = NODES[-1]  # a job runs there if it may
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

CONFIGURATION = """
ClusterName=hpcnas
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
# Loopback alone: else the daemons listen on every address.
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
# One folder a node: else PMIx finds its own traces of another node in it.
TmpFS={folder}/tmp/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
GresTypes=gpu
ReturnToService=2
KillWait=5
MinJobAge=3600
SlurmctldTimeout=30
SlurmdTimeout=10
# More cores than the machine has.
SlurmdParameters=config_overrides
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE OverTimeLimit=0 State=UP
"""
NODE = "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=16 Gres=gpu:{gpus} Weight={weight}\n"


def missing() -> str | None:
    """Why no SLURM can be started here; None where one can."""
    absent = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if absent:
        return f"no SLURM here: {', '.join(absent)} not found (Debian: slurmctld slurmd slurm-client munge)"
    return None if os.geteuid() == 0 else "SLURM's daemons start jobs: they need root"


def pmix_missing() -> str | None:
    """Why `srun --mpi=pmix` cannot start anything; None where it can."""
    for library in Path("/usr/lib").glob("*/pmix2/lib/libpmix.so.2"):
        if not library.with_suffix("").exists():
            return (
                f"SLURM opens PMIx by the name that Debian leaves out: ln -s {library.name} {library.with_suffix('')}"
            )
        return None
    return "no PMIx for SLURM here (Debian: libpmix2)"


@dataclass(frozen=True)
class Cluster:
    """A running SLURM."""

    folder: Path
    env: Mapping[str, str]
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def ask(self, *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
        """What one of SLURM's commands prints; an AssertionError if it fails."""
        done = subprocess.run(
            command, cwd=cwd, env={**self.env, **(env or {})}, capture_output=True, text=True, timeout=GUARD,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: Path, env: Mapping[str, str]) -> int:
        """`sbatch SCRIPT` in the script's folder, with more in its environment; returns the job's number."""
        return int(self.ask("sbatch", "--parsable", str(script), cwd=script.parent, env=env))

    def show(self, job: int) -> dict[str, str]:
        """What `scontrol show job` says."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.ask("scontrol", "--oneliner", "show", "job", str(job))))

    def state(self, job: int) -> str:
        """SLURM's word for what has become of the job."""
        return self.show(job)["JobState"]

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Waits until it is true; fails with the logs' last lines where it never is."""
        deadline = time.monotonic() + GUARD
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {GUARD:g} s: {what}\n{self.report()}")
            time.sleep(0.2)

    def await_state(self, job: int, *states: str) -> str:
        """Waits until the job is in one of these states; returns it."""
        self.until(lambda: self.state(job) in states, f"job {job} {' or '.join(states)}")
        return self.state(job)

    def report(self) -> str:
        """The jobs, and the end of every log, for a person."""
        parts = []
        with suppress(AssertionError):
            parts.append(self.ask("scontrol", "--oneliner", "show", "job"))
        for log in sorted((self.folder / "log").iterdir()):
            parts.append(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-40:]))
        return "\n".join(parts)

    def processes(self, node: str | None = None) -> list[psutil.Process]:
        """Every living process of this SLURM and of its jobs, or of those on one node."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # ended meanwhile, or a zombie
                where = self._where(process)
                if where is not None and node in (None, where):
                    found.append(process)
        return found

    def _where(self, process: psutil.Process) -> str | None:
        """The node of a process, empty if it is on none; None if it is not of this SLURM. Daemons are known by their
        folder, which slurmstepd inherits; its environment is overwritten by its title."""
        folder, environment = Path(process.cwd()), process.environ()
        if folder.parent == self.folder / "spool":
            return folder.name
        if folder == self.folder or environment.get("SLURM_CONF") == self.env["SLURM_CONF"]:
            return environment.get("SLURMD_NODENAME", "")
        return None

    def start_node(self, node: str) -> None:
        """Starts the node's daemon."""
        self._start(node, self.folder / "spool" / node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kills the node's daemon and everything that runs there, as a power cut would."""
        self._kill_daemon(node)
        self._kill_rest(node)

    def _start(self, name: str, folder: Path, program: str, *arguments: str) -> None:
        """Starts a daemon as a child of this process, in that folder."""
        path = shutil.which(program, path=PATH)
        assert path is not None, program
        with (self.folder / "log" / f"{name}.out").open("ab") as output:
            self.daemons[name] = subprocess.Popen(
                [path, *arguments], cwd=folder, env=dict(self.env), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def begin(self) -> None:
        """Starts everything and waits until every node takes jobs."""
        munge = self.folder / "munge"
        arguments = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{name}={munge / file}" for name, file in arguments.items()]
        self._start("munged", self.folder, "munged", "--foreground", "--force", *options)
        self.until((munge / "socket").exists, "munged's socket")
        self._start("slurmctld", self.folder, "slurmctld", "-D")
        for node in NODES:
            self.start_node(node)
        self.until(lambda: self._idle() == set(NODES), "four idle nodes")

    def _idle(self) -> set[str]:
        try:
            return set(self.ask("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N").split())
        except AssertionError:  # slurmctld does not answer yet
            return set()

    def end(self) -> None:
        """Kills everything: the daemons, and whatever they have started."""
        for name in reversed(list(self.daemons)):
            self._kill_daemon(name)
        self._kill_rest(None)

    def _kill_daemon(self, name: str) -> None:
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def _kill_rest(self, node: str | None) -> None:
        """Kills all processes until there are none: some may just be starting others."""
        deadline = time.monotonic() + GUARD
        while left := self.processes(node):
            assert time.monotonic() < deadline, f"cannot kill {left}"
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.05)


@contextmanager
def start(folder: Path) -> Iterator[Cluster]:
    """A SLURM for the length of a with block, all of it in the folder."""
    for name in ("state", "log", "munge", "dev", *(f"{kind}/{node}" for kind in ("spool", "tmp") for node in NODES)):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o700)
    (folder / "munge/key").write_bytes(os.urandom(1024))
    (folder / "munge/key").chmod(0o400)
    for node in NODES:
        for gpu in range(GPUS):
            (folder / "dev" / f"{node}.gpu{gpu}").symlink_to("/dev/null")
    ports = _free_ports(1 + len(NODES))
    host = socket.gethostname().split(".")[0]
    configuration = CONFIGURATION.format(folder=folder, host=host, port=ports[0])
    for node, port in zip(NODES, ports[1:], strict=True):
        weight = 1 if node == CHEAPEST else 10
        configuration += NODE.format(node=node, host=host, port=port, gpus=GPUS, weight=weight)
    (folder / "slurm.conf").write_text(configuration)
    gres = [f"NodeName={node} Name=gpu File={folder}/dev/{node}.gpu[0-{GPUS - 1}]\n" for node in NODES]
    (folder / "gres.conf").write_text("".join(gres))
    cluster = Cluster(folder, {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "TMPDIR": str(folder / "tmp")})
    try:
        cluster.begin()
        yield cluster
    finally:
        cluster.end()


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
