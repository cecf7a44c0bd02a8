"""The network of `HDemucs`, Demucs v3."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from auralflow_core.config import validate
from auralflow_demucs.hybrid import HybridUNet
from auralflow_demucs.params import HDemucsParams


class HDemucs(HybridUNet):
    """Hybrid Demucs (Défossez, "Hybrid Spectrogram and Waveform Source Separation", 2021).

    A U-Net over the spectrogram and one over the waveform meet at the level where one frequency is left; the levels
    below it have residual branches with LSTMs and local attention.

    Args:
        num_channels: Channels: 1 for mono, 2 for stereo.
        num_targets: Number of estimates.
        num_fft_bins: Not used; every network is told.
        num_frames: Not used.
        sample_rate: Not used.
        **settings: Those of `HDemucsParams`.

    Raises:
        ConfigError: A setting is unknown or out of range, or two do not fit each other.
    """

    def __init__(
        self,
        *,
        num_channels: int = 2,
        num_targets: int = 4,
        num_fft_bins: int | None = None,
        num_frames: int | None = None,
        sample_rate: int | None = None,
        **settings: Any,
    ) -> None:
        params = validate(HDemucsParams, settings)
        super().__init__(
            params,
            num_channels=num_channels,
            num_targets=num_targets,
            is_old=params.hybrid_old,
            attention_from=params.dconv_attn,
            lstm_from=params.dconv_lstm,
        )

    def valid_length(self, length: int) -> int:
        """Return the same length: a shorter last segment is estimated as it is."""
        return length

    def bottleneck(self, x: Tensor, xt: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Give nothing: the decoders start from the encoders' output alone."""
        return None, None
