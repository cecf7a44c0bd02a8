"""Stages that overlap: order, bounds, errors, and threads that are gone afterwards."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from auralflow_core.separate.pipeline import background, mapped, prefetched, threads


@pytest.fixture(autouse=True)
def no_thread_outlives_its_consumer() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Source:
    """Numbers, and a note of who took them and whether it was closed."""

    def __init__(self, count: int, fail_at: int | None = None) -> None:
        self.count, self.fail_at = count, fail_at
        self.taken = 0
        self.closed_by = ""

    def items(self) -> Iterator[int]:
        try:
            for number in range(self.count):
                if number == self.fail_at:
                    raise ValueError(f"broken at {number}")
                self.taken += 1
                yield number
        finally:
            self.closed_by = threading.current_thread().name


class TestPrefetched:
    @pytest.mark.parametrize("depth", [1, 2, 7, 100])
    @pytest.mark.parametrize("count", [0, 1, 2, 50])
    def test_gives_all_in_order(self, depth: int, count: int) -> None:
        assert list(prefetched(iter(range(count)), depth)) == list(range(count))

    def test_works_ahead_by_its_depth_and_no_more(self) -> None:
        source = Source(100)
        reached = threading.Event()

        def items() -> Iterator[int]:
            for number in source.items():
                if number == 3:
                    reached.set()
                yield number

        ahead = prefetched(items(), 3)
        assert next(ahead) == 0
        assert reached.wait(10)
        ahead.close()
        assert source.taken <= 5

    def test_an_error_comes_after_the_items_before_it(self) -> None:
        source = Source(10, fail_at=4)
        found = []
        with pytest.raises(ValueError, match="broken at 4"):
            for number in prefetched(source.items(), 3):
                found.append(number)
        assert found == [0, 1, 2, 3]

    def test_closing_early_closes_the_source_in_its_own_thread(self) -> None:
        source = Source(10**9)
        ahead = prefetched(source.items(), 2)
        assert next(ahead) == 0
        ahead.close()
        assert source.closed_by.startswith("auralflow-read")
        assert source.taken < 10

    def test_an_error_of_the_consumer_stops_the_thread(self) -> None:
        source = Source(10**9)

        def consume() -> None:
            for number in prefetched(source.items(), 2):
                if number == 5:
                    raise KeyError

        with pytest.raises(KeyError):
            consume()
        assert source.closed_by

    def test_ctrl_c_ends_it(self) -> None:
        """A consumer that waits for a slow source is interrupted."""

        def slow() -> Iterator[None]:
            while True:
                time.sleep(0.1)
                yield

        main = threading.main_thread().ident
        assert main is not None
        timer = threading.Timer(0.25, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in prefetched(slow()):
                pass
        timer.join()


class TestBackground:
    @pytest.mark.parametrize("depth", [1, 3])
    def test_writes_all_in_order_in_another_thread(self, depth: int) -> None:
        written, names = [], set()

        def write(item: int) -> None:
            written.append(item)
            names.add(threading.current_thread().name)

        with background(write, depth) as put:
            for number in range(50):
                put(number)
        assert written == list(range(50))
        assert len(names) == 1 and threading.current_thread().name not in names

    def test_put_waits_when_the_depth_is_reached(self) -> None:
        gate = threading.Event()
        begun = []

        def write(item: int) -> None:
            begun.append(item)
            assert gate.wait(10)

        def feed() -> None:
            with background(write, 2) as put:
                for number in range(4):
                    put(number)
                    fed.append(number)

        fed: list[int] = []
        feeder = threading.Thread(target=feed)
        feeder.start()
        while len(fed) < 2:
            pass
        feeder.join(0.05)
        assert fed == [0, 1] and begun == [0]
        gate.set()
        feeder.join(10)
        assert begun == [0, 1, 2, 3]

    def test_after_an_error_nothing_more_is_written(self) -> None:
        written = []

        def write(item: int) -> None:
            if item == 2:
                raise OSError("disk full")
            written.append(item)

        with pytest.raises(OSError, match="disk full"), background(write, 10) as put:
            for number in range(6):
                put(number)
        assert written == [0, 1]

    def test_an_error_of_the_last_write_is_not_lost(self) -> None:
        def write(item: int) -> None:
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"), background(write, 2) as put:
            put(0)

    def test_an_error_of_the_body_drops_what_waits(self) -> None:
        gate = threading.Event()
        written = []

        def write(item: int) -> None:
            assert gate.wait(10)
            written.append(item)

        def body() -> None:
            with background(write, 10) as put:
                for number in range(5):
                    put(number)
                threading.Timer(0.05, gate.set).start()
                raise KeyError

        with pytest.raises(KeyError):
            body()
        assert written in ([], [0])
        for timer in threading.enumerate():
            if isinstance(timer, threading.Timer):
                timer.join()


class TestMapped:
    def test_keeps_the_order_whoever_is_first(self) -> None:
        gates = [threading.Event() for _ in range(4)]

        def work(number: int) -> int:
            if number < 3:
                assert gates[number + 1].wait(10)
            gates[number].set()
            return number

        with threads(4, "test") as pool:
            assert list(mapped(work, range(4), pool, 4)) == [0, 1, 2, 3]

    def test_takes_no_more_items_than_may_be_in_the_works(self) -> None:
        source = Source(100)
        with threads(2, "test") as pool:
            results = mapped(lambda number: number, source.items(), pool, 3)
            for number, result in enumerate(results):
                assert result == number
                assert source.taken <= number + 3

    def test_an_error_stops_the_rest(self) -> None:
        def work(number: int) -> int:
            if number == 3:
                raise ValueError("broken")
            return number

        with threads(2, "test") as pool, pytest.raises(ValueError, match="broken"):
            list(mapped(work, range(10**9), pool, 4))
