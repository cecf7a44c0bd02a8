"""Whether a batch of one chunk can be trained with, where a training will meet one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from auralflow_core.errors import ConfigError
from auralflow_core.model import SeparationModel
from auralflow_core.trainer.feed import Feed
from auralflow_core.trainer.memory import noise, unchanged

if TYPE_CHECKING:
    from auralflow_core.trainer.loop import Trainer

# More steps than any training has.
_EVER = 10**15


def check_smallest_batch(trainer: Trainer) -> None:
    """Refuse a training in which a process gets one chunk of some batch, and one chunk alone has no loss.

    Batch normalisation needs more than one value a channel, and a loss may compare the items of a batch. What is met
    by the last batch of an epoch, or after chunks have grown, would end a training hours after it began. Several
    processes share each batch, and all of them try this.

    Raises:
        ConfigError: Says which batch it is, and what is wrong with it.
    """
    model, size = trainer.model, trainer.world.size
    seconds = _where_one_is_alone(trainer.feed, size)
    if seconds is None:
        return
    try:
        with trainer.passes.whole():
            value = _loss_of_noise(model)
    except (ValueError, RuntimeError, IndexError) as error:
        why = " ".join(str(error).split())
    else:
        if math.isfinite(value):
            return
        why = f"its loss is {value}"
    shared = f", shared by {size} processes," if size > 1 else ""
    least = "more than one chunk" + (f" for each of {size} processes" if size > 1 else "")
    raise ConfigError(
        f"training.batch_size: with batches of {model.config.training.batch_size}{shared} there is one of a single "
        f"chunk (the last of an epoch with chunks of {seconds:g} s), which {model.config.model.type} with the "
        f"criterion {model.config.training.criterion_name} cannot be trained with: {why}; choose a batch_size, or a "
        f"max_num_samples, that leaves {least} over"
    )


def _where_one_is_alone(feed: Feed, size: int) -> float | None:
    """Return the length of the chunks with which a process gets a single one, if it ever does."""
    first = feed.stage
    try:
        for stage in range(feed.stage_at(_EVER) + 1):
            feed.enter(stage)
            if len(feed.keys(0, feed.batches - 1)) < 2 * size:
                return feed.data.config.sample_length
    finally:
        feed.enter(first)
    return None


def _loss_of_noise(model: SeparationModel) -> float:
    """Return the loss of one chunk of noise; nothing that training depends on is changed."""
    with unchanged(model):
        model.train()
        model.set_data(*noise(model, 1))
        with torch.no_grad():
            model.forward()
        value = model.compute_loss()
    model.prediction = model.loss = None
    return value
