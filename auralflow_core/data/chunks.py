"""Chunks of songs for training and validation, read straight from disk.

A chunk is named by its epoch and its number in that epoch. What it holds depends on these and the seed alone, so any
worker process makes the same chunk, and a resumed training goes on with the chunk that comes next.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from auralflow_core.config import DatasetConfig, TrainingConfig
from auralflow_core.data.augment import Augmenter, Plan
from auralflow_core.data.composing import Composed, Composition, Layer, StemReader
from auralflow_core.data.drawing import Drawer, Excerpt, Place, check_stem_patterns
from auralflow_core.data.song import Song, check_convertible

Batch = tuple[Tensor, Tensor]


class ChunkKey(NamedTuple):
    """The name of a chunk."""

    epoch: int
    number: int


class ChunkDataset(Dataset[Batch]):
    """Chunks of `sample_length` seconds as `(mixture, targets)`.

    `mixture` is float32 `(channel, time)` and `targets` `(target, channel, time)`, at the configured rate and
    channel count; a song shorter than a chunk is followed by silence.

    An epoch covers each song once without overlap: the grid of its chunks starts at another place and is shuffled
    anew in each epoch, and `max_num_samples` cuts it. `dataset.sampling` changes that. With `shuffle=False` the grid
    stays at the songs' start, and a chunk is one excerpt of one song as it is. `dataset.augmentations` change what was
    drawn, with `shuffle` only.

    Args:
        songs: The songs.
        config: The settings of the group `dataset`.
        seed: Seed of the order and the places.
        shuffle: Whether epochs differ.

    Raises:
        DataError: A song lacks a target or has channels that cannot be converted.
        ConfigError: An augmentation cannot work here, or is for a stem that is none of the targets.
    """

    def __init__(self, songs: list[Song], config: DatasetConfig, *, seed: int = 0, shuffle: bool = True) -> None:
        check_convertible(songs, config.num_channels)
        self.songs = songs
        self.config = config
        self._seed = seed
        self._shuffle = shuffle
        check_stem_patterns(config)
        self._made: tuple[Drawer, Augmenter | None] | None = None
        _ = self._drawer  # What is wrong with the songs or the settings shows now.

    def __len__(self) -> int:
        return self._drawer.count

    def __getitem__(self, key: ChunkKey) -> Batch:
        place = self._drawer.place(*key)
        if not self._is_composed(place):
            return self._plain(place.excerpt)
        plan = self._augmentation(key)
        composed = self._compose(key, plan)
        if plan is not None:
            assert self._augmenter is not None
            return self._augmenter(composed.parts, plan, self.config.chunk_frames)
        if composed.whole and not self._is_summed:
            return self._reader.mixture(composed.whole), composed.parts
        return composed.parts.sum(0), composed.parts[:-1]

    @property
    def is_finished_on_device(self) -> bool:
        """Whether `finish` has anything to do."""
        return self._augmenter is not None and self._augmenter.on_device

    def finish(self, batch: Batch, keys: Sequence[ChunkKey]) -> Batch:
        """Augment a batch, where it is, by what is left to the model's device; else return it as it is.

        Args:
            batch: `(batch, channel, time)` and `(batch, target, channel, time)`.
            keys: The names of its chunks.
        """
        if self._augmenter is None or not self._augmenter.on_device:
            return batch
        return self._augmenter.finish(*batch, [self._augmenter.plan(*key) for key in keys])

    def mixture(self, key: ChunkKey) -> Tensor:
        """Return a chunk's mixture alone, as the model sees it."""
        place = self._drawer.place(*key)
        if not (self._is_summed or self._is_composed(place)):
            return self._reader.mixture(place.excerpt)
        mixture, targets = self[key]
        return self.finish((mixture[None], targets[None]), [key])[0][0]

    def excerpt(self, key: ChunkKey) -> Excerpt:
        """Return the place of a chunk; where stems come from several, or one was too quiet, the planned one."""
        return self._drawer.place(*key).excerpt

    def describe(self, key: ChunkKey) -> dict[str, Any]:
        """Return what a chunk is made of, as plain data.

        Returns:
            `epoch` and `number`; `excerpts`: of each its `song`, its first sample as `start` and in `seconds`, its
            `stems`, and its `gain` as a factor; `augmentations`: what was drawn for each part, if anything can be.
        """
        place, plan = self._drawer.place(*key), self._augmentation(key)
        if self._is_composed(place):
            layers = self._compose(key, plan).layers
        else:
            layers = [Layer(name, place.excerpt) for name in self.config.targets]
        facts = {"epoch": key.epoch, "number": key.number, "excerpts": _described(layers)}
        return facts if plan is None else {**facts, "augmentations": plan}

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_made": None}

    def _parts(self) -> tuple[Drawer, Augmenter | None]:
        """Return what chunks are drawn and augmented by; anew where songs or settings were exchanged."""
        config = self.config
        if self._made is None or self._made[0].songs is not self.songs or self._made[0].config is not config:
            drawer = Drawer(self.songs, config, seed=self._seed, shuffle=self._shuffle)
            augmenter = None
            if self._shuffle and config.augmentations.used:
                augmenter = Augmenter(config.augmentations, config.sample_rate, config.targets, self._seed)
            self._made = (drawer, augmenter)
        return self._made

    @property
    def _drawer(self) -> Drawer:
        return self._parts()[0]

    @property
    def _augmenter(self) -> Augmenter | None:
        return self._parts()[1]

    @property
    def _reader(self) -> StemReader:
        return StemReader(self.config, self.config.chunk_frames)

    @property
    def _is_summed(self) -> bool:
        """Whether the mixture is the sum of its parts in any case."""
        return self._augmenter is not None or self.config.sampling.mixture == "sum"

    def _is_composed(self, place: Place) -> bool:
        """Whether a chunk may hold anything but its excerpt as it is."""
        alters = self.config.sampling.alters or self._augmenter is not None
        return self._shuffle and (place.is_independent or alters)

    def _augmentation(self, key: ChunkKey) -> Plan | None:
        return self._augmenter.plan(*key) if self._augmenter else None

    def _compose(self, key: ChunkKey, plan: Plan | None) -> Composed:
        rate = self._augmenter.rate(plan) if self._augmenter and plan else 1.0
        return Composition(self._drawer, *key, seed=self._seed, rate=rate).compose(with_rest=self._is_summed)

    def _plain(self, excerpt: Excerpt) -> Batch:
        """Return an excerpt as it is."""
        targets = self._reader.targets(excerpt)
        if self._is_summed:
            return targets.sum(0) + self._reader.rest(excerpt, targets), targets
        return self._reader.mixture(excerpt), targets


