"""Processes that are started to share work."""

from __future__ import annotations

import multiprocessing
import os
import threading


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
