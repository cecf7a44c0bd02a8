"""Masks of magnitude spectrograms."""

from __future__ import annotations

from torch import Tensor

from auralflow_core.model.base import SeparationModel
from auralflow_core.model.prediction import Prediction
from auralflow_core.model.shapes import with_target_axis


class SpectrogramMaskModel(SeparationModel):
    """Estimates each target as mask times mixture, in the magnitude domain, with the mixture's phase.

    The network gets magnitudes `(batch, channel, bin, frame)` and returns masks `(batch, target, channel, bin, frame)`;
    with one target the target axis may be left out.
    """

    domain = "magnitude"
    makes_mask = True

    def predict(self, mixture: Tensor, target: Tensor | None = None) -> Prediction:
        """Estimate the targets of `(batch, channel, time)`.

        Raises:
            RegistryError: The network returned another shape.
        """
        length = mixture.shape[-1]
        spectrogram = self.stft(mixture)  # (batch, channel, bin, frame), complex
        magnitude = spectrogram.abs()
        with self.autocast():
            mask = self.network(magnitude)
        mask = with_target_axis(mask, magnitude.shape, len(self.targets), self.config.model.type).float()
        return Prediction(
            self.stft,
            mixture,
            magnitude.unsqueeze(1),
            target,
            lambda: self.istft(mask * spectrogram.unsqueeze(1), length),
            magnitude=lambda: mask * magnitude.unsqueeze(1),
            mask=mask,
            terms=self.own_terms(),
        )

    def estimate(self, prediction: Prediction) -> Tensor:
        """Return the masked magnitudes `(batch, target, channel, bin, frame)`."""
        return prediction.estimate_magnitude
