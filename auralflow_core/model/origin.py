"""What fits a model: a criterion, and a checkpoint that shall be gone on from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auralflow_core.config import Config
from auralflow_core.errors import CheckpointError, ConfigError
from auralflow_core.losses import Criterion


def check_origin(
    config: Config, network: nn.Module, path: Path, meta: Mapping[str, Any], state: Mapping[str, Tensor]
) -> None:
    """Refuse a checkpoint that was trained with another architecture, or with other sizes of it.

    Raises:
        CheckpointError: Names what differs.
    """
    model = config.model
    trained = meta.get("model_type", plain_type(model.type))
    if trained != plain_type(model.type):
        raise CheckpointError(
            f"{path}: was trained as {trained}, but config.json says {model.type}; set model.type back to "
            f"{trained}, or train a new model under another name"
        )
    if _shapes(state) == _shapes(network.state_dict()):
        return
    changes = [
        f"{name} was {meta['params'][name]!r} and is {value!r}"
        for name, value in model.params.items()
        if name in meta.get("params", {}) and meta["params"][name] != value
    ]
    dataset = meta.get("config", {}).get("dataset", {})
    for name, value in config.dataset.model_dump(mode="json").items():
        if name in ("num_fft", "num_channels", "targets") and dataset.get(name, value) != value:
            changes.append(f"{name} was {dataset[name]!r} and is {value!r}")
    raise CheckpointError(
        f"{path}: its weights do not fit the settings ({'; '.join(changes) or 'another version of the plugin?'}); "
        "set them back, or train a new model under another name"
    )


def check_criterion(config: Config, network: nn.Module, criterion: Criterion, domain: str, *, makes_mask: bool) -> None:
    """Refuse a criterion that the network cannot be trained with.

    Raises:
        ConfigError: Names what is needed.
    """
    name = config.training.criterion_name
    if criterion.needs_mask and not makes_mask:
        raise ConfigError(
            f"training.criterion: {name!r} needs a model that masks, and {config.model.type} works in the "
            f"{domain} domain; use l1, l2, rmse or si_sdr"
        )
    for term in criterion.needs_terms:
        if term not in getattr(network, "loss_term_names", ()):
            raise ConfigError(
                f"training.criterion: {name!r} needs a network with a loss term {term!r}, which "
                f"{config.model.type} has not; use l1, l2, rmse, mask, component or si_sdr"
            )


def plain_type(type_: str) -> str:
    """Return a model type without the plugin that `type@plugin` may name."""
    return type_.partition("@")[0]


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}
