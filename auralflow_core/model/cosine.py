"""The learning rate rises in a line and falls along half a cosine."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer

from auralflow_core.errors import ConfigError


class CosineSchedule:
    """Warm-up, then half a cosine, counted in steps.

    Step `s`, from 1 on, is done with `peak * min(1, s / warmup)`, and after the warm-up with
    `final + (peak - final) (1 + cos(pi p)) / 2`, where `p` is the share of the steps after the warm-up that are done
    (Loshchilov and Hutter, "SGDR", 2017, eq. 5, with one period).

    Args:
        optimizer: Its learning rates are changed; those that it has now are the peaks.
        warmup_steps: Steps of the warm-up.
        final_lr: The rate at the end.
        total_steps: Steps in all; `plan` may say so later.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        warmup_steps: int,
        final_lr: float,
        total_steps: int | None = None,
    ) -> None:
        self._optimizer = optimizer
        self.peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self._warmup = warmup_steps
        self._final = final_lr
        self._total = total_steps
        self._done = 0
        self._factor = 1.0
        if total_steps is not None:
            self.plan(total_steps)

    def plan(self, total_steps: int) -> None:
        """Say how many steps there will be, and set the rate of the next one.

        Raises:
            ConfigError: The warm-up would not end before.
        """
        if total_steps <= self._warmup:
            raise ConfigError(
                f"training.scheduler.warmup_steps: {self._warmup} steps of warm-up, but the training ends after "
                f"{total_steps}; lower warmup_steps, or raise max_epochs or max_steps"
            )
        self._total = total_steps
        self._set_rates()

    def rate(self, step: int, peak: float) -> float:
        """Return the learning rate that a step is done with.

        Raises:
            ConfigError: Nobody said how many steps there will be.
        """
        if step <= self._warmup:
            return peak * step / self._warmup
        if self._total is None:
            raise ConfigError("training.scheduler: the cosine must know how many steps there will be; set max_steps")
        share = min(1.0, (step - 1 - self._warmup) / (self._total - self._warmup))
        return self._final + (peak - self._final) * (1 + math.cos(math.pi * share)) / 2

    def after_step(self) -> None:
        """Count a step, and set the rate of the next one."""
        self._done += 1
        self._set_rates()

    def slow_down(self, factor: float) -> None:
        """Multiply the learning rates, from now on."""
        self._factor *= factor
        self._set_rates()

    def step(self, loss: float) -> bool:
        """Take a validation's loss, which changes nothing here; return that training goes on."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {"done": self._done, "factor": self._factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        self._done = int(state["done"])
        self._factor = float(state.get("factor", 1.0))
        if self._total is not None:
            self._set_rates()

    def _set_rates(self) -> None:
        for group, peak in zip(self._optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = self._factor * self.rate(self._done + 1, peak)
