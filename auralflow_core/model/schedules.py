"""From `training.scheduler` to what changes the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch.optim import Optimizer

from auralflow_core.builtin import SCHEDULERS
from auralflow_core.config import TrainingConfig
from auralflow_core.errors import ConfigError, did_you_mean
from auralflow_core.model.cosine import CosineSchedule
from auralflow_core.model.plateau import PlateauSchedule
from auralflow_core.model.registered_schedule import RegisteredSchedule, ScheduleMaker

Schedule = PlateauSchedule | CosineSchedule | RegisteredSchedule
ScheduleFinder = Callable[[str], tuple[ScheduleMaker, Sequence[str]]]
"""Returns what makes the schedule of a name, and the training settings that it takes."""


def make_schedule(optimizer: Optimizer, training: TrainingConfig, find: ScheduleFinder) -> Schedule:
    """Return the configured schedule of an optimizer's learning rates, which are its peaks.

    Args:
        optimizer: The optimizer.
        training: The settings of the group `training`.
        find: Knows the schedules that are not the core's own.

    Raises:
        ConfigError: There is none of that name, or it refuses an argument.
    """
    config = training.scheduler
    if config.is_registered:
        make, settings = find(config.name)
        arguments = {name: getattr(training, name) for name in settings} | config.args
        return RegisteredSchedule(optimizer, config.name, make, arguments)
    if config.is_cosine:
        return CosineSchedule(
            optimizer, warmup_steps=config.warmup_steps, final_lr=config.final_lr, total_steps=training.max_steps
        )
    return PlateauSchedule(optimizer, patience=training.stop_patience, max_reductions=training.max_lr_steps)


def unknown_schedule(name: str) -> tuple[ScheduleMaker, Sequence[str]]:
    """Refuse a schedule that is not the core's own; `build.find_scheduler` knows those of plugins.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(
        f"training.scheduler.name: {name!r} is none of {', '.join(SCHEDULERS)}{did_you_mean(name, SCHEDULERS)}"
    )
