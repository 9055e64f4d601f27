"""The crew: which workers may get a task, and what each of them holds.

    loading ─► idle ─► busy ─► idle …    refused and dead workers never come back in this session; silent ones do,
       └─────────┴───────┴───► refused, dead                                      as soon as they are heard again

A worker whose evaluations are briefer than a turn of the loop holds several tasks. What a silent worker holds is lent
to one that has nothing else to do: the first answer counts. A device that fails at what others can do is given no more
work. Decides nothing about genotypes; `controller` asks it and tells it. Ranks are those of the job, 1 and up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from hpcnas.messages import Failure, Place, Refused, Result
from hpcnas.search.attention import Attention
from hpcnas.search.backlog import Work

_BRIEF = 0.02  # seconds; a worker that has had so many evaluations in a row that were briefer may hold several
_BRIEF_IN_A_ROW = 10
_MOST_AT_ONCE = 8


@dataclass(slots=True)
class Member:
    """A worker that has reported."""

    place: Place
    held: deque[Work] = field(default_factory=deque)  # in the order of sending
    capacity: int = 1  # tasks it may hold: more than one only for evaluations of milliseconds
    brief: int = 0  # evaluations in a row that were brief

    @property
    def has_room(self) -> bool:
        """Whether it may hold another task."""
        return len(self.held) < self.capacity

    def adapt_capacity(self, result: Result, turn: float) -> None:
        """Sets how many tasks it should hold so as not to wait for the next turn of the loop, which takes so many
        seconds: one, unless its last evaluations were all so brief that a turn outlasts them, and that holding further
        tasks costs no other worker anything."""
        seconds = result.finished - result.started
        brief = not isinstance(result.outcome, Failure) and seconds < min(turn, _BRIEF)
        self.brief = self.brief + 1 if brief else 0
        at_once = 1 + int(turn / max(seconds, 1e-6)) if self.brief >= _BRIEF_IN_A_ROW else 1
        self.capacity = min(at_once, _MOST_AT_ONCE)


class Crew:
    """All workers of a job. `refused` and `dead` are to be read; what changes them are the methods."""

    def __init__(self, ranks: Iterable[int], attention: Attention, device_failures: int) -> None:
        """`device_failures` in a row of what has succeeded elsewhere make a device bad."""
        self.ranks = frozenset(ranks)
        self.refused: dict[int, Refused] = {}
        self.dead: set[int] = set()
        self._able = set(self.ranks)  # those that were not refused
        self._attention = attention
        self._devices = Devices(device_failures)
        self._members: dict[int, Member] = {}  # in the order of reporting
        self._idle: dict[int, None] = {}  # members with room for a task, in the order of their asking
        self._busy: set[int] = set()  # members that hold something
        self._lent: list[Work] = []  # what a silent worker holds and another does meanwhile

    # ── who ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def busy(self) -> int:
        """How many workers hold a task."""
        return len(self._busy)

    @property
    def in_use(self) -> int:
        """How many workers were not refused."""
        return len(self._able)

    @property
    def silent(self) -> set[int]:
        """Workers that have not been heard for too long."""
        return self._attention.silent

    @property
    def patience(self) -> float:
        """Seconds after which a worker that should say something is silent."""
        return self._attention.patience

    def place(self, rank: int) -> Place:
        """Where a worker is, as far as that is known."""
        member = self._members.get(rank)
        return Place(rank, "an unknown host", "unknown device") if member is None else member.place

    def name(self, rank: int) -> str:
        """What people are told of a worker, of which nothing may be known but its number."""
        return str(self._members[rank].place) if rank in self._members else f"worker {rank} (not yet ready)"

    def able(self) -> dict[int, Place]:
        """Workers that have reported and were not refused, and where they are."""
        return {rank: member.place for rank, member in self._members.items() if rank in self._able}

    # ── coming and going ────────────────────────────────────────────────────────────────────────────────────────────
    def report(self, rank: int, place: Place) -> None:
        """Takes in a worker that is ready, and where it is."""
        self._members[rank] = Member(place)

    def admit(self, rank: int) -> None:
        """Lets a worker that has reported get tasks."""
        self._idle[rank] = None

    def refuse(self, rank: int, refused: Refused) -> None:
        """Gives a worker no more tasks; it may still answer those that it holds."""
        self.refused[rank] = refused
        self._able.discard(rank)
        self._idle.pop(rank, None)

    def drop_dead(self, rank: int) -> None:
        """Notes that a worker's process has died: messages of it that arrive later are ignored."""
        self.dead.add(rank)
        self.silent.discard(rank)

    def take_back(self, rank: int) -> list[Work]:
        """Takes everything from a worker; returns what no other holds or has answered, in the order of sending."""
        self._idle.pop(rank, None)
        self._busy.discard(rank)
        if rank not in self._members:
            return []
        held, self._members[rank].held = self._members[rank].held, deque()
        return [work for work in held if not work.answered and not self._holders(work)]

    # ── tasks ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def idle(self) -> list[int]:
        """Workers that may get a task, in the order of their asking; none that is silent."""
        return [rank for rank in self._idle if rank not in self.silent] if self.silent else list(self._idle)

    def fill(self, rank: int, next_work: Callable[[int], Work | None]) -> list[Work]:
        """Gives an idle worker work as long as it has room and there is some for it; where room is left, it asks again
        after all others."""
        member, given = self._members[rank], []
        while member.has_room and (work := next_work(rank)) is not None:
            if not member.held:
                self._busy.add(rank)
                self._attention.expect(rank)
            member.held.append(work)
            given.append(work)
        del self._idle[rank]
        if member.has_room:
            self._idle[rank] = None
        return given

    def answer(self, rank: int, result: Result, turn: float) -> Work | None:
        """The work that a worker has answered, and holds no longer; None where it was not asked for this. `turn` as of
        `Member.adapt_capacity`."""
        member = self._members.get(rank)
        if member is None or not member.held or not member.held[0].is_answered_by(result):
            return None
        work = member.held.popleft()
        if not member.held:
            self._busy.discard(rank)
        member.adapt_capacity(result, turn)
        if rank not in self.refused and member.has_room:
            self._idle[rank] = None
        return work

    def suits(self, rank: int, work: Work) -> bool:
        """Whether a worker may be given the work: it has not failed at it, or no other is there that has not."""
        return rank not in work.avoid or self._able - self.silent <= work.avoid

    # ── silence ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def hear(self, rank: int) -> bool:
        """Notes that a message has come from a worker; returns whether it had been silent."""
        return self._attention.heard(rank)

    def newly_silent(self) -> list[int]:
        """Workers that have just been silent for too long while they had something to do, or to get ready for."""
        if not self._attention.due():
            return []
        loading = self.ranks - self.dead - self.refused.keys() - self._members.keys()
        return self._attention.look(loading | self._busy)

    def lend(self, rank: int, wanted: Callable[[int], bool]) -> Work | None:
        """Work for a worker that none but silent ones hold; `wanted` says whether an individual's results are still
        awaited."""
        silent = self.silent
        for other in sorted(silent & self._busy):
            for work in self._members[other].held:
                waits = wanted(work.individual.id) and not work.answered
                if waits and self.suits(rank, work) and self._holders(work) <= silent:
                    self._lent.append(work)
                    return work
        return None

    def others_at(self, work: Work) -> bool:
        """Whether a worker that is not silent holds the same work."""
        return bool(self._holders(work) - self.silent)

    def end_loan(self, work: Work) -> None:
        """Notes that the work is done, so that answers of other workers that hold it are ignored."""
        if not any(one is work for one in self._lent):
            return
        self._lent = [one for one in self._lent if one is not work]
        for rank in self._holders(work):
            member = self._members[rank]
            member.held = deque(replace(one, answered=True) if one is work else one for one in member.held)

    def _holders(self, work: Work) -> set[int]:
        return {rank for rank in self._busy if any(one is work for one in self._members[rank].held)}

    # ── devices ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def note_failure(self, result: Result) -> None:
        """Notes that a task has failed on the device that the result names."""
        self._devices.failed(result.place, (result.individual, result.first))

    def note_success(self, result: Result) -> None:
        """Notes that a task has succeeded there."""
        self._devices.succeeded(result.place, (result.individual, result.first))

    def on_bad_devices(self) -> Iterator[int]:
        """Workers in use on devices that fail at what others can do, never the last one in use: each is to be refused
        before the next is asked for."""
        if not self._devices.any_is_bad:
            return
        for rank, member in self._members.items():
            if rank in self._able and len(self._able) > 1 and self._devices.is_bad(member.place):
                yield rank


