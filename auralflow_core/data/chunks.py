"""Chunks of songs for training and validation, read straight from disk.

A chunk is named by its epoch and its number in that epoch. What it holds depends on these and the seed alone, so any
worker process makes the same chunk, and a resumed training goes on with the chunk that comes next.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from auralflow_core.audio import match_channels, resample
from auralflow_core.config import DatasetConfig, TrainingConfig
from auralflow_core.data.song import Song
from auralflow_core.errors import DataError

Batch = tuple[Tensor, Tensor]


class ChunkKey(NamedTuple):
    """The name of a chunk."""

    epoch: int
    number: int


class Excerpt(NamedTuple):
    """Where a chunk lies: a song, a first sample and a number of samples at the song's own rate."""

    song: Song
    start: int
    frames: int


class ChunkDataset(Dataset[Batch]):
    """Chunks of `sample_length` seconds as `(mixture, targets)`.

    `mixture` is float32 `(channel, time)` and `targets` `(target, channel, time)`, at the configured rate and
    channel count; a song shorter than a chunk is followed by silence.

    An epoch covers each song once without overlap: the grid of its chunks starts at another place and is shuffled
    anew in each epoch, and `max_num_samples` cuts it. With `shuffle=False` the grid stays at the songs' start. Where
    `n_chunks_per_song` is set, that many chunks are drawn from anywhere in each song instead, unless `shuffle=False`.

    Args:
        songs: The songs; each has every target.
        config: The settings of the group `dataset`.
        seed: Seed of the order and the places.
        shuffle: Whether epochs differ.

    Raises:
        DataError: A song lacks a target or has channels that cannot be converted.
    """

    def __init__(self, songs: list[Song], config: DatasetConfig, *, seed: int = 0, shuffle: bool = True) -> None:
        for song in songs:
            song.require(config.targets)
            if song.channels not in (1, config.num_channels) and config.num_channels != 1:
                raise DataError(
                    f"song {song.name!r} has {song.channels} channels, which cannot become {config.num_channels}; mix "
                    "it down to stereo, or train with --num_channels 1, the mean of all"
                )
        self.songs = songs
        self.config = config
        self._seed = seed
        self._shuffle = shuffle
        # Cached on the instance: every chunk of an epoch asks for the same plan.
        self._plan = lru_cache(maxsize=2)(self._make_plan)

    def __len__(self) -> int:
        total = sum(self._slots(song) for song in self.songs)
        return min(total, self.config.max_num_samples)

    def __getitem__(self, key: ChunkKey) -> Batch:
        song, start, frames = self.excerpt(key)
        stems = song.read_stems(self.config.targets, start, frames)
        if self._fits(stems[0], song):
            return self.mixture(key), torch.from_numpy(np.ascontiguousarray(stems, np.float32))
        return self.mixture(key), torch.stack([self._convert(stem, song) for stem in stems])

    def mixture(self, key: ChunkKey) -> Tensor:
        """Return a chunk's mixture alone."""
        song, start, frames = self.excerpt(key)
        return self._convert(song.read_mixture(start, frames), song)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_plan"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._plan = lru_cache(maxsize=2)(self._make_plan)

    def excerpt(self, key: ChunkKey) -> Excerpt:
        """Return the place of a chunk."""
        songs, starts = self._plan(key.epoch)
        song, start = self.songs[songs[key.number]], int(starts[key.number])
        return Excerpt(song, start, min(self._native_frames(song), song.frames - start))

    def _make_plan(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the song and the first sample of every chunk of an epoch."""
        rng = np.random.default_rng([self._seed, epoch])
        songs, starts = [], []
        for number, song in enumerate(self.songs):
            length, slots = self._native_frames(song), self._slots(song)
            songs.append(np.full(slots, number))
            if self._draws:
                starts.append(rng.integers(max(0, song.frames - length) + 1, size=slots))
                continue
            slack = max(0, song.frames - slots * length)
            offset = int(rng.integers(slack + 1)) if self._shuffle else 0
            starts.append(offset + length * np.arange(slots))
        order = np.arange(sum(map(len, songs)))
        if self._shuffle:
            rng.shuffle(order)
        order = order[: len(self)]
        return np.concatenate(songs)[order], np.concatenate(starts)[order]

    def _native_frames(self, song: Song) -> int:
        return math.ceil(self.config.sample_length * song.sample_rate)

    @property
    def _draws(self) -> bool:
        """Whether chunks lie anywhere, and not side by side."""
        return self._shuffle and self.config.n_chunks_per_song is not None

    def _slots(self, song: Song) -> int:
        if self._draws and self.config.n_chunks_per_song:
            return self.config.n_chunks_per_song
        return max(1, song.frames // self._native_frames(song))

    def _fits(self, audio: NDArray[np.float32], song: Song) -> bool:
        config = self.config
        return song.sample_rate == config.sample_rate and audio.shape == (config.num_channels, config.chunk_frames)

    def _convert(self, audio: NDArray[np.float32], song: Song) -> Tensor:
        config = self.config
        if self._fits(audio, song):
            return torch.from_numpy(np.array(audio, np.float32, order="C"))  # a copy: the source may keep its own
        # soxr: at rates with no small ratio, such as 44056 to 44100 Hz, torchaudio's kernel takes gigabytes.
        converted = resample(match_channels(audio, config.num_channels), song.sample_rate, config.sample_rate)
        tensor = torch.from_numpy(np.ascontiguousarray(converted[:, : config.chunk_frames]))
        return torch.nn.functional.pad(tensor, (0, config.chunk_frames - tensor.shape[-1]))


class BatchSampler(Sampler[list[ChunkKey]]):
    """The batches of one epoch after another, from any batch on; the last batch of an epoch may be smaller."""

    def __init__(self, dataset: ChunkDataset, batch_size: int) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._epoch = 0
        self._first = 0

    def start_at(self, epoch: int, batch: int = 0) -> None:
        """Make the next iteration begin at a batch of an epoch."""
        self._epoch, self._first = epoch, batch

    def keys(self, epoch: int, batch: int) -> list[ChunkKey]:
        """Return the chunks of a batch."""
        begin = batch * self._batch_size
        end = min(begin + self._batch_size, len(self._dataset))
        return [ChunkKey(epoch, number) for number in range(begin, end)]

    def __iter__(self) -> Iterator[list[ChunkKey]]:
        for batch in range(self._first, len(self)):
            yield self.keys(self._epoch, batch)

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return math.ceil(len(self._dataset) / self._batch_size)


def chunk_loader(dataset: ChunkDataset, config: TrainingConfig) -> tuple[DataLoader[Batch], BatchSampler]:
    """Return a loader of batches, and the sampler that says where it begins."""
    sampler = BatchSampler(dataset, config.batch_size)
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        # A generator of its own: each iteration draws a number from it, which would otherwise move torch's global
        # random state, and with it every dropout after a resume.
        generator=torch.Generator(),
        num_workers=config.num_workers,
        pin_memory=config.pin_memory and torch.cuda.is_available(),
        persistent_workers=config.num_workers > 0,
        worker_init_fn=_start_worker if config.num_workers else None,
    )
    return loader, sampler


def _start_worker(worker: int) -> None:
    # Each worker would otherwise start as many threads as there are cores.
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole process group; the trainer ends its workers when it has saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
