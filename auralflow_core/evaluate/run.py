"""The run over the songs of a data set: what is there is read, the rest is scored, several songs at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import torch

from auralflow_core.data.open import audio_fingerprint
from auralflow_core.data.song import Song
from auralflow_core.errors import AuralflowError, DataError, did_you_mean
from auralflow_core.evaluate.song import MIXTURE, MODEL, Backend, SongScores, score_song
from auralflow_core.evaluate.store import ScoreStore
from auralflow_core.evaluate.table import Score, score_rows
from auralflow_core.model import SeparationModel
from auralflow_core.processes import end_with_parent
from auralflow_core.separate import Separator
from auralflow_core.separate.base import BaseSeparator

ModelLoader = Callable[[], SeparationModel]
"""Loads a model; hashable, and pickled to other processes, each of which has a model of its own."""

# A process has its own torch and its own song of a gigabyte or two: more of them by default would surprise.
_MOST_JOBS = 4
# What it takes to start one has to be worth it.
_SECONDS_OF_AUDIO_A_JOB = 60


@dataclass
class Outcome:
    """What a run found.

    Attributes:
        scores: By song, then by estimate; the songs in the given order.
        audio: The fingerprint of each scored song with its stems.
        failed: Why songs were not scored.
        reused: Names of the songs of which nothing had to be scored anew.
    """

    scores: dict[str, dict[str, SongScores]] = field(default_factory=dict)
    audio: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)

    def rows(self) -> list[Score]:
        """Return one row a song and target."""
        return [row for song, estimates in self.scores.items() for row in score_rows(song, estimates)]


@dataclass(frozen=True)
class Task:
    """A song and the estimates of it that have no scores yet."""

    song: Song
    estimates: tuple[str, ...]
    backend: Backend


Progress = Callable[[Task, str], None]
"""Called after each song that was worked on, with the reason if it failed."""


def evaluate(
    separator: BaseSeparator,
    songs: Sequence[Song],
    *,
    backend: Backend = "auralflow",
    oracles: Sequence[str] = (),
    progress: Callable[[Song, list[Score]], None] | None = None,
) -> list[Score]:
    """Separate songs in this process and score each target; nothing is written.

    Args:
        separator: The separator.
        songs: Songs that have every target.
        backend: `auralflow` computes BSSEval v4 itself, `museval` lets the museval package do it.
        oracles: Names of oracles to score beside the model and the mixture: `irm`, `ibm`, `mwf`.
        progress: Called after each song.

    Returns:
        One row a song and target.

    Raises:
        DataError: A song lacks a target.
        AudioError: A file cannot be read.
    """
    for song in songs:
        song.require(separator.targets)
    rows = []
    for song in songs:
        found = score_rows(song.name, score_song(separator, song, (MODEL, MIXTURE, *oracles), backend))
        rows += found
        if progress:
            progress(song, found)
    return rows


def choose(songs: Sequence[Song], names: Sequence[str] = ()) -> list[Song]:
    """Return the songs of the given names; without names all.

    Raises:
        DataError: There is no such song, or two songs have one name.
    """
    by_name = {song.name: song for song in songs}
    if len(by_name) < len(songs):
        twice = sorted({song.name for song in songs if by_name[song.name] is not song})
        raise DataError(
            f"{', '.join(twice)}: two songs have this name; rename one, or their scores cannot be told apart"
        )
    for name in names:
        if name not in by_name:
            raise DataError(
                f"song {name!r} is not among the {len(songs)} songs of the split, which are named after their "
                f"folders{did_you_mean(name, by_name)}"
            )
    return [by_name[name] for name in dict.fromkeys(names)] if names else list(songs)


def default_jobs(songs: Sequence[Song]) -> int:
    """Return how many songs are scored at once: one a core, at most four, and none for less than a minute of audio."""
    seconds = sum(song.duration for song in songs)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, len(songs), _MOST_JOBS, int(seconds / _SECONDS_OF_AUDIO_A_JOB)))


def plan(
    songs: Sequence[Song],
    targets: Sequence[str],
    estimates: Sequence[str],
    backend: Backend,
    store: ScoreStore,
    *,
    fresh: bool = False,
) -> tuple[Outcome, list[Task]]:
    """Return what is there already, and what is to be scored.

    Args:
        songs: The songs, each with a name of its own.
        targets: The model's targets; a song that lacks one has failed.
        estimates: `model`, `mixture` and the names of oracles.
        backend: Who computes BSSEval.
        store: The scores of earlier runs.
        fresh: Whether to score everything anew.

    Raises:
        DataError: No song can be scored.
    """
    outcome, tasks = Outcome(), []
    for song in songs:
        try:
            song.require(list(targets))
            audio = audio_fingerprint(song, sorted(song.stems))
        except AuralflowError as error:
            outcome.failed[song.name] = str(error)
            continue
        outcome.audio[song.name] = audio
        known = {} if fresh else {name: store.load(name, song.name, audio) for name in estimates}
        outcome.scores[song.name] = {name: scores for name, scores in known.items() if scores is not None}
        missing = tuple(name for name in estimates if name not in outcome.scores[song.name])
        if missing:
            tasks.append(Task(song, missing, backend))
        else:
            outcome.reused.append(song.name)
    if not outcome.scores:
        raise DataError(next(iter(outcome.failed.values())))
    return outcome, tasks


def run(
    outcome: Outcome,
    tasks: Sequence[Task],
    store: ScoreStore,
    separator: BaseSeparator,
    load: ModelLoader,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> None:
    """Score what is to be scored and add it to the outcome; each song is written as soon as it is done.

    A song whose files cannot be read does not stop the others. One thread works on a song, so that the numbers do not
    depend on `jobs`.

    Args:
        outcome: What `plan` found.
        tasks: What `plan` left to do.
        store: Where scores are written.
        separator: Separates in this process, if `jobs` is 1.
        load: Loads the model in each of the processes, if there are more.
        jobs: How many songs are worked on at once.
        progress: Called after each song.

    Raises:
        AuralflowError: A process was killed; what was scored before is kept.
    """
    done = _in_this_process(tasks, separator) if jobs == 1 else _in_processes(tasks, load, jobs)
    for task, result in done:
        name = task.song.name
        if isinstance(result, str):
            outcome.failed[name] = result
            del outcome.scores[name]
        else:
            for estimate, scores in result.items():
                store.save(estimate, name, outcome.audio[name], scores)
            outcome.scores[name] |= result
        if progress:
            progress(task, result if isinstance(result, str) else "")


Result = dict[str, SongScores] | str
"""The scores by estimate, or why there are none."""


def _score(task: Task, separator: BaseSeparator) -> Result:
    try:
        return score_song(separator, task.song, task.estimates, task.backend)
    except AuralflowError as error:
        return str(error)


def _in_this_process(tasks: Sequence[Task], separator: BaseSeparator) -> Iterator[tuple[Task, Result]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for task in tasks:
            yield task, _score(task, separator)
    finally:
        torch.set_num_threads(threads)


def _in_processes(tasks: Sequence[Task], load: ModelLoader, jobs: int) -> Iterator[tuple[Task, Result]]:
    # Spawned, as CUDA and threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with _one_thread_each(), ProcessPoolExecutor(jobs, context, _start_worker) as pool:
        # The longest songs first, so that none is left over for one process at the end.
        ordered = sorted(tasks, key=lambda task: task.song.duration, reverse=True)
        waiting = {pool.submit(_score_in_worker, task, load): task for task in ordered}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BrokenProcessPool:
            raise AuralflowError(
                f"a process that scored a song was ended from outside, most likely for want of memory; with fewer "
                f"than {jobs} --jobs less is needed. What was scored is kept: the same command goes on from there"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@lru_cache(maxsize=1)
def _separator(load: ModelLoader) -> Separator:
    return Separator(load())


def _score_in_worker(task: Task, load: ModelLoader) -> Result:
    return _score(task, _separator(load))


def _start_worker() -> None:
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole process group: end at once and silently, the main process tells what was kept.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that are started meanwhile use one thread in numpy's libraries too, which read this when loaded."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