Device = tuple[str, str]  # a host and its device's name; ranks may share it


def device(place: Place) -> Device:
    """What ranks at that place compute on."""
    return place.host, place.device


class Devices:
    """For every device, what it has failed at since it last succeeded: a GPU that has gone bad fails everything,
    quickly. Tasks are named by whatever tells them apart."""

    def __init__(self, most: int) -> None:
        """`most` failures in a row of what has succeeded elsewhere make a device bad."""
        self._most = most
        self._failed_here: dict[Device, set[Hashable]] = {}
        self._done_elsewhere: dict[Device, int] = {}

    def failed(self, place: Place, task: Hashable) -> None:
        """The task has failed there."""
        self._failed_here.setdefault(device(place), set()).add(task)

    def succeeded(self, place: Place, task: Hashable) -> None:
        """The task has succeeded there: the device is good, those that failed at it less so."""
        here = device(place)
        self._failed_here.pop(here, None)
        self._done_elsewhere.pop(here, None)
        for other, tasks in self._failed_here.items():
            if task in tasks:
                tasks.discard(task)
                self._done_elsewhere[other] = self._done_elsewhere.get(other, 0) + 1

    @property
    def any_is_bad(self) -> bool:
        """Whether there is a device of which `is_bad` holds."""
        return any(count >= self._most for count in self._done_elsewhere.values())

    def is_bad(self, place: Place) -> bool:
        """Whether the device has failed so often in a row at what others can do."""
        return self._done_elsewhere.get(device(place), 0) >= self._most
