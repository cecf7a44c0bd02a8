"""Training batches, whose chunks may grow while a model is trained."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import torch

from auralflow_core.config import TrainingConfig
from auralflow_core.config.training_groups import SequenceSchedulerConfig
from auralflow_core.data.chunks import Batch, ChunkDataset, ChunkKey, chunk_loader
from auralflow_core.trainer.distributed import World


def increases_at(step: int, config: SequenceSchedulerConfig | None) -> int:
    """Return how often chunks have grown after a number of steps."""
    if config is None:
        return 0
    counted = step if config.stop_after is None else min(step, config.stop_after)
    return max(0, counted - config.start_after) // config.increase_every


def grown(
    length: float, batch_size: int, increases: int, config: SequenceSchedulerConfig | None
) -> tuple[float, int, int]:
    """Return the length of a chunk in seconds, the batch size, and how many of the increases changed them.

    Each increase multiplies both; a batch keeps at least one chunk, and nothing changes once a chunk is as long as it
    may get.
    """
    count = 0
    while config is not None and count < increases and length < config.max_sequence_length:
        length = min(length * config.increase_by_multiplier, config.max_sequence_length)
        batch_size = max(1, int(batch_size * config.batch_size_multiplier))
        count += 1
    return length, batch_size, count


class Feed:
    """Batches of training chunks, from any batch of an epoch on.

    Args:
        data: Chunks of the length that training begins with.
        training: The settings of the group `training`.
        world: The processes that share each batch.
        device: Where batches are brought if augmentations run there (none: to the CPU).
    """

    def __init__(
        self, data: ChunkDataset, training: TrainingConfig, world: World, device: torch.device | None = None
    ) -> None:
        self._first = data
        self._training = training
        self._world = world
        self._device = device
        self.enter(0)

    def enter(self, increases: int) -> None:
        """Take up the lengths that come after a number of increases."""
        first, schedule = self._first.config, self._training.sequence_scheduler
        length, self.batch_size, self.stage = grown(first.sample_length, self._training.batch_size, increases, schedule)
        self.data = copy.copy(self._first)
        self.data.config = first.model_copy(update={"sample_length": length})
        config = self._training.model_copy(update={"batch_size": self.batch_size})
        self._loader, self._sampler = chunk_loader(self.data, config, self._world.rank, self._world.size)

    def stage_at(self, step: int) -> int:
        """Return how often chunks have grown after a number of steps, the longest length considered."""
        schedule = self._training.sequence_scheduler
        return grown(self._first.config.sample_length, 1, increases_at(step, schedule), schedule)[2]

    @property
    def batches(self) -> int:
        """Number of batches in an epoch."""
        return len(self._sampler)

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return -(-self.batches // self._training.backprop_every)

    def keys(self, epoch: int, batch: int) -> list[ChunkKey]:
        """Return the chunks of a batch."""
        return self._sampler.keys(epoch, batch)

    def share(self, epoch: int, batch: int) -> list[ChunkKey]:
        """Return the chunks of a batch that are this process's; there may be none."""
        return self._sampler.share(epoch, batch)

    def chunks(self, epoch: int, batch: int, count: int) -> int:
        """Return the number of chunks in some batches."""
        return sum(len(self.keys(epoch, number)) for number in range(batch, batch + count))

    def groups(self, epoch: int, batch: int) -> Iterator[list[Batch]]:
        """Yield the batches of one step after another, from a batch of an epoch to its end."""
        self._sampler.start_at(epoch, batch)
        batches = self._finished(epoch, batch)
        while group := list(itertools.islice(batches, self._training.backprop_every)):
            yield group

    def _finished(self, epoch: int, batch: int) -> Iterator[Batch]:
        """Yield this process's part of batches, after what workers left to the device."""
        for number, found in enumerate(self._loader, start=batch):
            if self.data.is_finished_on_device:
                keys = self.share(epoch, number) or self.keys(epoch, number)[:1]
                mixture, targets = (tensor.to(self._device, non_blocking=True) for tensor in found)
                yield self.data.finish((mixture, targets), keys)
            else:
                yield found

    def describe(self, epoch: int, batch: int, count: int) -> list[dict[str, Any]]:
        """Return what the chunks of some batches are made of (`ChunkDataset.describe`)."""
        return [self.data.describe(key) for number in range(batch, batch + count) for key in self.keys(epoch, number)]
