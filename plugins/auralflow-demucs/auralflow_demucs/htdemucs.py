"""The network of `HTDemucs`, Demucs v4."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_core.config import validate
from auralflow_demucs.hybrid import HybridUNet
from auralflow_demucs.params import HTDemucsParams
from auralflow_demucs.transformer import CrossTransformerEncoder


class HTDemucs(HybridUNet):
    """Hybrid Transformer Demucs (Rouard, Massa and Défossez, "Hybrid Transformers for Music Source Separation", 2023).

    A U-Net over the spectrogram and one over the waveform, which a transformer joins at their deepest level: it has
    layers of self attention within each, and of cross attention between them.

    In evaluation audio that is shorter than `segment` is padded to it with zeros: so long a segment the network was
    trained with.

    Args:
        num_channels: Channels: 1 for mono, 2 for stereo.
        num_targets: Number of estimates.
        num_fft_bins: Not used; every network is told.
        num_frames: Not used.
        sample_rate: In Hz, of `segment`.
        **settings: Those of `HTDemucsParams`.

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
        sample_rate: int = 44100,
        **settings: Any,
    ) -> None:
        params = validate(HTDemucsParams, settings)
        super().__init__(
            params,
            num_channels=num_channels,
            num_targets=num_targets,
            attention_from=params.depth,
            lstm_from=params.depth,
        )
        self.min_length = round((params.segment or 0) * sample_rate) if params.use_train_segment else 0
        inner = params.levels()[-1].width
        width = params.bottom_channels or inner
        self.channel_upsampler = nn.Conv1d(inner, width, 1) if params.bottom_channels else None
        self.channel_downsampler = nn.Conv1d(width, inner, 1) if params.bottom_channels else None
        self.channel_upsampler_t = nn.Conv1d(inner, width, 1) if params.bottom_channels else None
        self.channel_downsampler_t = nn.Conv1d(width, inner, 1) if params.bottom_channels else None
        self.crosstransformer = CrossTransformerEncoder(width, params) if params.t_layers else None

    def valid_length(self, length: int) -> int:
        """Return the length that the network works at in evaluation: at least that of `segment`."""
        return max(length, self.min_length)

    def forward(self, audio: Tensor) -> Tensor:
        """Estimate the targets.

        Args:
            audio: `(B, C, L)`, of any length from one sample on.

        Returns:
            `(B, S, C, L)`.
        """
        length = audio.shape[-1]
        missing = 0 if self.training else self.valid_length(length) - length
        if not missing:
            return super().forward(audio)
        return super().forward(functional.pad(audio, (0, missing)))[..., :length]

    def bottleneck(self, x: Tensor, xt: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Pass both branches through the transformer."""
        if self.crosstransformer is None:
            return x, xt
        bins = x.shape[2]
        if self.channel_upsampler is not None and self.channel_upsampler_t is not None:
            x = torch.unflatten(self.channel_upsampler(x.flatten(2)), 2, (bins, -1))
            xt = self.channel_upsampler_t(xt)
        x, xt = self.crosstransformer(x, xt)
        if self.channel_downsampler is not None and self.channel_downsampler_t is not None:
            x = torch.unflatten(self.channel_downsampler(x.flatten(2)), 2, (bins, -1))
            xt = self.channel_downsampler_t(xt)
        return x, xt
