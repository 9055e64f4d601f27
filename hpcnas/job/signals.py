"""Signals that ask the job to leave: SIGUSR1 and SIGXCPU (batch systems, ahead of the end), SIGTERM, SIGHUP (the
terminal is gone), SIGINT (D5).

They may reach every rank, or rank 0 alone. The controller acts upon them; workers must merely survive them. A second
SIGINT ends the process that gets it at once. What `nohup` has made to be ignored stays ignored.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

ASKING = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU)
INTERRUPTED_AGAIN = 130  # exit code, as shells give it for SIGINT


class Signals:
    """What has arrived since `install`."""

    def __init__(self) -> None:
        self._first: signal.Signals | None = None
        self._interrupts = 0

    @classmethod
    def install(cls) -> Signals:
        """Takes over the signals of this process; to be called once, from the main thread."""
        received = cls()
        for number in ASKING:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, received._arrived)
        return received

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._first is None:
            self._first = signal.Signals(number)
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                os._exit(INTERRUPTED_AGAIN)  # what was acknowledged is on the disk

    @property
    def first(self) -> str | None:
        """The name of the first signal that arrived, such as SIGUSR1; None while there is none."""
        return None if self._first is None else self._first.name


def signal_name(number: int) -> str:
    """SIGKILL for 9, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:  # most of the real-time signals have none
        return f"signal {number}"
