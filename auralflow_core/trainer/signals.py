"""Ctrl-C and SIGTERM end a training after its current step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class InterruptedTraining(Exception):  # noqa: N818 - not an error, but a way out
    """Somebody asked to stop while something ran that can be done again."""


@contextmanager
def stopping(interrupted: threading.Event, *, is_patient: bool = False) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM set the event; a second Ctrl-C ends everything at once.

    Args:
        interrupted: The event.
        is_patient: Whether a second signal changes nothing. `torchrun` sends one of its own as soon as one of its
            processes has ended, while the first one may still be saving; what does not end it kills.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set() and not is_patient:
            raise KeyboardInterrupt
        interrupted.set()

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
