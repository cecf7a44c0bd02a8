"""Masks of magnitude spectrograms."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from auralflow_core.config import SeparationConfig
from auralflow_core.masking import Magnitudes, OverlapAdd, PostProcessing, SpectrogramWindows, extend_masks
from auralflow_core.model.base import SeparationModel
from auralflow_core.model.prediction import Prediction
from auralflow_core.model.shapes import with_target_axis


class MaskPrediction(Prediction):
    """A prediction whose magnitudes have the bins that the network masks, which may be the lowest only."""

    @cached_property
    def target_magnitude(self) -> Tensor:
        """The targets' magnitudes."""
        return super().target_magnitude[..., : self.mask.shape[-2], :]


class SpectrogramMaskModel(SeparationModel):
    """Estimates each target as mask times mixture, in the magnitude domain, with the mixture's phase.

    The network gets magnitudes `(batch, channel, bin, frame)` and returns masks `(batch, target, channel, bin, frame)`;
    with one target the target axis may be left out. It may mask the lowest bins only: losses then compare these, and
    separation extends the masks as `separation.mask_extension` says.

    A separation goes from the masks to the audio by windows of frames, with what the group `separation` asks for in
    between (`masking.PostProcessing`). A network may save it from holding the masks of the whole audio: by a method
    `mask_windows` that takes the magnitudes as an iterable of windows, over which it may iterate several times, and
    yields the masks of each window in order.
    """

    domain = "magnitude"
    makes_mask = True

    def check_separation(self, settings: SeparationConfig) -> None:
        """Refuse settings of a separation that cannot work with this model.

        Raises:
            ConfigError: The post-processing needs more targets.
        """
        PostProcessing(settings, len(self.targets))

    def predict(self, mixture: Tensor, target: Tensor | None = None) -> Prediction:
        """Estimate the targets of `(batch, channel, time)`.

        Raises:
            RegistryError: The network returned another shape.
        """
        length = mixture.shape[-1]
        spectrogram = self.stft(mixture)  # (batch, channel, bin, frame), complex
        magnitude = spectrogram.abs()
        mask = self._mask(magnitude)
        masked = magnitude[..., : mask.shape[-2], :].unsqueeze(1)
        return MaskPrediction(
            self.stft,
            mixture,
            masked,
            target,
            lambda: self.istft(self._extended(mask) * spectrogram.unsqueeze(1), length),
            magnitude=lambda: mask * masked,
            mask=mask,
            terms=self.own_terms(),
        )

    def estimate(self, prediction: Prediction) -> Tensor:
        """Return the masked magnitudes `(batch, target, channel, bin, frame)`."""
        return prediction.estimate_magnitude

    def estimate_audio(self, mixture: Tensor) -> Tensor:
        """Estimate and post-process the targets' audio `(batch, target, channel, time)`, window by window.

        Raises:
            RegistryError: The network returned another shape.
            ConfigError: The post-processing needs more targets.
        """
        batch, channels, length = mixture.shape
        process = PostProcessing(self.config.separation, len(self.targets))
        windows = SpectrogramWindows(self.stft, mixture, self.config.separation.wiener_window)
        joined = OverlapAdd(self.stft, (batch, len(self.targets), channels, length), windows.num_frames)
        for mask, spectrogram in self._masked_windows(windows, mixture):
            joined.add(process(mask, spectrogram))
        return joined.audio()

    def _masked_windows(self, windows: SpectrogramWindows, mixture: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the masks and the spectrogram of each window."""
        by_windows = getattr(self.network, "mask_windows", None)
        if by_windows is not None:
            masks = by_windows(Magnitudes(windows))
            for spectrogram in windows:
                with self.autocast():  # and nothing of what is done between two windows
                    mask = next(masks)
                yield self._checked(mask, spectrogram), spectrogram
            return
        spectrogram = self.stft(mixture)
        mask, size = self._mask(spectrogram.abs()), self.config.separation.wiener_window
        yield from zip(torch.split(mask, size, dim=-1), torch.split(spectrogram, size, dim=-1), strict=True)

    def _mask(self, magnitude: Tensor) -> Tensor:
        return self._checked(self.run(magnitude), magnitude)

    def _checked(self, mask: Tensor, spectrogram: Tensor) -> Tensor:
        """Return a network's masks as float32 `(batch, target, channel, bin, frame)`."""
        batch, channels, bins, frames = spectrogram.shape
        estimated = min(mask.shape[-2], bins) if mask.dim() > 1 else bins
        shape = (batch, channels, estimated, frames)
        return with_target_axis(mask, shape, len(self.targets), self.config.model.type).float()

    def _extended(self, mask: Tensor) -> Tensor:
        return extend_masks(mask, self.config.dataset.num_bins, self.config.separation.mask_extension)
