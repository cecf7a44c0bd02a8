"""Songs to separate, one after the other or several at once in processes of their own.

A song that fails never stops the others, and neither does one that takes its process down. A full disk does: every
song after it would fail too, and only after all its work.
"""

from __future__ import annotations

import errno
import multiprocessing
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from auralflow_core.audio.find import missing_file
from auralflow_core.errors import AudioError, AuralflowError
from auralflow_core.files import explain_os_errors
from auralflow_core.processes import end_with_parent, tune_memory
from auralflow_core.separate.base import BaseSeparator
from auralflow_core.separate.job import Job, Outcome
from auralflow_core.separate.report import DONE, Input, SongRecord, song_key
from auralflow_core.separate.song import separate_song

Told = Callable[[Job, float], None]
"""Is told how many seconds of a job's song are done."""

_STOPPING_SECONDS = 20.0
_SIGKILL = 9  # by its number, since Windows has none


def run_job(separator: BaseSeparator, job: Job, told: Callable[[float], None] | None = None) -> Outcome:
    """Separate a song; whatever goes wrong becomes a record."""
    began = time.monotonic()
    try:
        source = _input(job.file)
        # Decoders explain faults of reading; what else the system says is of the stems.
        with explain_os_errors(job.folder):
            song = separate_song(separator, job.file, job.outputs, job.options, told)
            outputs = job.written()
    except AuralflowError as error:
        return Outcome(job.failed(str(error)), _is_disk_full(error))
    except Exception as error:  # a network or a decoder may raise anything, and the other songs wait
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        text = f"{job.source}: an unexpected fault, {reason}; please report it with the traceback in the report"
        return Outcome(job.failed(text, traceback.format_exc()))
    seconds = time.monotonic() - began
    record = SongRecord(
        song_key(job.source),
        DONE,
        job.recipe,
        outputs,
        source,
        song.sample_rate,
        song.channels,
        song.seconds,
        round(seconds, 3),
        round(song.seconds / max(1e-3, seconds), 3),
        song.gain,
        song.clipped,
        song.notes,
    )
    return Outcome(record)


def run_here(separator: BaseSeparator, jobs: Iterable[Job], told: Told) -> Generator[tuple[Job, Outcome]]:
    """Do jobs one after the other; yield each with what became of it."""
    for job in jobs:

        def pass_on(seconds: float, job: Job = job) -> None:
            told(job, seconds)

        yield job, run_job(separator, job, pass_on)


def run_in_processes(
    make: Callable[[], BaseSeparator], jobs: Iterable[Job], count: int, told: Told
) -> Generator[tuple[Job, Outcome]]:
    """Do several jobs at once; yield each, when it ends, with what became of it.

    When the generator is closed, the processes stop and remove what they had begun.

    Args:
        make: Makes the separator of a process; can be pickled.
        jobs: The jobs, begun in this order.
        count: The number of processes.
        told: Is told how far jobs are.
    """
    waiting = iter(jobs)
    workers: list[_Worker] = []
    try:
        for _, job in zip(range(count), waiting, strict=False):
            workers.append(_Worker(make))
            workers[-1].begin(job)
        while workers:
            ready = wait([worker.connection for worker in workers])
            for worker in [worker for worker in workers if worker.connection in ready]:
                job, message = worker.job, worker.receive()
                if isinstance(message, float):
                    told(job, message)
                    continue
                yield job, message
                following = next(waiting, None)
                if following is None or not worker.is_alive:
                    worker.stop()
                    workers.remove(worker)
                if following is not None:
                    if worker not in workers:
                        workers.append(worker := _Worker(make))
                    worker.begin(following)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.stop()


def _input(file: Path) -> Input:
    try:
        return Input.of(file)
    except FileNotFoundError:
        raise missing_file(file) from None
    except OSError as error:
        raise AudioError(f"cannot read {file}: {error.strerror}; check the path and permissions") from error


class _Worker:
    """A process that separates one song at a time."""

    job: Job

    def __init__(self, make: Callable[[], BaseSeparator]) -> None:
        # Not forked: threads of torch do not survive a fork, and a fork would take the lock of the folder with it.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        with _interrupts_ignored():
            self.process.start()
        # Only the child holds its end now, so that its death ends the connection.
        theirs.close()
        self.is_alive = True

    def begin(self, job: Job) -> None:
        self.job = job
        with suppress(OSError):  # a process that is gone shows when it is listened to
            self.connection.send(job)

    def receive(self) -> float | Outcome:
        """Return how far the job is, or what became of it."""
        try:
            message: float | Outcome = self.connection.recv()
        except (EOFError, OSError):
            self.is_alive = False
            self.process.join()
            return Outcome(self.job.failed(f"{self.job.source}: {self._last_words()}"))
        return message

    def stop(self) -> None:
        self.connection.close()
        self.process.join(_STOPPING_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _last_words(self) -> str:
        status = self.process.exitcode or 0
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        memory = "; if memory ran out, use fewer --jobs or a shorter --segment" if status == -_SIGKILL else ""
        return f"the process that separated it {how}{memory}"


def _serve(connection: Connection, make: Callable[[], BaseSeparator]) -> None:
    """Do the jobs that come in, until the connection ends."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_with_parent()
    tune_memory()
    # The parent closes its end when nothing is left to do, and sends SIGTERM when nothing shall be done any more.
    with suppress(EOFError, OSError, KeyboardInterrupt):
        separator = make()
        while True:
            connection.send(run_job(separator, connection.recv(), connection.send))


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let a process that is started ignore Ctrl-C, which reaches all of a terminal: the parent decides."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False
