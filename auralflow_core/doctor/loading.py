"""How fast chunks come from the disk and out of the loader, and whether that feeds training."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING

from auralflow_core.config import TrainingConfig
from auralflow_core.doctor.finding import Finding

if TYPE_CHECKING:
    from auralflow_core.data.chunks import ChunkDataset
    from auralflow_core.data.song import Song

_MB, _GIB = 1e6, 2**30
# Share of the time that training may wait for its data before that is worth a change.
_WAITING = 0.1
# Share of the memory up to which the system is taken to keep the songs in it.
_KEPT = 0.5


@dataclass(frozen=True)
class Loading:
    """How fast chunks are loaded.

    Attributes:
        loaded: Chunks a second that the loader hands over with the configured workers; they may be in memory.
        from_disk: Chunks a second that one process reads of which nothing is in memory; 0: it cannot be measured.
        chunk_bytes: Bytes of a chunk on disk.
        data_bytes: Bytes of all training songs on disk.
    """

    loaded: float
    from_disk: float
    chunk_bytes: float
    data_bytes: int


def measure_loading(chunks: ChunkDataset, songs: Sequence[Song], training: TrainingConfig, seconds: float) -> Loading:
    """Load chunks for about as many seconds by the loader, and as many from the disk alone.

    Args:
        chunks: Training chunks of some of the songs.
        songs: All training songs.
        training: The settings of the group `training`.
        seconds: How long to load.
    """
    from_disk = _from_disk(chunks, seconds)
    sizes = {path: path.stat().st_size for song in songs for path in _files(song) if path.exists()}
    density = sum(sizes.values()) / max(1e-9, sum(song.duration for song in songs))
    return Loading(
        _loaded(chunks, training, seconds), from_disk, density * chunks.config.sample_length, sum(sizes.values())
    )


def _loaded(chunks: ChunkDataset, training: TrainingConfig, seconds: float) -> float:
    """Return the chunks a second that the configured loader hands over."""
    from auralflow_core.data.chunks import chunk_loader

    loader, _ = chunk_loader(chunks, training)
    batches = chain.from_iterable(repeat(loader))
    for _ in range(max(1, training.num_workers)):  # all workers start at once
        next(batches)
    begin, count = time.perf_counter(), 0
    while not count or time.perf_counter() - begin < seconds:
        count += len(next(batches)[0])
    return count / (time.perf_counter() - begin)


def _from_disk(chunks: ChunkDataset, seconds: float) -> float:
    """Return the chunks a second that are read when nothing of the songs is in memory; 0 where that cannot be had."""
    from auralflow_core.data.chunks import ChunkKey

    if not hasattr(os, "posix_fadvise"):  # Windows, macOS
        return 0.0
    for path in {path for song in chunks.songs for path in _files(song)}:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    begin, count = time.perf_counter(), 0
    while count < len(chunks) and time.perf_counter() - begin < seconds:
        chunks[ChunkKey(0, count)]
        count += 1
    return count / (time.perf_counter() - begin)


def _files(song: Song) -> list[Path]:
    return [path for source in song.sources if isinstance(path := getattr(source, "path", None), Path)]


def check_loader(loading: Loading, step_seconds: float, training: TrainingConfig) -> Iterator[Finding]:
    """A loader for which training has to wait."""
    size, workers = training.batch_size, training.num_workers
    batch_seconds, trained = size / loading.loaded, size / step_seconds
    # Without workers loading and training take turns.
    waiting = max(0.0, batch_seconds - step_seconds) if workers else batch_seconds
    share = waiting / (waiting + step_seconds)
    value = f"{loading.loaded:.1f} chunks/s with {workers} workers, {share:.0%} of the time is waiting"
    limit = f"at least {trained:.1f} chunks/s, which are trained"
    if share <= _WAITING:
        yield Finding("loader", "info", "speed of loading", "data", value, limit)
        return
    needed, cores = math.ceil(1.1 * trained * max(1, workers) / loading.loaded), os.cpu_count() or 1
    if needed <= cores:
        cause = "too few workers" if workers else "one process loads and trains"
        next_step = f"set num_workers to {needed}"
    else:
        cause = "songs that are compressed or have another sample rate, augmentations, or a slow disk"
        next_step = f"{needed} workers on {cores} cores would do: use WAV at the model's sample rate, or augment less"
    yield Finding("loader", "warning", "training waits for its data", "data", value, limit, cause, next_step)


def check_disk_speed(loading: Loading, step_seconds: float, training: TrainingConfig, memory: int) -> Iterator[Finding]:
    """A disk that is too slow for training, where the songs do not stay in memory.

    Args:
        loading: How fast chunks are loaded.
        step_seconds: A step's time.
        training: The settings of the group `training`.
        memory: The machine's memory in bytes; 0: not known.
    """
    if not loading.from_disk:
        return
    trained = training.batch_size / step_seconds
    value = f"{loading.from_disk:.1f} chunks/s, {loading.from_disk * loading.chunk_bytes / _MB:.0f} MB/s"
    limit = f"at least {trained:.1f} chunks/s, which are trained"
    sizes = f"{loading.data_bytes / _GIB:.1f} GiB of songs, {memory / _GIB:.1f} GiB of memory"
    if loading.from_disk * max(1, training.num_workers) >= trained:
        yield Finding("loader", "info", "speed of the disk", "data", value, limit, sizes)
    elif loading.data_bytes < _KEPT * memory:
        yield Finding(
            "loader", "info", "the disk is slower than training", "data", value, limit, sizes,
            "nothing: the first epoch waits for it, later ones find the songs in memory",
        )  # fmt: skip
    else:
        yield Finding(
            "loader", "warning", "the disk is slower than training", "data", value, limit,
            f"a network or hard disk ({sizes})", "copy the songs to a faster disk, or raise num_workers",
        )  # fmt: skip
