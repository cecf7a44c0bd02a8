"""Weights of one network become the first ones of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from auralflow_core.errors import CheckpointError


@dataclass(frozen=True)
class Transfer:
    """What became of the weights of a model that another one starts from.

    Attributes:
        source: Where they come from.
        taken: Names of those that both have, in one shape.
        missing: Names that the source lacks; these weights stay as they were drawn.
        mismatched: Names that have another shape, with both shapes; these stay too.
        unused: Names that the source alone has.
    """

    source: str
    taken: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the report, a line for each kind that there is."""
        kinds = {
            f"Taken from {self.source}": (len(self.taken), ()),
            "missing there, drawn at random": (len(self.missing), self.missing),
            "of another shape, drawn at random": (len(self.mismatched), self.mismatched),
            "there and not used": (len(self.unused), self.unused),
        }
        return [
            f"{what}: {count} weights{': ' if names else ''}{_some(names)}"
            for what, (count, names) in kinds.items()
            if count
        ]


def transfer(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> Transfer:
    """Give a network the weights that fit it; return what became of each.

    Raises:
        CheckpointError: None fits.
    """
    own = network.state_dict()
    shared = [name for name in own if name in weights]
    fitting = {name: weights[name] for name in shared if weights[name].shape == own[name].shape}
    if not fitting:
        raise CheckpointError(
            f"--from {source}: none of its {len(weights)} weights has the name and the shape of one of this model's "
            f"{len(own)}; start from a model of the same type and sizes"
        )
    network.load_state_dict({**own, **fitting})
    return Transfer(
        source,
        tuple(fitting),
        tuple(name for name in own if name not in weights),
        tuple(f"{name} {_shape(weights[name])} for {_shape(own[name])}" for name in shared if name not in fitting),
        tuple(name for name in weights if name not in own),
    )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _some(names: tuple[str, ...], most: int = 10) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
