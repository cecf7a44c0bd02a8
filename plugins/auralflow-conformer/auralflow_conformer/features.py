"""From magnitudes to features, and from masks of mel bands to masks of bins.

Shapes: B batch, T target, C channel, F bin, M feature, N frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from auralflow_conformer.params import ConformerParams
from auralflow_core.errors import ConfigError

_FLOOR = 1e-4
# Roughly the mean and deviation of the logarithm of music's magnitudes.
_LEVEL, _SPREAD = -2.0, 3.0


class Features(nn.Module):
    """Logarithms of mel bands or of the lowest bins, and the size and place of the masks that belong to them.

    Args:
        params: The network's parameters.
        num_fft_bins: Bins F of the magnitudes.
        sample_rate: In Hz.

    Raises:
        ConfigError: There are fewer bins than linear features.
    """

    bands: Tensor

    def __init__(self, params: ConformerParams, num_fft_bins: int, sample_rate: int) -> None:
        super().__init__()
        self.size = params.feat_in
        self.is_mel = params.features == "mel"
        self.has_band_masks = self.is_mel and params.mel_masks == "bands"
        self.mask_size = num_fft_bins if self.is_mel and not self.has_band_masks else params.feat_in
        if not self.is_mel and params.feat_in > num_fft_bins:
            raise ConfigError(
                f"feat_in: {params.feat_in} linear features are above the {num_fft_bins} bins of the spectrogram; "
                "lower feat_in or raise num_fft"
            )
        if self.is_mel:
            self.register_buffer("bands", mel_bands(self.size, num_fft_bins, sample_rate), persistent=False)

    def forward(self, magnitude: Tensor) -> Tensor:
        """Map `(B, C, F, N)` to `(B, C, M, N)`."""
        if self.is_mel:
            means = self.bands / self.bands.sum(1, keepdim=True)
            seen = means @ magnitude
        else:
            seen = magnitude[:, :, : self.size]
        return ((seen + _FLOOR).log() - _LEVEL) / _SPREAD

    def spread(self, masks: Tensor) -> Tensor:
        """Map masks of bands `(B, T, C, M, N)` to masks of bins `(B, T, C, F, N)`; others are returned as they are."""
        return self.bands.T @ masks if self.has_band_masks else masks


def mel_bands(num_bands: int, num_bins: int, sample_rate: int) -> Tensor:
    """Return triangles over frequency `(M, F)` that sum to one at every bin.

    The centres are equally spaced in mel (2595 log10(1 + f / 700 Hz); O'Shaughnessy, "Speech Communication", 1987),
    the first at 0 Hz and the last at half the sample rate. A triangle reaches to the centres beside its own, and at
    least one bin to each side, so that none is empty where bands lie closer than bins.
    """
    nyquist = sample_rate / 2
    mels = torch.linspace(0, 2595 * math.log10(1 + nyquist / 700), num_bands, dtype=torch.float64)
    centres = 700 * (10 ** (mels / 2595) - 1)
    step = nyquist / max(num_bins - 1, 1)
    distance = torch.linspace(0, nyquist, num_bins, dtype=torch.float64) - centres[:, None]  # (M, F), in Hz
    gaps = centres.diff().clamp(min=step)
    below = torch.cat([gaps[:1], gaps])[:, None]
    above = torch.cat([gaps, gaps[-1:]])[:, None]
    triangles = (1 - torch.where(distance < 0, -distance / below, distance / above)).clamp(min=0)
    return (triangles / triangles.sum(0)).float()
