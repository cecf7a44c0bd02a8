"""The shape in which a network has to answer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from auralflow_core.errors import RegistryError


def with_target_axis(output: Tensor, shape: Sequence[int], num_targets: int, model_type: str) -> Tensor:
    """Return a network's output with its target axis.

    Args:
        output: `(batch, target, ...)`, or `(batch, ...)` with one target.
        shape: Shape `(batch, ...)` of the network's input.
        num_targets: Number of targets.
        model_type: Name of the architecture, for the message.

    Raises:
        RegistryError: The output has another shape. A reshape would put samples in the wrong places unnoticed.
    """
    batch, *rest = shape
    wanted = (batch, num_targets, *rest)
    if num_targets == 1 and output.shape == (batch, *rest):
        return output.unsqueeze(1)
    if output.shape != wanted:
        raise RegistryError(
            f"{model_type}: the network returned shape {tuple(output.shape)} for an input of shape {tuple(shape)} and "
            f"{num_targets} target{'s' * (num_targets > 1)}, where {wanted} is expected; this is a fault of its plugin"
        )
    return output
