"""The shapes that go into a model, and those in which its network has to answer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from auralflow_core.config import DatasetConfig
from auralflow_core.errors import AuralflowError, RegistryError


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


def check_batch(mixture: Tensor, target: Tensor | None, config: DatasetConfig) -> None:
    """Refuse a batch that is not `(batch, channel, time)`, with targets `(batch, target, channel, time)`.

    Raises:
        AuralflowError: One has another shape than the settings of the group `dataset` say.
    """
    channels, targets = config.num_channels, config.targets
    if mixture.dim() != 3 or mixture.shape[1] != channels:
        raise AuralflowError(
            f"set_data: the mixture has shape {tuple(mixture.shape)}; pass (batch, {channels}, time), as "
            "dataset.num_channels says"
        )
    batch, _, time = mixture.shape
    wanted = (batch, len(targets), channels, time)
    if target is not None and target.shape != wanted:
        raise AuralflowError(
            f"set_data: the targets have shape {tuple(target.shape)} and not {wanted}, which is (batch, target, "
            f"channel, time) for {', '.join(targets)}"
        )
