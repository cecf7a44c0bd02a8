"""Parts of the magnitudes are hidden from the network while it is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from auralflow_core.config.training_groups import SpecAugmentConfig
from auralflow_core.errors import ConfigError
from auralflow_core.model import SeparationModel


class SpecAugment:
    """Hides bands of frames and of bins (Park et al., "SpecAugment", 2019, section 2; no time warping).

    It changes what the network is given, and nothing else: masks are applied to the whole mixture and losses compare
    with the whole target. All targets and channels of an item share its masks.

    Args:
        config: The settings of `training.spec_augment`.
    """

    def __init__(self, config: SpecAugmentConfig) -> None:
        self._config = config
        self.is_active = False

    def attach(self, network: nn.Module) -> None:
        """Make it part of the network's passes in training mode."""
        network.register_forward_pre_hook(self._before_pass)

    def __call__(self, magnitude: Tensor) -> Tensor:
        """Return `(batch, channel, bin, frame)` with its masks; the draws come from torch's random state."""
        config = self._config
        batch, _, bins, frames = magnitude.shape
        items = batch if config.iid_masks else 1
        # All masks over time together hide no more than the share p.
        longest = min(config.time_mask_param, int(config.p * frames) // max(1, config.n_time_masks))
        over_time = _bands(items, config.n_time_masks, longest, frames)[:, None, None, :]
        over_bins = _bands(items, config.n_freq_masks, min(config.freq_mask_param, bins), bins)[:, None, :, None]
        hidden = (over_time | over_bins).to(magnitude.device)
        filling = 0.0 if config.zero_masking else magnitude.mean(dim=(1, 2, 3), keepdim=True)
        return torch.where(hidden, filling, magnitude)

    def _before_pass(self, network: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not (self.is_active and network.training):
            return None
        return self(arguments[0]), *arguments[1:]


def attach_spec_augment(model: SeparationModel) -> SpecAugment | None:
    """Make what `training.spec_augment` asks for a part of the network's passes; return it, if anything.

    Raises:
        ConfigError: The network is given no magnitudes.
    """
    config = model.config.training.spec_augment
    if config is None:
        return None
    if model.domain != "magnitude":
        raise ConfigError(
            f"training.spec_augment: hides parts of magnitudes, but {model.config.model.type} works in the "
            f"{model.domain} domain; set it to null"
        )
    masks = SpecAugment(config)
    masks.attach(model.network)
    return masks


def _bands(items: int, count: int, longest: int, length: int) -> Tensor:
    """Return which of `(item, length)` lies in one of `count` bands of at most `longest`, drawn uniformly."""
    widths = torch.randint(longest + 1, (items, count, 1))
    starts = (torch.rand(items, count, 1) * (length - widths + 1)).long()
    places = torch.arange(length)
    return ((places >= starts) & (places < starts + widths)).any(dim=1)
