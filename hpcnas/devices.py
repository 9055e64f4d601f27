"""Which devices fail at what other devices can do (a GPU that has gone bad fails everything, quickly).

A device is a host and its device's name; ranks may share it.
"""

from __future__ import annotations

from hpcnas.messages import Place


class Devices:
    """Keeps, for every device, what it has failed at since it last succeeded."""

    def __init__(self, most: int) -> None:
        """`most` failures in a row of what has succeeded elsewhere make a device bad."""
        self._most = most
        self._failed_here: dict[tuple[str, str], set[int]] = {}
        self._done_elsewhere: dict[tuple[str, str], int] = {}

    def failed(self, place: Place, individual: int) -> None:
        """An evaluation of the individual has failed there."""
        self._failed_here.setdefault((place.host, place.device), set()).add(individual)

    def succeeded(self, place: Place, individual: int) -> None:
        """An evaluation of the individual has succeeded there: the device is good, those that failed at it less so."""
        here = (place.host, place.device)
        self._failed_here.pop(here, None)
        self._done_elsewhere.pop(here, None)
        for device, individuals in self._failed_here.items():
            if individual in individuals:
                individuals.discard(individual)
                self._done_elsewhere[device] = self._done_elsewhere.get(device, 0) + 1

    @property
    def any_is_bad(self) -> bool:
        """Whether there is a device of which `is_bad` holds."""
        return any(count >= self._most for count in self._done_elsewhere.values())

    def is_bad(self, place: Place) -> bool:
        """Whether the device has failed so often in a row at what others can do."""
        return self._done_elsewhere.get((place.host, place.device), 0) >= self._most
