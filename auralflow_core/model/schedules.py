"""From `training.scheduler` to what changes the learning rate."""

from __future__ import annotations

from torch.optim import Optimizer

from auralflow_core.config import TrainingConfig
from auralflow_core.model.cosine import CosineSchedule
from auralflow_core.model.plateau import PlateauSchedule


def make_schedule(optimizer: Optimizer, training: TrainingConfig) -> PlateauSchedule | CosineSchedule:
    """Return the configured schedule of an optimizer's learning rates, which are its peaks."""
    config = training.scheduler
    if config.is_cosine:
        return CosineSchedule(
            optimizer, warmup_steps=config.warmup_steps, final_lr=config.final_lr, total_steps=training.max_steps
        )
    return PlateauSchedule(optimizer, patience=training.stop_patience, max_reductions=training.max_lr_steps)
