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

_EPSILON = 1e-8


class Validated(NamedTuple):
    """The mean loss over chunks, and the mean of the metric in dB where that is not the loss."""

    loss: float
    score: float | None = None

    @property
    def value(self) -> float:
        """What decides on the best checkpoint: the lower the better."""
        return self.loss if self.score is None else -self.score


def validate(model: SeparationModel, batches: Iterable[Batch], metric: str, tell: Callable[[int], object]) -> Validated:
    """Return the scores of a model in evaluation mode.

    Args:
        model: The model.
        batches: The validation batches.
        metric: `loss`, `si_sdr` or `usdr`; silent targets have no score in dB and are left out.
        tell: Called with the number of batches that are done.

    Raises:
        TrainingError: All targets are silent, so that there is no score in dB.
    """
    total, chunks, scores = 0.0, 0, []
    model.eval()
    for number, batch in enumerate(batches, start=1):
        model.set_data(*batch)
        model.test()
        total += model.compute_loss() * len(batch[0])
        chunks += len(batch[0])
        if metric != "loss":
            assert model.prediction is not None
            scores.append(_decibels(metric, model.prediction.estimate_audio, model.prediction.target_audio))
        tell(number)
    if not scores:
        return Validated(total / chunks)
    known = torch.cat(scores)
    if known.numel() == 0:
        raise TrainingError(
            f"training.validation.metric: {metric} has no value, since all targets of the validation chunks are "
            "silent; set it to loss, or validate with other songs"
        )
    mean = float(known.mean())
    return Validated(total / chunks, mean if math.isfinite(mean) else -math.inf)


def _decibels(metric: str, estimate: Tensor, target: Tensor) -> Tensor:
    """Return the scores of the targets that sound; `(batch, target, channel, time)` becomes `(any)`."""
    if metric == "si_sdr":
        estimate, target = estimate.flatten(0, 2), target.flatten(0, 2)
        return si_sdr(estimate, target)[target.square().sum(-1) > 0].cpu()
    # uSDR: one ratio over all channels (Mitsufuji et al., "Music Demixing Challenge 2021", 2022, eq. 1).
    estimate, target = estimate.flatten(2).flatten(0, 1), target.flatten(2).flatten(0, 1)
    energy, error = target.square().sum(-1), (target - estimate).square().sum(-1)
    return (10 * torch.log10((energy + _EPSILON) / (error + _EPSILON)))[energy > 0].cpu()
