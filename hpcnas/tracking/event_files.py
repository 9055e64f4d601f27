"""TensorBoard: RUN/tensorboard/SERIES/events.out.tfevents…, one file a job and series.

    file_version ─► session_log START, at the first step that is made anew ─► a summary an entry

START tells readers to forget what earlier files have of that step and later ones, so that a curve which a kill has cut
goes on without steps that are there twice. Records, checksums and messages are written by the package `tensorboard`
itself, which needs no TensorFlow for that; this file only opens the files, so that they lie in the folder that the job
holds, sorted as they were made whatever the hosts' clocks say.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcnas.storage.folder import RunFolder
from hpcnas.tracking.tracker import About, Entry, last_steps

FOLDER = "tensorboard"
SETTINGS = "settings"  # the tag of the table of settings


class EventFiles:
    """A tracker."""

    name = "TensorBoard"

    def __init__(self, place: RunFolder, about: About) -> None:
        self._place, self._about = place, about
        self._writers: dict[str, Any] = {}  # series → RecordWriter

    def resume(self, series: str, step: int) -> Mapping[str, int]:
        """As of a Tracker. Raises OSError, StoreError, ImportError."""
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        if series in self._writers:
            self._writers.pop(series).close()
        folder = f"{FOLDER}/{series}"
        for path in (FOLDER, folder):
            if self._place.status(path) is None:
                os.mkdir(path, dir_fd=self._place.descriptor)
        earlier = event_files((self._place.where() or self._place.path) / folder)
        known = last_steps(_known(earlier), step)
        number = max([int(time.time()), *(_number(path) + 1 for path in earlier)])
        name = f"{folder}/events.out.tfevents.{number:010d}.{socket.gethostname()}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._writers[series] = RecordWriter(os.fdopen(self._place.open(name, flags), "wb"))
        self._write(series, file_version="brain.Event:2")
        self._write(series, step=step + 1, session_log=SessionLog(status=SessionLog.START))
        if SETTINGS not in known:
            self._write(series, step=0, summary=_table(self._about.settings))
        self._writers[series].flush()
        return known

    def log(self, entries: Sequence[Entry]) -> None:
        """As of a Tracker. Raises OSError."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for entry in filter(lambda entry: entry.values, entries):
            values = [Summary.Value(tag=name, simple_value=value) for name, value in entry.values.items()]
            self._write(entry.series, entry.time, step=entry.step, summary=Summary(value=values))
        for series in {entry.series for entry in entries}:
            self._writers[series].flush()

    def close(self, complete: bool) -> None:
        """As of a Tracker."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _write(self, series: str, wall_time: float | None = None, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        now = time.time() if wall_time is None else wall_time
        self._writers[series].write(Event(wall_time=now, **fields).SerializeToString())


def event_files(folder: Path) -> list[Path]:
    """Those of a series in the order in which TensorBoard reads them."""
    return sorted(path for path in folder.iterdir() if re.match(r"events\.out\.tfevents\.\d", path.name))


def _number(path: Path) -> int:
    return int(path.name.split(".")[3])


def _known(paths: Sequence[Path]) -> dict[str, int]:
    """Tag → its last step in these files, as a reader has it that obeys START."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    known: dict[str, int] = {}
    for path in paths:
        for record in RawEventFileLoader(str(path)).Load():  # ends before a record that a kill has torn
            event = Event.FromString(record)
            if event.session_log.status == SessionLog.START:
                known = last_steps(known, event.step - 1)
            for value in event.summary.value:
                known[value.tag] = max(event.step, known.get(value.tag, 0))
    return known


def _table(settings: Mapping[str, str]) -> Any:
    """The settings as TensorBoard shows a text: a table in Markdown."""
    from tensorboard.plugins.text.summary_v2 import text_pb

    lines = ["| setting | value |", "|---|---|"]
    for name, value in settings.items():
        told = " ".join(value.split()).replace("|", "\\|")
        lines.append(f"| {name} | {told} |")
    return text_pb(SETTINGS, "\n".join(lines))
