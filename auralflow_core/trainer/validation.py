"""What a model scores on the validation chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from auralflow_core.data.chunks import Batch
from auralflow_core.errors import TrainingError
from auralflow_core.losses import si_sdr
from auralflow_core.model import SeparationModel
from auralflow_core.trainer.distributed import World

_EPSILON = 1e-8


class Validated(NamedTuple):
    """The mean loss over chunks, and the mean of the metric in dB where that is not the loss."""

    loss: float
    score: float | None = None

    @property
    def value(self) -> float:
        """What decides on the best checkpoint: the lower the better."""
        return self.loss if self.score is None else -self.score


def validate(
    model: SeparationModel, batches: Iterable[tuple[Batch, int]], metric: str, world: World, tell: Callable[[int], None]
) -> Validated:
    """Return the scores of a model in evaluation mode, the same in all processes.

    Args:
        model: The model.
        batches: This process's part of the validation batches, and how many chunks of each count, from its first on.
        metric: `loss`, `si_sdr` or `usdr`; silent targets have no score in dB and are left out.
        world: The processes that share the batches.
        tell: Called with the number of batches that are done.

    Raises:
        TrainingError: All targets are silent, so that there is no score in dB.
    """
    total, chunks, scores = 0.0, 0, []
    model.eval()
    for number, (batch, count) in enumerate(batches, start=1):
        model.set_data(*batch)
        model.test()
        loss = model.compute_loss()
        if count:
            total += loss * count
            chunks += count
        if count and metric != "loss":
            assert model.prediction is not None
            scores.append(_decibels(metric, model.prediction.estimate_audio, model.prediction.target_audio))
        tell(number)
    known = torch.cat(scores) if scores else torch.zeros(0)
    sums = world.sum([total, chunks, float(known.double().sum()), known.numel()])
    loss, sum_of_scores, num_scores = sums[0] / sums[1], sums[2], sums[3]
    if metric == "loss":
        return Validated(loss)
    if not num_scores:
        raise TrainingError(
            f"training.validation.metric: {metric} has no value, since all targets of the validation chunks are "
            "silent; set it to loss, or validate with other songs"
        )
    mean = sum_of_scores / num_scores
    return Validated(loss, mean if math.isfinite(mean) else -math.inf)


def _decibels(metric: str, estimate: Tensor, target: Tensor) -> Tensor:
    """Return the scores of the targets that sound; `(batch, target, channel, time)` becomes `(any)`."""
    if metric == "si_sdr":
        estimate, target = estimate.flatten(0, 2), target.flatten(0, 2)
        return si_sdr(estimate, target)[target.square().sum(-1) > 0].cpu()
    # uSDR: one ratio over all channels (Mitsufuji et al., "Music Demixing Challenge 2021", 2022, eq. 1).
    estimate, target = estimate.flatten(2).flatten(0, 1), target.flatten(2).flatten(0, 1)
    energy, error = target.square().sum(-1), (target - estimate).square().sum(-1)
    return (10 * torch.log10((energy + _EPSILON) / (error + _EPSILON)))[energy > 0].cpu()
