"""Batch normalisation between training and validation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from auralflow_core.model import SeparationModel


def measure_statistics(model: SeparationModel, mixtures: Iterable[Tensor]) -> None:
    """Set the running statistics of batch normalisation to those of the given mixtures, under the current weights.

    The running averages lag behind weights that move fast: early in training that alone cost half of the gain in
    SDR. Averaged anew over a few batches, with dropout off as in evaluation, they fit the weights (Wu and Johnson,
    "Rethinking Batch in BatchNorm", 2021, section 3.1). Training itself never uses them.

    Args:
        model: The model; it is left in evaluation mode.
        mixtures: Batches `(batch, channel, time)`.
    """
    layers = [layer for layer in model.network.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches that follow
        layer.train()
    with torch.no_grad():
        for mixture in mixtures:
            model.predict(mixture.to(model.device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
