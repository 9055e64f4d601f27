"""Signals that ask the job to leave."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from hpcnas.job.signals import ASKING
from hpcnas.training.pipe import COORDINATED

SENT_TO_ITSELF = """
import os, signal, sys
from hpcnas.job.signals import Signals
signals = Signals.install()
os.kill(os.getpid(), int(sys.argv[1]))
print(signals.first)
"""
NAMES = ["SIGUSR1", "SIGTERM", "SIGINT", "SIGHUP", "SIGXCPU"]


def first(name: str, *before: str) -> str:
    """What a process that gets the signal has received."""
    command = [*before, sys.executable, "-c", SENT_TO_ITSELF, str(signal.Signals[name].value)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip()


@pytest.mark.parametrize("name", NAMES)
def test_each_is_received(name: str) -> None:
    assert first(name) == name


def test_a_hangup_that_nohup_has_made_to_be_ignored_stays_ignored() -> None:
    assert first("SIGHUP", "nohup") == "None"
    assert first("SIGTERM", "nohup") == "SIGTERM"


def test_trainers_leave_all_of_them_to_the_ranks() -> None:
    assert {number.name for number in ASKING} == {number.name for number in COORDINATED} == set(NAMES)
