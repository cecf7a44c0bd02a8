"""The network of `SpectrogramNetSimple`, whole in this file.

Shapes: B batch, T target, C channel, F bin, N frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_core.transforms import mask_activation

LEVELS = 5
CONVOLUTIONS = 3

# Magnitudes span some 100 dB. Their logarithm spreads quiet bins over the range that the first layer sees; the
# floor keeps silence finite, and the two constants bring ordinary music to about zero mean and unit variance.
_MAGNITUDE_FLOOR = 1e-3
_LOG_SHIFT = 1.0


class SpectrogramNetSimple(nn.Module):
    """U-Net that estimates soft masks from magnitude spectrograms (Jansson et al., ISMIR 2017, for the idea).

    Five levels of three 3x3 convolutions each, halved by max pooling on the way down and doubled by transposed 5x5
    convolutions on the way up, with skip connections. Any number of bins and frames goes in: pooling rounds up, and the
    way up is cut to the size of its skip connection.

    Args:
        num_fft_bins: Number of frequency bins F.
        num_frames: Number of frames in training; any number is accepted.
        num_channels: 1 for mono, 2 for stereo.
        hidden_channels: Channels of the first level; each level has twice as many.
        mask_act_fn: Activation that makes the mask, see `auralflow_core.transforms.mask_activation`.
        leak_factor: Slope below zero of LeakyReLU in hidden layers; 0 takes SELU instead.
        dropout_p: Dropout probability of whole channels in the decoder, below its two finest levels.
        normalize_input: Whether to learn a shift and a scale for each input bin.
        normalize_output: Whether to learn a shift and a scale for each output bin.
        device: Device of the parameters.
        num_targets: Number of masks T.
        sample_rate: Not used; every network is told.
    """

    def __init__(
        self,
        num_fft_bins: int,
        num_frames: int,
        num_channels: int = 1,
        hidden_channels: int = 16,
        mask_act_fn: str = "sigmoid",
        leak_factor: float = 0,
        dropout_p: float = 0.5,
        normalize_input: bool = False,
        normalize_output: bool = False,
        device: str | None = None,
        *,
        num_targets: int = 1,
        sample_rate: int | None = None,
    ) -> None:
        super().__init__()
        self.num_targets = num_targets
        widths = [hidden_channels * 2**level for level in range(LEVELS)]
        self.input_norm = BinNorm(num_fft_bins) if normalize_input else nn.Identity()
        self.encoder = nn.ModuleList(
            _convolutions(before, after, leak_factor)
            for before, after in zip([num_channels, *widths], widths, strict=False)
        )
        self.bottleneck = self.make_bottleneck(widths[-1], leak_factor)
        self.decoder = nn.ModuleList(
            DecoderBlock(2 * width, width, leak_factor, dropout_p if level >= 2 else 0.0)
            for level, width in enumerate(widths)
        )
        self.head = nn.Conv2d(hidden_channels, num_targets * num_channels, kernel_size=1)
        self.output_norm = BinNorm(num_fft_bins) if normalize_output else nn.Identity()
        self.mask_activation = mask_activation(mask_act_fn, leak_factor)
        self.to(device)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def make_bottleneck(self, channels: int, leak_factor: float) -> nn.Module:
        """Return what stands between encoder and decoder: `(B, channels, F', N')` to `(B, 2 * channels, F', N')`."""
        return _convolutions(channels, 2 * channels, leak_factor)

    def forward(self, data: Tensor) -> Tensor:
        """Estimate masks.

        Args:
            data: Magnitudes `(B, C, F, N)`, not negative.

        Returns:
            Masks `(B, T, C, F, N)`; with one target `(B, C, F, N)`.
        """
        x = self.input_norm(compress(data))
        # Convolutions on the CPU are nearly twice as fast in this layout.
        x = x.contiguous(memory_format=torch.channels_last)
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2, ceil_mode=True)
        x = self.bottleneck(x)
        for block, skip in zip(reversed(self.decoder), reversed(skips), strict=True):
            x = block(x, skip)
        x = self.output_norm(self.head(x))
        mask: Tensor = self.mask_activation(x.unflatten(1, (self.num_targets, -1)))
        return mask.squeeze(1) if self.num_targets == 1 else mask


class DecoderBlock(nn.Module):
    """One level of the way up: twice the size, joined with the skip connection, convolved."""

    def __init__(self, before: int, after: int, leak_factor: float, dropout_p: float) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(before, after, kernel_size=5, stride=2, padding=2, output_padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.convolutions = _convolutions(2 * after, after, leak_factor)
        self.dropout = nn.Dropout2d(dropout_p)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map `(B, before, F', N')` and the skip `(B, after, F, N)` to `(B, after, F, N)`."""
        bins, frames = skip.shape[-2:]
        x = self.norm(self.up(x)[..., :bins, :frames])
        x = self.dropout(self.convolutions(torch.cat([x, skip], dim=1)))
        return x


class BinNorm(nn.Module):
    """(x - centre) * scale, learned for each bin."""

    def __init__(self, num_bins: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(num_bins, 1))
        self.scale = nn.Parameter(torch.ones(num_bins, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, F, N)` to the same shape."""
        return (x - self.centre) * self.scale


def compress(magnitude: Tensor) -> Tensor:
    """Return log10 magnitudes, shifted towards zero mean."""
    return torch.log10(magnitude + _MAGNITUDE_FLOOR) + _LOG_SHIFT


def _convolutions(before: int, after: int, leak_factor: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(CONVOLUTIONS):
        layers += [
            nn.Conv2d(before if number == 0 else after, after, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(leak_factor, inplace=True) if leak_factor > 0 else nn.SELU(inplace=True),
        ]
    return nn.Sequential(*layers)
