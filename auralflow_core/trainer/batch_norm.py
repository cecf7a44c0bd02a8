"""Batch normalisation between training and validation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from auralflow_core.model import SeparationModel
from auralflow_core.trainer.distributed import World


def measure_statistics(model: SeparationModel, mixtures: Iterable[Tensor], world: World) -> None:
    """Set the running statistics of batch normalisation to those of the given mixtures, under the current weights.

    The running averages lag behind weights that move fast: early in training that alone cost half of the gain in
    SDR. Averaged anew over a few batches, with dropout off as in evaluation, they fit the weights (Wu and Johnson,
    "Rethinking Batch in BatchNorm", 2021, section 3.1). Training itself never uses them.

    Several processes measure them on a part each and take the mean, and all take the first one's other buffers.

    Args:
        model: The model; it is left in evaluation mode.
        mixtures: Batches `(batch, channel, time)`; with none the statistics stay as they are. Batches that hold
            samples that are no numbers are passed over.
        world: The processes that train the model.
    """
    world.copy_first(_buffers(model.network))
    layers = [layer for layer in model.network.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    mixtures = (mixture for mixture in mixtures if mixture.isfinite().all())
    first = next(mixtures, None) if layers else None
    if first is None:
        return
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches that follow
        layer.train()
    with torch.no_grad():
        for mixture in itertools.chain([first], mixtures):
            model.predict(mixture.to(model.device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
        world.average(each for each in (layer.running_mean, layer.running_var) if each is not None)


def _buffers(network: nn.Module) -> list[Tensor]:
    parameters = dict(network.named_parameters())
    return [tensor for name, tensor in network.state_dict().items() if name not in parameters]
