"""Stands in for the trainer: the same pipe, no torch, and misbehaviour by plan.

HPCNAS_TEST_PLAN is a JSON object that maps an individual's id to what the attempts at it do: with {"4": "hang done"}
the first attempt at individual 4 hangs, all later ones are done. Whoever is not named is done. "loading" says what
children do when they should load, {"loading": "unusable"}.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from hpcnas.config.data_spec import DataFacts
from hpcnas.messages import Evaluation, Failure, FailureKind, Outcome, Task
from hpcnas.training import trainer
from hpcnas.training.evaluator import Loaded
from hpcnas.training.pipe import Assignment, Beat, DeviceMemory, Remark, Save, Saved, Unusable

COMMAND = (sys.executable, str(Path(__file__).resolve()))
PLAN = "HPCNAS_TEST_PLAN"
FACTS = DataFacts(3, 32, 32, 10, 40_000, 10_000, "scripted")


def main() -> None:
    trainer._ignore_coordinated_signals()
    pipe = Connection(int(sys.argv[1]))
    assignment: Assignment = pipe.recv()
    trainer._end_with(assignment.parent)
    plan = json.loads(os.environ.get(PLAN, "{}"))
    if plan.get("loading") == "unusable":
        pipe.send(Unusable("there are no images"))
        sys.exit(2)
    if plan.get("loading") == "unwell":
        pipe.send(Unusable("CUDA error: uncorrectable ECC error encountered", passes=True))
        sys.exit(2)
    misbehave(plan.get("loading", "done"))
    facts = dataclasses.replace(FACTS, fingerprint="another") if plan.get("loading") == "another" else FACTS
    pipe.send(Loaded(facts, {"script": "1"}, "no compiler" if plan.get("loading") == "slower" else ""))
    while True:
        try:
            request: Task | Save = pipe.recv()
        except EOFError:
            return
        if isinstance(request, Save):
            pipe.send(Saved())
            return
        word = behaviour(plan, request.individual, request.attempt)
        misbehave(word)
        if word == "half":  # of a message that is announced with 256 bytes
            os.write(pipe.fileno(), b"\0\0\1\0" + bytes(128))
            os._exit(5)
        if word == "remark":
            pipe.send(Remark(f"individual {request.individual} is odd"))
        if word == "gpu":
            pipe.send(DeviceMemory(3 * 2**30, 16 * 2**30))
        if word == "beat":
            beat_until_asked_to_save(pipe, Path(assignment.config.run.run, "inflight", f"{request.individual}.pt"))
        pipe.send(outcome(word, request))


def behaviour(plan: dict[str, str], individual: int, attempt: int) -> str:
    """What an attempt at an individual does."""
    words = plan.get(str(individual), "done").split()
    return words[min(attempt, len(words)) - 1]


def misbehave(word: str) -> None:
    """Does what the word says, if it is about the process; then there is nobody to return."""
    match word:
        case "exit":
            print("I am leaving", flush=True)
            os._exit(3)
        case "orphan":
            subprocess.Popen(["sleep", "3600"])
            os._exit(4)
        case "segv":
            faulthandler._sigsegv()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(3600)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "babble":
            os.write(1, b"\xff\0 " * 3000)
        case "slow":
            time.sleep(0.3)


def outcome(word: str, task: Task) -> Outcome:
    """The answer to a task; an evaluation tells by its accuracies which seeds it was for."""
    match word:
        case "error":
            return Failure(FailureKind.ERROR, "Traceback (most recent call last):\nZeroDivisionError: division by zero")
        case "nan":
            return Failure(FailureKind.NAN, "the loss was not finite by step 50 of 60")
        case "oom":
            return Failure(FailureKind.OOM, "Traceback (most recent call last):\nMemoryError")
    return Evaluation(accuracies(task.seeds), 1000 + task.individual, 0.25, 0.5, 0.125)


def accuracies(seeds: tuple[int, ...]) -> tuple[float, ...]:
    """What the trainer finds for these seeds."""
    return tuple(seed % 1000 / 1000 for seed in seeds)


def beat_until_asked_to_save(pipe: Connection, checkpoint: Path) -> None:
    """A training that never ends."""
    while not pipe.poll(0.05):
        pipe.send(Beat())
    try:
        if isinstance(pipe.recv(), Save):
            checkpoint.parent.mkdir(exist_ok=True)
            checkpoint.write_text("saved")
            pipe.send(Saved())
    except EOFError:
        pass
    sys.exit(0)


if __name__ == "__main__":
    main()
