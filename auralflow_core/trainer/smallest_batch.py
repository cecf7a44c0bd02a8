"""Whether a batch of one chunk can be trained with, where a training will meet one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from auralflow_core.errors import ConfigError
from auralflow_core.model import SeparationModel
from auralflow_core.trainer.feed import Feed

# More steps than any training has.
_EVER = 10**15


def check_smallest_batch(model: SeparationModel, feed: Feed) -> None:
    """Refuse a training in which some batch has one chunk, and one chunk alone has no loss.

    Batch normalisation needs more than one value a channel, and a loss may compare the items of a batch. What is met
    by the last batch of an epoch, or after chunks have grown, would end a training hours after it began.

    Raises:
        ConfigError: Says which batch it is, and what is wrong with it.
    """
    seconds = _where_one_is_alone(feed)
    if seconds is None:
        return
    try:
        value = _loss_of_noise(model)
    except (ValueError, RuntimeError, IndexError) as error:
        why = " ".join(str(error).split())
    else:
        if math.isfinite(value):
            return
        why = f"its loss is {value}"
    raise ConfigError(
        f"training.batch_size: with batches of {model.config.training.batch_size} there is one of a single chunk (the "
        f"last of an epoch with chunks of {seconds:g} s), which {model.config.model.type} with the criterion "
        f"{model.config.training.criterion_name} cannot be trained with: {why}; choose a batch_size, or a "
        "max_num_samples, that leaves more than one chunk over"
    )


def _where_one_is_alone(feed: Feed) -> float | None:
    """Return the length of the chunks with which a batch of one appears, if one ever does."""
    first = feed.stage
    try:
        for stage in range(feed.stage_at(_EVER) + 1):
            feed.enter(stage)
            if len(feed.keys(0, feed.batches - 1)) == 1:
                return feed.data.config.sample_length
    finally:
        feed.enter(first)
    return None


def _loss_of_noise(model: SeparationModel) -> float:
    """Return the loss of one chunk of noise; the model and torch's random state are left as they were."""
    data = model.config.dataset
    generator = torch.Generator().manual_seed(0)
    shape = (len(model.targets), data.num_channels, data.chunk_frames)
    targets = 0.1 * torch.randn(1, *shape, generator=generator)
    was_training = model.training
    with _buffers_kept(model.network), torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        model.train()
        model.set_data(targets.sum(1), targets)
        with torch.no_grad():
            model.forward()
        value = model.compute_loss()
    model.network.train(was_training)
    model.prediction = model.loss = None
    return value


@contextmanager
def _buffers_kept(network: nn.Module) -> Iterator[None]:
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                if name in before:
                    buffer.copy_(before[name])
