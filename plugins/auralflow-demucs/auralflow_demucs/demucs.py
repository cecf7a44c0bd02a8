"""The network of `Demucs`, versions 1 and 2."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from auralflow_core.config import validate
from auralflow_demucs.params import DemucsParams
from auralflow_demucs.resample import Resample
from auralflow_demucs.residual import BLSTM, DConv, rescale_weights
from auralflow_demucs.scaling import Level


class Demucs(nn.Module):
    """A U-Net over the waveform (Défossez et al., "Music Source Separation in the Waveform Domain", 2019).

    Its second version has residual branches with LSTMs and local attention. Any length goes in: it is padded to the
    next that the strides fit, half to each side.

    Args:
        num_channels: Channels C: 1 for mono, 2 for stereo.
        num_targets: Number of estimates S.
        num_fft_bins: Not used; every network is told.
        num_frames: Not used.
        sample_rate: Not used.
        **settings: Those of `DemucsParams`.

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
        super().__init__()
        self.params = params = validate(DemucsParams, settings)
        self.num_targets = num_targets
        self.upsample = Resample(1, 2) if params.resample else nn.Identity()
        self.downsample = Resample(2, 1) if params.resample else nn.Identity()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        inputs, outputs = num_channels, num_targets * num_channels
        widths = params.widths()
        for index, width in enumerate(widths):
            self.encoder.append(self._down(index, inputs, width))
            self.decoder.insert(0, self._up(index, width, outputs))
            inputs = outputs = width
        self.lstm = BLSTM(widths[-1], params.lstm_layers) if params.lstm_layers else None
        if params.rescale:
            rescale_weights(self, params.rescale)

    def valid_length(self, length: int) -> int:
        """Return the shortest length, from this on, that all strides fit."""
        params, rate = self.params, 1 + self.params.resample
        frames = length * rate
        for _ in range(params.depth):
            frames = max(1, math.ceil((frames - params.kernel_size) / params.stride) + 1)
        for _ in range(params.depth):
            frames = (frames - 1) * params.stride + params.kernel_size
        return math.ceil(frames / rate)

    def forward(self, audio: Tensor) -> Tensor:
        """Estimate the targets.

        Args:
            audio: `(batch, C, time)`, of any length from one sample on.

        Returns:
            `(batch, S, C, time)`.
        """
        batch, channels, length = audio.shape
        # One level for all channels keeps their balance.
        level = Level.of(audio.mean(1, keepdim=True)) if self.params.normalize else None
        x = audio if level is None else level.removed(audio)
        missing = self.valid_length(length) - length
        x = self._unet(functional.pad(x, (missing // 2, missing - missing // 2)))
        x = _middle(x, length)
        x = x if level is None else level.restored(x)
        return x.reshape(batch, self.num_targets, channels, length)

    def _unet(self, x: Tensor) -> Tensor:
        x = self.upsample(x)
        skips = []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        if self.lstm is not None:
            x = self.lstm(x)
        for decode in self.decoder:
            x = decode(x + _middle(skips.pop(), x.shape[-1]))
        resampled: Tensor = self.downsample(x)
        return resampled

    def _down(self, index: int, inputs: int, outputs: int) -> nn.Sequential:
        params = self.params
        layers: list[nn.Module] = [
            nn.Conv1d(inputs, outputs, params.kernel_size, params.stride),
            self._norm(index, outputs),
            nn.GELU() if params.gelu else nn.ReLU(),
        ]
        layers += self._residual(index, outputs, 1)
        layers += self._gate(index, outputs, 0)
        return nn.Sequential(*layers)

    def _up(self, index: int, inputs: int, outputs: int) -> nn.Sequential:
        params = self.params
        layers = [*self._gate(index, inputs, params.context), *self._residual(index, inputs, 2)]
        layers += [nn.ConvTranspose1d(inputs, outputs, params.kernel_size, params.stride)]
        if index > 0:
            layers += [self._norm(index, outputs), nn.GELU() if params.gelu else nn.ReLU()]
        return nn.Sequential(*layers)

    def _gate(self, index: int, channels: int, context: int) -> list[nn.Module]:
        if not self.params.rewrite:
            return []
        outputs = channels * (1 + self.params.glu)
        convolution = nn.Conv1d(channels, outputs, 2 * context + 1, padding=context)
        return [convolution, self._norm(index, outputs), nn.GLU(dim=1) if self.params.glu else nn.ReLU()]

    def _residual(self, index: int, channels: int, mode: int) -> list[nn.Module]:
        params = self.params
        if not params.dconv_mode & mode:
            return []
        return [
            DConv(
                channels,
                compress=params.dconv_comp,
                depth=params.dconv_depth,
                init=params.dconv_init,
                attention=index >= params.dconv_attn,
                lstm=index >= params.dconv_lstm,
            )
        ]

    def _norm(self, index: int, channels: int) -> nn.Module:
        params = self.params
        return nn.GroupNorm(params.norm_groups, channels) if index >= params.norm_starts else nn.Identity()


def _middle(x: Tensor, length: int) -> Tensor:
    """Return the middle of `(..., time)`."""
    start = (x.shape[-1] - length) // 2
    return x[..., start : start + length]
