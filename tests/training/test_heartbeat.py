"""Signs of life from beside something that takes long."""

from __future__ import annotations

import threading

from hpcnas.training.heartbeat import beating

GUARD = 60.0  # seconds that a condition may take on a busy machine


def test_it_beats_until_the_block_is_left_and_never_after() -> None:
    several, beats = threading.Event(), []

    def beat() -> None:
        beats.append(threading.current_thread())
        if len(beats) == 3:
            several.set()

    with beating(beat, 0.001):
        assert several.wait(GUARD)
    count = len(beats)
    assert threading.current_thread() not in beats and not beats[0].is_alive()
    assert len(beats) == count


def test_what_takes_longer_than_anything_may_is_silent_again() -> None:
    beats: list[int] = []
    with beating(lambda: beats.append(1), 0.001, longest=0.0):
        pass
    assert beats == []


def test_a_pipe_that_is_gone_ends_it_silently() -> None:
    gone = threading.Event()

    def beat() -> None:
        gone.set()
        raise BrokenPipeError

    with beating(beat, 0.001):
        assert gone.wait(GUARD)
