"""The memory of this process, and processes that are started to share work."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading

# Of mallopt(3), in malloc.h.
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
_OWN_PLACE = 2**23  # bytes


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
    be used by others, a third of a network's peak; and the largest tensors lie outside of it, since they would leave
    the largest gaps (docs/decisions/separation-speed.md). Environment variables of glibc's take precedence.
    """
    import ctypes

    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is None:
            return
        if "MALLOC_ARENA_MAX" not in os.environ:
            mallopt(_M_ARENA_MAX, 1)
        if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
            mallopt(_M_MMAP_THRESHOLD, _OWN_PLACE)
