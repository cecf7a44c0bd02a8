"""The training logger `wandb`: a run of Weights & Biases. Imports neither torch nor wandb."""

from __future__ import annotations

from auralflow_core import hookimpl
from auralflow_core.hookspecs import Register


@hookimpl
def register_loggers(register: Register) -> None:
    """Register the logger that `visuals.wandb` switches on."""
    register(
        "wandb",
        logger="auralflow_wandb.logger:WandbLogger",
        summary="a run of Weights & Biases, online or offline",
    )
