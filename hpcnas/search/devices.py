"""Which devices fail at what other devices can do (a GPU that has gone bad fails everything, quickly).

A device is a host and its device's name; ranks may share it.
"""

from __future__ import annotations

from collections.abc import Hashable

from hpcnas.messages import Place

Device = tuple[str, str]


def device(place: Place) -> Device:
    """What ranks at that place compute on."""
    return place.host, place.device


class Devices:
    """Keeps, for every device, what it has failed at since it last succeeded. Tasks are named by whatever tells them
    apart."""

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
