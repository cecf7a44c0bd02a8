"""Stages that work at the same time: reading ahead, computing in several threads, writing behind.

Each holds a bounded number of items, hands them on in their order and passes errors on to the consumer. When the
consumer is done with a stage, however that ends, its threads are gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_END: Any = object()


def prefetched(items: Iterable[Item], depth: int = 2) -> Generator[Item]:
    """Yield what `items` yields, made by a background thread, so that it is made while the consumer works.

    An error in `items` is raised here, after the items before it. When this generator is closed (by `close`, an error
    or Ctrl-C at the consumer, or because nobody holds it), the thread ends after the item it is at. `items` is closed
    in that thread before this returns, so whatever `items` reads may be closed right after.

    Args:
        items: Whatever can be iterated; no other thread may use it meanwhile.
        depth: How many items may be made ahead, at least 1.
    """
    source = iter(items)
    with threads(1, "read") as pool:
        waiting = deque(pool.submit(next, source, _END) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(pool.submit(next, source, _END))
                yield item
        finally:
            _cancel(waiting)
            pool.submit(_close, source).result()


@contextmanager
def background(write: Callable[[Item], object], depth: int = 2) -> Iterator[Callable[[Item], None]]:
    """Give a function, `put`, whose argument a thread then writes.

    `write(item)` is called in that thread, once for each `put(item)` and in their order. `put` returns at once unless
    `depth` items are waiting. The end of the body waits until all are written. After an error of `write` nothing more
    is written, and the next `put`, or the end of the body, raises it. If the body raises, what waits is dropped and
    the item that is being written is waited for, so whatever `write` uses may be closed right after.

    Args:
        write: Takes an item.
        depth: How many items may wait, at least 1.
    """
    with threads(1, "write") as pool:
        waiting: deque[Future[None]] = deque()

        def put(item: Item) -> None:
            previous = waiting[-1] if waiting else None
            waiting.append(pool.submit(_write_after, previous, write, item))
            while len(waiting) > depth or (waiting and waiting[0].done()):
                waiting.popleft().result()

        yield put
        for written in waiting:
            written.result()


def mapped(
    function: Callable[[Item], Result], items: Iterable[Item], pool: ThreadPoolExecutor, ahead: int
) -> Generator[Result]:
    """Yield `function(item)` of each item in their order, computed by the threads of a pool.

    `items` is iterated by the consumer's own thread.

    Args:
        function: Called by several threads at once.
        items: What it is called with.
        pool: The threads.
        ahead: How many items may be in the works at most, at least 1.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        _cancel(waiting)


@contextmanager
def threads(
    count: int, name: str, initializer: Callable[..., object] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of threads that are gone at the end of the body; what they have not begun by then is dropped."""
    pool = ThreadPoolExecutor(count, f"auralflow-{name}", initializer, arguments)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _write_after(previous: Future[None] | None, write: Callable[[Item], object], item: Item) -> None:
    if previous is not None:
        previous.result()  # its error is this one's too
    write(item)


def _cancel(waiting: Iterable[Future[Any]]) -> None:
    for future in waiting:
        future.cancel()


def _close(source: object) -> None:
    if isinstance(source, Generator):
        source.close()
