"""The memory of this process, and processes that are started to share work."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Of mallopt(3), in malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT, _OWN_PLACE = 2**26, 2**23  # bytes
_GIVE_BACK_EVERY = 0.25  # seconds


def end_with_parent() -> None:
    """Let this process end as soon as the one that started it is gone, be it killed.

    Otherwise it would wait for work, hold its memory for ever, and a later run would meet it at work.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in the process that starts the others"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def tune_memory() -> None:
    """Let the memory of this process suit large tensors; call it before torch is loaded.

    torch takes tensors from large pages where the system allows it, which saves a tenth of a network's time on a CPU.
    With glibc all threads share one heap: pieces that large tensors leave in a heap of their own for each thread cannot
    be used by others, a third of a network's peak; the largest tensors lie outside of it, since they would leave the
    largest gaps; and what is free at its end is kept, since the system would clear it for the next tensor
    (docs/decisions/separation-speed.md). Environment variables of glibc's take precedence.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return
    for variable, parameter, value in (
        ("MALLOC_ARENA_MAX", _M_ARENA_MAX, 1),
        ("MALLOC_MMAP_THRESHOLD_", _M_MMAP_THRESHOLD, _OWN_PLACE),
        ("MALLOC_TRIM_THRESHOLD_", _M_TRIM_THRESHOLD, _KEPT),
    ):
        if variable not in os.environ:
            mallopt(parameter, value)


@contextmanager
def giving_back_memory() -> Iterator[None]:
    """Give memory that is free inside of the heap back to the system, again and again during the body and at its end.

    Threads that share a heap leave gaps in it for each other, which together grow larger than what they use. A single
    thread fills its gaps again at once, so that giving them back only costs time.
    """
    trim = _glibc("malloc_trim")
    if trim is None:
        yield
        return
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(_GIVE_BACK_EVERY):
            trim(0)

    thread = threading.Thread(target=work, name="auralflow-memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        trim(0)


def _glibc(name: str) -> Any:
    """Return a function of glibc's, or None with another C library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
