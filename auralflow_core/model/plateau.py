"""The learning rate falls when validation stops improving; after a number of falls training stops."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer

# A loss counts as better when it is lower by this share of the best one's size.
_THRESHOLD = 1e-4


class PlateauSchedule:
    """Halve the learning rate after `patience` epochs without improvement; stop at the plateau after the last.

    torch's `ReduceLROnPlateau` tells neither that it reduced nor that it would have to again, and its relative
    threshold turns round for losses below zero, such as that of SI-SDR.

    Args:
        optimizer: Its learning rates are changed.
        patience: Epochs without a lower loss before a reduction.
        max_reductions: Reductions before training is to stop.
        factor: What a reduction multiplies the rates with.
    """

    def __init__(self, optimizer: Optimizer, *, patience: int, max_reductions: int, factor: float = 0.5) -> None:
        self._optimizer = optimizer
        self._patience = patience
        self._max_reductions = max_reductions
        self._factor = factor
        self._best = math.inf
        self._bad_epochs = 0
        self.reductions = 0

    def plan(self, total_steps: int) -> None:
        """Hear how many steps there will be, on which nothing here depends."""

    def after_step(self) -> None:
        """Hear of a step, which changes nothing here."""

    def slow_down(self, factor: float) -> None:
        """Multiply the learning rates."""
        for group in self._optimizer.param_groups:
            group["lr"] *= factor

    def step(self, loss: float) -> bool:
        """Take one epoch's validation loss; return whether to stop training."""
        if self._best == math.inf or loss < self._best - _THRESHOLD * abs(self._best):
            self._best, self._bad_epochs = loss, 0
            return False
        self._bad_epochs += 1
        if self._bad_epochs < self._patience:
            return False
        if self.reductions == self._max_reductions:
            return True
        self.reductions += 1
        self._bad_epochs = 0
        self.slow_down(self._factor)
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {"best": self._best, "bad_epochs": self._bad_epochs, "reductions": self.reductions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        self._best = float(state["best"])
        self._bad_epochs = int(state["bad_epochs"])
        self.reductions = int(state["reductions"])
