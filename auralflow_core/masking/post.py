"""What the settings of separation make of masks."""

from __future__ import annotations

from torch import Tensor

from auralflow_core.config import SeparationConfig
from auralflow_core.errors import ConfigError
from auralflow_core.masking.masks import extend_masks, ratio_masks
from auralflow_core.masking.wiener import wiener


class PostProcessing:
    """Turns masks and the mixture into the targets' spectrograms, by the settings of the group `separation`.

    Args:
        settings: The group.
        num_targets: Number of targets.

    Raises:
        ConfigError: Targets shall share the mixture, and there is but one.
    """

    def __init__(self, settings: SeparationConfig, num_targets: int) -> None:
        self._settings = settings
        if num_targets > 1:
            return
        if settings.separation_exponent is not None:
            raise ConfigError(
                "separation.separation_exponent: ratio masks share the mixture among the targets, and this model has "
                "one, which would get all of it; leave it null, or choose a model of two or more targets"
            )
        if settings.wiener and not settings.wiener_residual:
            raise ConfigError(
                f"separation.wiener: {settings.wiener} iterations would give the model's only target the whole "
                "mixture; set separation.wiener_residual, or choose a model of two or more targets"
            )

    def __call__(self, masks: Tensor, mixture: Tensor) -> Tensor:
        """Return the targets' spectrograms, complex `(batch, target, channel, bin, frame)`.

        Args:
            masks: `(batch, target, channel, bin, frame)`, of all bins or of the lowest.
            mixture: Complex `(batch, channel, bin, frame)`.
        """
        settings = self._settings
        if settings.separation_exponent is not None:
            magnitudes = mixture.abs()[:, None, :, : masks.shape[-2]]
            masks = ratio_masks(masks * magnitudes, settings.separation_exponent)
        masks = extend_masks(masks, mixture.shape[-2], settings.mask_extension)
        return wiener(
            masks * mixture.unsqueeze(1),
            mixture,
            settings.wiener,
            residual=settings.wiener_residual,
            eps=settings.wiener_eps,
        )
