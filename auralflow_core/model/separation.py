"""What separation needs of a model besides its forward pass: evaluation mode, other devices, any channel count."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from auralflow_core.config import SeparationConfig
    from auralflow_core.model.base import SeparationModel

Model = TypeVar("Model", bound="SeparationModel")


class EvaluationMode:
    """Holds a network in evaluation mode as long as any thread needs it, then gives it back its own mode.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._lock = threading.Lock()
        self._users = 0
        self._was_training = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the network in evaluation mode, and this thread without gradients, during the body."""
        with self._lock:
            if not self._users:
                self._was_training = self._network.training
                self._network.eval()
            self._users += 1
        try:
            # Not inference_mode: what a network keeps of a pass, say a table of positions, must serve training too.
            with torch.no_grad():
                yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._network.train(self._was_training)

    def __reduce__(self) -> tuple[type[EvaluationMode], tuple[nn.Module]]:
        return EvaluationMode, (self._network,)


def variant(model: Model, settings: SeparationConfig, device: torch.device | None = None) -> Model:
    """Return a model for separation alone, by other settings or on another device.

    It shares the network with the model, unless the device is another one: then it has a copy.

    Args:
        model: The model.
        settings: What takes the place of the group `separation`. Where `dtype` is below float32 the network computes
            under autocast, which leaves normalisation and sums in float32.
        device: By default the model's own.
    """
    changed = copy.copy(model)
    training = model.config.training.model_copy(update={"use_mixed_precision": settings.dtype != "float32"})
    changed.config = model.config.model_copy(update={"training": training, "separation": settings})
    changed.amp_dtype = getattr(torch, settings.dtype)
    if device is not None and device != model.device:
        changed.device = device
        for name, part in vars(model).items():
            if isinstance(part, nn.Module):
                setattr(changed, name, copied_to(part, device))
        changed.evaluation_mode = EvaluationMode(changed.network)
    return changed


def copied_to(module: nn.Module, device: torch.device) -> nn.Module:
    """Return a copy of a module on another device; none is made on its own device, which may be full."""

    def move(tensor: Tensor) -> Tensor:
        moved = tensor.detach().to(device, copy=True)
        return nn.Parameter(moved, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else moved

    memo: dict[int, object] = {id(tensor): move(tensor) for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, memo).to(device)


def separate_groups(model: SeparationModel, audio: Tensor) -> Tensor:
    """Map `(batch, channel, time)` of any channel count to `(batch, target, channel, time)`."""
    batch, channels, length = audio.shape
    size = model.config.dataset.num_channels
    groups = -(-channels // size)
    missing = groups * size - channels
    filled = torch.cat([audio, audio[:, -1:].expand(-1, missing, -1)], dim=1) if missing else audio
    estimates = model.estimate_audio(filled.reshape(batch * groups, size, length))
    by_target = estimates.reshape(batch, groups, -1, size, length).transpose(1, 2)
    return by_target.reshape(batch, -1, groups * size, length)[:, :, :channels]
