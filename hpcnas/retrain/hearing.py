"""What ranks hear of each other beside their sums: that one has failed, that one is to leave, and then who is alive.

    a thread of each rank, twice a second ─► looks at the words of others in the meeting point
          once some rank is to leave      ─► says that it is there itself; rank 0 says who is not

Whoever waits for others looks at what the thread has found, and so is never kept by a rank that is stopped: neither by
rank 0, in whose process the meeting point is, nor by another one. Nothing is decided here but who is silent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from hpcnas.errors import first_line
from hpcnas.job.clocks import Attentive
from hpcnas.job.launch import Abandoned

LOOK = 0.5  # seconds between two looks at the words of others
LIFE = 10.0  # seconds within which a rank that is alive says so, while the job is to leave
LEAVE, FAILED = "leave", "failed"
_SILENT, _HERE = "silent", "here"


class Impatience:
    """What rank 0 hears while it waits for others before there is a meeting point: that it is to leave, and no more. It
    then waits for as long as for a rank that is stopped."""

    def __init__(self, reason: Callable[[], str | None], clock: Callable[[], float] | None = None) -> None:
        """`reason` says why this rank is to leave, once it is; `clock` counts seconds."""
        self._reason, self._clock = reason, clock or Attentive(2 * LOOK)
        self._since: float | None = None  # when it was to leave

    def __call__(self) -> None:
        """To be called again and again while this rank waits. Raises Abandoned."""
        now, reason = self._clock(), self._reason()
        if reason is None:
            return
        self._since = now if self._since is None else self._since
        if now - self._since > LIFE:
            raise Abandoned(
                f"{reason}; some rank has not answered for {LIFE:.0f} s since (stopped, cut off, or still loading?)"
            )


class Words(Protocol):
    """A store of torch, of which this is used; every method may wait for as long as rank 0 is stopped."""

    def check(self, keys: list[str]) -> bool: ...

    def get(self, key: str) -> bytes: ...

    def set(self, key: str, value: str) -> None: ...

    def add(self, key: str, amount: int) -> int: ...


class Hearing:
    """One rank's; its thread runs from `begin` to `end`."""

    def __init__(
        self, words: Words, rank: int, size: int, clock: Callable[[], Callable[[], float]] = lambda: Attentive(2 * LOOK)
    ) -> None:
        """`words`: a way to the meeting point that nobody else uses. `clock` makes one that counts seconds."""
        self.failed: str | None = None  # the line of the first rank that has failed
        self.leaving = False  # whether some rank is to leave
        self.problem: str | None = None  # why the meeting point cannot be reached
        self._words, self._rank, self._size, self._clock = words, rank, size, clock()
        self._wishes = False  # whether this rank is to leave
        self._looks = 0
        self._silent: int | None = None  # a rank that rank 0 does not hear
        self._heard: dict[int, tuple[int, float]] = {}  # on rank 0: how often each rank has said so, and when last
        self._answered, self._waiter = (-1, 0.0), clock()  # likewise of the meeting point, for whoever waits
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="hearing", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> bool:
        """Stops listening; whether the thread has ended, which it cannot while rank 0 is stopped."""
        self._ends.set()
        self._thread.join(2 * LOOK)
        return not self._thread.is_alive()

    def wish_to_leave(self) -> None:
        """This rank is to leave, which the others hear from now on."""
        self._wishes = self.leaving = True

    def silent(self) -> int | None:
        """A rank that does not say that it is there, since the job is to leave. To be asked again and again while this
        rank waits."""
        if not self.leaving:
            return None
        now = self._waiter()
        if self._looks != self._answered[0]:
            self._answered = self._looks, now
        if now - self._answered[1] > LIFE:  # the thread waits for an answer
            return 0
        return self._silent

    # ── the thread ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _listen(self) -> None:
        while not self._ends.wait(LOOK):
            try:
                self.look()
            except RuntimeError as error:  # torch's, of several kinds
                self.problem = first_line(error)
                return

    def look(self) -> None:
        """Looks at the words of others once, and says this rank's."""
        if self.failed is None and self._words.check([FAILED]):
            self.failed = self._words.get(FAILED).decode()
        if self._wishes:
            self._words.set(LEAVE, "")
        elif not self.leaving:
            self.leaving = self._words.check([LEAVE])
        if self.leaving:
            self._words.add(f"{_HERE}-{self._rank}", 1)
            if self._rank == 0:
                self._count()
            if self._silent is None and self._words.check([_SILENT]):
                self._silent = int(self._words.get(_SILENT))
        self._looks += 1

    def _count(self) -> None:
        """On rank 0: says which rank has been silent for too long, if one has."""
        now = self._clock()
        for rank in range(1, self._size):
            said = self._words.add(f"{_HERE}-{rank}", 0)
            if said != self._heard.get(rank, (-1, now))[0]:
                self._heard[rank] = said, now
            elif now - self._heard[rank][1] > LIFE:
                self._words.set(_SILENT, str(rank))
