"""What one rank cannot do, all ranks leave for: by the sentence of the first that could not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from hpcnas.errors import Error
from hpcnas.job.launch import Leave, together
from hpcnas.job.status import BROKEN, WRONG_USE
from hpcnas.plugins import PluginFault


@dataclass
class OtherRanks:
    """A world in which this rank is rank 1 of 3, and the others have met these problems."""

    before: str | None = None
    after: str | None = None
    asked: int = 0

    def gather(self, value: Any) -> list[Any]:
        self.asked += 1
        return [self.before, value, self.after]


def failing() -> int:
    raise Error("expected one thing, got another")


def test_what_all_can_do_is_done() -> None:
    assert together(OtherRanks(), lambda: 7) == 7  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("world", "mine", "text"),
    [
        (OtherRanks(), failing, "expected one thing, got another"),
        (OtherRanks(before="first"), failing, "first"),
        (OtherRanks(after="last"), failing, "expected one thing, got another"),
        (OtherRanks(after="last"), lambda: 7, "last"),
    ],
)
def test_what_one_cannot_do_all_leave_for(world: OtherRanks, mine: Any, text: str) -> None:
    with pytest.raises(Leave) as left:
        together(world, mine, BROKEN)  # type: ignore[arg-type]
    assert (str(left.value), left.value.exit_code, world.asked) == (text, BROKEN, 1)


def test_by_itself_it_is_wrong_use() -> None:
    with pytest.raises(Leave) as left:
        together(OtherRanks(), failing)  # type: ignore[arg-type]
    assert left.value.exit_code == WRONG_USE


@pytest.mark.parametrize("error", [PluginFault("a plugin broke"), KeyError("ours")])
def test_faults_are_no_problems_that_a_person_can_mend(error: Exception) -> None:
    def broken() -> None:
        raise error

    world = OtherRanks()
    with pytest.raises(type(error)):
        together(world, broken)  # type: ignore[arg-type]
    assert world.asked == 0
