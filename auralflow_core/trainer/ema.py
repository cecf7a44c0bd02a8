"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


class WeightAverage:
    """Follows a network's weights; what is validated and saved is the average.

    After step n it keeps the share min(decay, (1 + n) / (10 + n)) of itself, so that the first weights are soon
    forgotten. Buffers, such as the statistics of batch normalisation, are those of the network.

    Args:
        network: The network that is trained.
        decay: The share that is kept, in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network = network
        self._decay = decay
        self._raw: State | None = None
        self.restart()

    def restart(self) -> None:
        """Begin anew from the network's weights."""
        self._count = 0
        self._average = _copy(self._network.state_dict())

    def update(self) -> None:
        """Take the weights of a step into the average."""
        self._count += 1
        decay = min(self._decay, (1 + self._count) / (10 + self._count))
        parameters = dict(self._network.named_parameters())
        with torch.no_grad():
            for name, tensor in self._network.state_dict().items():
                if name in parameters:
                    self._average[name].lerp_(tensor, 1 - decay)
                else:
                    self._average[name].copy_(tensor)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the network the average for the time of the body; a body inside another one changes nothing."""
        if self._raw is not None:
            yield
            return
        self._raw = _copy(self._network.state_dict())
        self._network.load_state_dict(self._average)
        try:
            yield
        finally:
            # With it the statistics of batch normalisation that were measured for the average.
            self._average = _copy(self._network.state_dict())
            self._network.load_state_dict(self._raw)
            self._raw = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs besides the average, which is saved as the model's weights."""
        return {"count": self._count, "raw": self._raw or self._network.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a saved state, where the network has been given the average."""
        self._count = int(state["count"])
        self._average = _copy(self._network.state_dict())
        self._network.load_state_dict(state["raw"])


def _copy(state: Mapping[str, Tensor]) -> State:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
