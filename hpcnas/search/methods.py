"""How each worker trains, as a run keeps it, and what a person is told of it: falling back is never silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hpcnas.job.log import many
from hpcnas.messages import Place, Ready
from hpcnas.storage.columns import Column

COLUMNS = (
    Column("session", "i4", "row of /sessions in which it was ready", low=0),
    Column("rank", "i4", "MPI rank", low=0, told=True),
    Column("host", "S", "host", told=True),
    Column("device", "S", "device", told=True),
    Column("training", "S", "how it trains", told=True),
    Column("numbers", "S", "type of the numbers of feature maps", told=True),
    Column("slower", "S", "why it trains the plain network; empty where it does not", told=True),
)


@dataclass(frozen=True)
class Worker:
    """A worker that was ready in a session (its row of /sessions), and how it trains. `slower` says why that is not the
    fastest way, and is empty where it is."""

    session: int
    place: Place
    training: str
    numbers: str
    slower: str

    @classmethod
    def of(cls, ready: Ready, session: int) -> Worker | None:
        """What a worker has said of itself; None where it trains nothing."""
        if "training" not in ready.software:
            return None
        return cls(session, ready.place, ready.software["training"], ready.software.get("numbers", ""), ready.slower)

    def record(self) -> dict[str, Any]:
        """As the journal has it; its session is the last that began."""
        return {
            "place": asdict(self.place),
            "training": self.training,
            "numbers": self.numbers,
            "slower": self.slower,
        }


def columns(workers: Sequence[Worker]) -> dict[str, list[Any]]:
    """Values of COLUMNS."""
    rows = [{**asdict(worker), **asdict(worker.place)} for worker in workers]

    def stored(value: Any) -> Any:
        return value.encode(errors="replace") if isinstance(value, str) else value

    return {column.name: [stored(row[column.name]) for row in rows] for column in COLUMNS}


def workers(table: Mapping[str, np.ndarray]) -> Iterator[Worker]:
    """The workers that columns hold; none where there are no columns, as in older runs."""

    def text(name: str, row: int) -> str:
        return bytes(table[name][row]).decode(errors="replace")

    for row in range(len(table["session"]) if table else 0):
        place = Place(int(table["rank"][row]), text("host", row), text("device", row))
        yield Worker(
            int(table["session"][row]), place, text("training", row), text("numbers", row), text("slower", row)
        )


def summary(found: Sequence[Worker]) -> list[str]:
    """Lines for a person: how many workers of the last session train how, those that are slower with the commonest
    reason; and how many were slower before."""
    last = max((worker.session for worker in found), default=0)
    groups: dict[tuple[bool, str], Counter[str]] = {}
    for one in found:
        if one.session == last:
            groups.setdefault((bool(one.slower), one.training), Counter())[one.slower] += 1
    lines = []
    for (_, training), reasons in sorted(groups.items()):
        reason = min(reasons, key=lambda text: (-reasons[text], text))
        others = f" (and {many(len(reasons) - 1, 'other reason')})" if len(reasons) > 1 else ""
        lines.append(told(f"{training} on {many(reasons.total(), 'worker')}", reason + others))
    if before := {(one.session, one.place) for one in found if one.slower and one.session < last}:
        lines.append(f"(earlier sessions: {many(len(before), 'worker')} slower)")
    return lines


def told(training: str, slower: str) -> str:
    """How it is trained, and loudly why that is not the fastest way, where it is not."""
    return f"{training}: SLOWER THAN IT MIGHT BE, {slower}" if slower else training
