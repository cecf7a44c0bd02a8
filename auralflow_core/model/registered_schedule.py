"""A schedule of the learning rate that a plugin registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer

from auralflow_core.errors import ConfigError, TrainingError

ScheduleMaker = Callable[..., Any]
"""Called with the optimizer and arguments by name; what it returns is a schedule as torch's are."""

_METHODS = ("step", "state_dict", "load_state_dict")
# What arguments that do not fit end in; torch's OneCycleLR divides by zero where a phase has no step.
_FAULTS = (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError)


class RegisteredSchedule:
    """The learning rate follows a schedule as torch's are: its `step()` changes the rates after each step.

    Args:
        optimizer: Its learning rates are changed; those that it has now are what the schedule begins with.
        name: What `scheduler.name` says, for messages.
        make: Makes the schedule. One with a method `after_validation(loss)` is told each validation's loss, and may
            return that training is to stop.
        arguments: What `make` is called with.

    Raises:
        ConfigError: It refuses an argument, or does not make a schedule.
    """

    def __init__(self, optimizer: Optimizer, name: str, make: ScheduleMaker, arguments: Mapping[str, Any]) -> None:
        self._optimizer = optimizer
        self._name = name
        self._began_with = {"name": name, "arguments": dict(arguments), "rates": _rates(optimizer)}
        try:
            self._schedule = make(optimizer, **arguments)
        except _FAULTS as error:
            raise ConfigError(f"training.scheduler.args: {name} refuses {dict(arguments)}: {error}") from error
        missing = [method for method in _METHODS if not callable(getattr(self._schedule, method, None))]
        if missing:
            made = type(self._schedule).__name__
            raise ConfigError(
                f"training.scheduler.name: {name} makes a {made}, which is no schedule, for want of "
                f"{', '.join(missing)}; tell its author"
            )
        self._rates = _rates(optimizer)
        self._factor = 1.0

    def plan(self, total_steps: int) -> None:
        """Set the rates of the next step; how many there will be, the schedule knows by its arguments."""
        self._set_rates()

    def after_step(self) -> None:
        """Let the schedule go on by a step."""
        self._let(self._schedule.step)

    def slow_down(self, factor: float) -> None:
        """Multiply the learning rates, from now on."""
        self._factor *= factor
        self._set_rates()

    def step(self, loss: float) -> bool:
        """Tell a schedule that listens a validation's loss; return whether to stop training."""
        listen = getattr(self._schedule, "after_validation", None)
        return listen is not None and bool(self._let(listen, loss))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        schedule = self._schedule.state_dict()
        return {"began_with": self._began_with, "rates": self._rates, "factor": self._factor, "schedule": schedule}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state.

        Raises:
            ValueError: It began with other settings, which it holds itself and cannot be told to change.
        """
        before = state.get("began_with", {})
        changed = [key for key, value in self._began_with.items() if before.get(key) != value]
        if changed:
            facts = ", ".join(f"{key} {before.get(key)} are {self._began_with[key]} now" for key in changed)
            raise ValueError(f"{self._name} goes on with what it began with, and its {facts}")
        self._schedule.load_state_dict(state["schedule"])
        self._rates, self._factor = list(state["rates"]), float(state["factor"])
        self._set_rates()

    def _let(self, act: Callable[..., Any], *arguments: Any) -> Any:
        """Let the schedule change its own rates, which know nothing of `slow_down`."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate
        try:
            result = act(*arguments)
        except _FAULTS as error:
            raise TrainingError(
                f"training.scheduler: {self._name} cannot go on ({error}); the last checkpoint is whole: mend "
                "scheduler.args, or take another schedule, and train --from it"
            ) from error
        self._rates = _rates(self._optimizer)
        self._set_rates()
        return result

    def _set_rates(self) -> None:
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = self._factor * rate


def _rates(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]
