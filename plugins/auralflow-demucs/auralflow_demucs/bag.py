"""The network of `DemucsBag`: several networks, whose estimates are averaged with a weight for each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from auralflow_demucs.demucs import Demucs
from auralflow_demucs.hdemucs import HDemucs
from auralflow_demucs.htdemucs import HTDemucs
from auralflow_demucs.plan import check_weights

NETWORKS: Mapping[str, type[nn.Module]] = {"Demucs": Demucs, "HDemucs": HDemucs, "HTDemucs": HTDemucs}


class DemucsBag(nn.Module):
    """A weighted mean of the estimates of several networks.

    Args:
        num_channels: Channels C: 1 for mono, 2 for stereo.
        num_targets: Number of estimates S.
        members: The networks: each a `type` and its `params`.
        weights: One row a member with a weight for each target; none given: all alike.
        num_fft_bins: Handed on to the members.
        num_frames: Handed on to the members.
        sample_rate: Handed on to the members.

    Raises:
        ConfigError: The weights do not fit members and targets, or a member's settings are refused.
    """

    weights: Tensor

    def __init__(
        self,
        *,
        num_channels: int = 2,
        num_targets: int = 4,
        members: Sequence[Mapping[str, Any]] = ({"type": "HTDemucs"},),
        weights: Sequence[Sequence[float]] | None = None,
        num_fft_bins: int | None = None,
        num_frames: int | None = None,
        sample_rate: int = 44100,
    ) -> None:
        super().__init__()
        check_weights(weights, len(members), num_targets)
        self.models = nn.ModuleList(
            NETWORKS[member["type"]](
                num_channels=num_channels,
                num_targets=num_targets,
                sample_rate=sample_rate,
                **member.get("params", {}),
            )
            for member in members
        )
        weights = weights or [[1.0] * num_targets] * len(members)
        rows = torch.tensor(weights)
        self.register_buffer("weights", rows / rows.sum(0), persistent=False)
        self._counts = [any(row) for row in weights]

    @property
    def members(self) -> list[tuple[nn.Module, Tensor]]:
        """Each network, with its share of each target: separated side by side, by segments of their own."""
        return list(zip(self.models, self.weights, strict=True))

    def valid_length(self, length: int) -> int:
        """Return the shortest length that a member asks for; the others fill up with zeros themselves."""
        lengths: list[int] = [model.valid_length(length) for model in self.models]  # type: ignore[operator]
        return min(lengths)

    def forward(self, audio: Tensor) -> Tensor:
        """Estimate the targets.

        Args:
            audio: `(batch, C, time)`, of any length from one sample on.

        Returns:
            `(batch, S, C, time)`.
        """
        shares = self.weights[:, :, None, None]
        members = zip(self.models, shares, self._counts, strict=True)
        estimates = [model(audio) * share for model, share, counts in members if counts]
        return torch.stack(estimates).sum(0)