def _described(layers: list[Layer]) -> list[dict[str, Any]]:
    """Return layers as plain data, those of one place in one."""
    found: dict[tuple[str, int, float], list[str]] = {}
    rates = {}
    for stem, (song, start, _), gain in layers:
        found.setdefault((song.name, start, gain), []).append(stem)
        rates[song.name] = song.sample_rate
    return [
        {"song": song, "start": start, "seconds": start / rates[song], "stems": stems, "gain": gain}
        for (song, start, gain), stems in found.items()
    ]


class BatchSampler(Sampler[list[ChunkKey]]):
    """The batches of one epoch after another, from any batch on; the last batch of an epoch may be smaller.

    Args:
        dataset: The chunks.
        batch_size: Chunks in a batch.
        rank: Which of several processes gets its share of each batch.
        size: How many processes share each batch.
    """

    def __init__(self, dataset: ChunkDataset, batch_size: int, rank: int = 0, size: int = 1) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._rank, self._size = rank, size
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

    def share(self, epoch: int, batch: int) -> list[ChunkKey]:
        """Return the chunks of a batch that are this process's; a batch may be too small to have any for it."""
        return self.keys(epoch, batch)[self._rank :: self._size]

    def __iter__(self) -> Iterator[list[ChunkKey]]:
        for batch in range(self._first, len(self)):
            # A process that has none takes one along, which does not count: all of them have to make each step.
            yield self.share(self._epoch, batch) or self.keys(self._epoch, batch)[:1]

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return math.ceil(len(self._dataset) / self._batch_size)


def chunk_loader(
    dataset: ChunkDataset, config: TrainingConfig, rank: int = 0, size: int = 1
) -> tuple[DataLoader[Batch], BatchSampler]:
    """Return a loader of one process's part of the batches, and the sampler that says where it begins."""
    sampler = BatchSampler(dataset, config.batch_size, rank, size)
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        # A generator of its own: each iteration draws a number from it, which would otherwise move torch's global
        # random state, and with it every dropout after a resume.
        generator=torch.Generator(),
        num_workers=config.num_workers,
        pin_memory=config.pin_memory and torch.cuda.is_available(),
        persistent_workers=config.num_workers > 0,
        prefetch_factor=config.prefetch_factor if config.num_workers else None,
        worker_init_fn=_start_worker if config.num_workers else None,
    )
    return loader, sampler


def _start_worker(worker: int) -> None:
    # Each worker would otherwise start as many threads as there are cores.
    torch.set_num_threads(1)
    # Ctrl-C, and often SIGTERM, reaches the whole process group; the trainer ends its workers when it has saved.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
