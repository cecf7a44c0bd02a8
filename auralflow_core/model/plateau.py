"""The learning rate falls when validation stops improving; after a number of falls training stops."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau


class PlateauSchedule:
    """Halve the learning rate after `patience` epochs without improvement; stop at the plateau after the last.

    Args:
        optimizer: Its learning rates are changed.
        patience: Epochs without a lower loss (by 0.01 % at least) before a reduction.
        max_reductions: Reductions before training is to stop.
        factor: What a reduction multiplies the rates with.
    """

    def __init__(self, optimizer: Optimizer, *, patience: int, max_reductions: int, factor: float = 0.5) -> None:
        # torch counts the epochs that it tolerates, one less than those it waits for.
        self._plateau = ReduceLROnPlateau(optimizer, factor=factor, patience=patience - 1, threshold=1e-4, eps=0.0)
        self._max_reductions = max_reductions
        self.reductions = 0

    def step(self, loss: float) -> bool:
        """Take one epoch's validation loss; return whether to stop training."""
        optimizer = self._plateau.optimizer
        before = [group["lr"] for group in optimizer.param_groups]
        self._plateau.step(loss)
        if [group["lr"] for group in optimizer.param_groups] == before:
            return False
        if self.reductions < self._max_reductions:
            self.reductions += 1
            return False
        for group, lr in zip(optimizer.param_groups, before, strict=True):
            group["lr"] = lr
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {"plateau": self._plateau.state_dict(), "reductions": self.reductions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        self._plateau.load_state_dict(state["plateau"])
        self.reductions = int(state["reductions"])
