"""Muon for matrices, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from auralflow_core.errors import ConfigError

ParameterGroup = dict[str, Any]


class MuonAndAdamW(Optimizer):
    """Muon for matrices, AdamW for everything else: biases, norms, kernels of convolutions.

    Muon makes the update of a matrix orthogonal, which has no meaning for other shapes (Jordan et al., "Muon: An
    optimizer for hidden layers in neural networks", 2024).

    Args:
        groups: Parameters and their learning rates.
        lr: The rate of groups that name none.
        arguments: Muon's own arguments; AdamW takes `weight_decay` from them.
    """

    def __init__(self, groups: list[ParameterGroup], *, lr: float, **arguments: Any) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError("training.optimizer: this torch has no Muon; `pip install --upgrade torch`, or use adamw")
        matrices = _parts_of(groups, lambda parameter: parameter.dim() == 2)
        others = _parts_of(groups, lambda parameter: parameter.dim() != 2)
        if not matrices:
            raise ConfigError("training.optimizer: muon updates matrices, and this network has none; use adamw")
        decay = {name: value for name, value in arguments.items() if name == "weight_decay"}
        self.parts: list[Optimizer] = [torch.optim.Muon(matrices, lr=lr, **arguments)]
        if others:
            self.parts.append(torch.optim.AdamW(others, lr=lr, **decay))
        self._join()

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters."""
        for part in self.parts:
            part.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a saved state."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._join()

    def _join(self) -> None:
        # The groups themselves, not copies: what a schedule changes in them counts.
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def _parts_of(groups: list[ParameterGroup], is_wanted: Callable[[Tensor], bool]) -> list[ParameterGroup]:
    """Return the groups with the wanted parameters alone; groups that have none are left out."""
    chosen = [{**group, "params": [each for each in group["params"] if is_wanted(each)]} for group in groups]
    return [group for group in chosen if group["params"]]
