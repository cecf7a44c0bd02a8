"""From `training.optimizer` to what updates the parameters."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from auralflow_core.config import TrainingConfig
from auralflow_core.errors import ConfigError

ParameterGroup = dict[str, Any]

_IN_TORCH = {"adam": "Adam", "adamw": "AdamW", "radam": "RAdam", "sgd": "SGD"}
_IN_MADGRAD = {"madgrad": "MADGRAD", "mirrormadgrad": "MirrorMADGRAD"}


def make_optimizer(network: nn.Module, training: TrainingConfig) -> Optimizer:
    """Return the configured optimizer over the parameters that are trained.

    Raises:
        ConfigError: torch or the installed packages lack it, it refuses an argument, or a pattern fits no parameter.
    """
    config = training.optimizer
    arguments = {name: value for name, value in config.args.items() if name != "lr"}
    if config.fused:
        arguments["fused"] = True
    groups = parameter_groups(network, training)
    lr = base_rate(training)
    try:
        if config.name == "muon":
            return MuonAndAdamW(groups, lr=lr, **arguments)
        return _optimizer_class(config.name)(groups, lr=lr, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"training.optimizer.args: {config.name} refuses {config.args}: {error}") from error


def base_rate(training: TrainingConfig) -> float:
    """Return the learning rate of the parameters that have none of their own."""
    return float(training.optimizer.args.get("lr", training.lr))


def parameter_groups(network: nn.Module, training: TrainingConfig) -> list[ParameterGroup]:
    """Return the trained parameters by learning rate; a parameter goes with the first pattern that fits its name.

    Raises:
        ConfigError: A pattern fits no parameter, or none is trained.
    """
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    if not trained:
        raise ConfigError(f"training.freeze: {', '.join(training.freeze)} leaves no parameter to train; freeze fewer")
    groups: list[ParameterGroup] = []
    for pattern, rate in training.optimizer.lr_by_name.items():
        chosen = matching(pattern, trained, "training.optimizer.lr_by_name")
        groups.append({"params": [trained.pop(name) for name in chosen], "lr": float(rate)})
    rest = {"params": list(trained.values()), "lr": base_rate(training)}
    return [rest, *groups] if trained else groups


def matching(pattern: str, names: Iterable[str], setting: str) -> list[str]:
    """Return the names that a pattern with `*` and `?` fits.

    Raises:
        ConfigError: There is none.
    """
    names = list(names)
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ConfigError(
            f"{setting}: {pattern!r} fits the name of no parameter that is left (there are {', '.join(names[:8])} ...)"
        )
    return found


def freeze(network: nn.Module, patterns: Iterable[str]) -> None:
    """Keep the parameters whose names fit a pattern from being trained.

    Raises:
        ConfigError: A pattern fits no parameter.
    """
    parameters = dict(network.named_parameters())
    for pattern in patterns:
        for name in matching(pattern, parameters, "training.freeze"):
            parameters[name].requires_grad_(False)


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


def _optimizer_class(name: str) -> Callable[..., Optimizer]:
    if name in _IN_TORCH:
        found: Callable[..., Optimizer] = getattr(torch.optim, _IN_TORCH[name])
        return found
    try:
        package = importlib.import_module("madgrad")
    except ImportError as error:
        raise ConfigError(
            f"training.optimizer: {name} is in the package madgrad, which is not installed; `pip install madgrad`, "
            "or choose adam, adamw, radam, sgd or muon"
        ) from error
    from_package: Callable[..., Optimizer] = getattr(package, _IN_MADGRAD[name])
    return from_package
