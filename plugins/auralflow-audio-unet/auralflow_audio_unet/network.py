"""The networks of `UNetAudio`, `UNetRecurrentAudio` and `UNetVAEAudio`, whole in this file.

Shapes: B batch, T target, C channel, L sample, H hidden channel, N frame of a level.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_core.errors import ConfigError
from auralflow_core.losses import kl_to_normal

# Below this level in full scale (-120 dB) audio counts as silence and is not amplified to unit level.
_SILENCE = 1e-6
# The head starts with this share of its usual weights, so that an estimate starts as about the mixture.
_HEAD_GAIN = 0.1


class UNetAudio(nn.Module):
    """U-Net from audio to audio (Stoller et al., "Wave-U-Net", 2018; Défossez et al., "Demucs", 2019).

    Each level on the way down is a strided convolution and a pointwise one, each on the way up a convolution of three
    frames and a transposed one that undoes the stride, with the level's frames from the way down added. The head's
    output is a correction to an equal share of the mixture, small at first, so training starts from the mixture's phase
    and not from noise.

    Any length goes in: audio is padded with zeros to whole frames of the deepest level, and the estimates are cut
    back. Every convolution is padded alike at both ends, so sample t of an estimate belongs to sample t of the mixture.
    The mixture is brought to unit level and the estimates back from it, so they follow its level, down to silence.

    Args:
        num_channels: Channels C: 1 for mono, 2 for stereo.
        hidden_channels: Hidden channels of the first level.
        depth: Number of levels.
        kernel_size: Length of the strided convolutions; `kernel_size - stride` is even and not negative.
        stride: Stride of each level.
        growth: Ratio of the hidden channels of two levels.
        glu: Whether convolutions without stride end in gated linear units (Dauphin et al., 2017); else in LeakyReLU.
        leak_factor: Slope below zero of LeakyReLU.
        num_targets: Number of estimates T.
        num_fft_bins: Not used; every network is told.
        num_frames: Not used.
        sample_rate: Not used.

    Raises:
        ConfigError: `kernel_size` does not fit `stride`.
    """

    def __init__(
        self,
        num_channels: int = 1,
        hidden_channels: int = 24,
        depth: int = 5,
        kernel_size: int = 8,
        stride: int = 4,
        growth: float = 2.0,
        glu: bool = True,
        leak_factor: float = 0.2,
        *,
        num_targets: int = 1,
        num_fft_bins: int | None = None,
        num_frames: int | None = None,
        sample_rate: int | None = None,
    ) -> None:
        super().__init__()
        if kernel_size < stride or (kernel_size - stride) % 2:
            raise ConfigError(
                f"kernel_size {kernel_size} minus stride {stride} is neither 0 nor a positive even number: estimates "
                "would be shifted or incomplete; twice the stride is usual"
            )
        self.num_targets = num_targets
        self.frame = stride**depth
        widths = [round(hidden_channels * growth**level) for level in range(depth)]
        above = [num_channels, *widths]
        outputs = [num_targets * num_channels, *widths]
        self.width = widths[-1]
        self.encoder = nn.ModuleList(
            EncoderBlock(before, after, kernel_size, stride, glu, leak_factor)
            for before, after in zip(above, widths, strict=False)
        )
        self.decoder = nn.ModuleList(
            DecoderBlock(before, after, kernel_size, stride, glu, leak_factor, is_head=level == 0)
            for level, (before, after) in enumerate(zip(widths, outputs, strict=False))
        )

    def forward(self, audio: Tensor) -> Tensor:
        """Estimate the targets.

        Args:
            audio: `(B, C, L)` in [-1, 1], of any length from one sample on.

        Returns:
            `(B, T, C, L)`; with one target `(B, C, L)`.
        """
        length = audio.shape[-1]
        level = root_mean_square(audio)
        mixture = audio / level.clamp_min(_SILENCE)
        x = functional.pad(mixture, (0, -length % self.frame))
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        x = self.bottleneck(skips.pop())
        for block, skip in zip(reversed(self.decoder), [None, *reversed(skips)], strict=True):
            x = block(x if skip is None else x + skip)
        correction = x[..., :length].reshape(audio.shape[0], self.num_targets, -1, length)
        estimates: Tensor = (correction + mixture.unsqueeze(1) / self.num_targets) * level.unsqueeze(1)
        return estimates.squeeze(1) if self.num_targets == 1 else estimates

    def bottleneck(self, x: Tensor) -> Tensor:
        """Map the deepest level's `(B, H, N)` to what the decoder starts from, of the same shape."""
        return x


class UNetRecurrentAudio(UNetAudio):
    """`UNetAudio` whose deepest level passes a stack of bidirectional LSTM layers over time, as Demucs' does.

    Args:
        *args: As of `UNetAudio`.
        recurrent_depth: Number of layers.
        hidden_size: Hidden features of a layer and direction.
        **kwargs: As of `UNetAudio`.
    """

    def __init__(self, *args: Any, recurrent_depth: int = 2, hidden_size: int = 256, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lstm = nn.LSTM(self.width, hidden_size, recurrent_depth, batch_first=True, bidirectional=True)
        self.projection = nn.Linear(2 * hidden_size, self.width)

    def bottleneck(self, x: Tensor) -> Tensor:
        """Add what the LSTM layers make of `(B, H, N)`."""
        hidden, _ = self.lstm(x.transpose(1, 2))  # (B, N, 2 * hidden_size)
        recurrent: Tensor = self.projection(hidden)
        return x + recurrent.transpose(1, 2)


class UNetVAEAudio(UNetAudio):
    """`UNetAudio` whose deepest level is a Gaussian latent (Kingma and Welling, 2014).

    The latent is sampled in training and is its mean in evaluation. Its KL divergence from N(0, 1), in nats an
    element, is the loss term `kl`.

    Args:
        *args: As of `UNetAudio`.
        latent_channels: Channels of the latent.
        kl_weight: Weight of the KL divergence in the loss.
        kl_warmup_steps: Training steps over which that weight rises from zero, linearly; 0 starts with all of it.
        **kwargs: As of `UNetAudio`.
    """

    loss_term_names: ClassVar[tuple[str, ...]] = ("kl",)
    steps: Tensor

    def __init__(
        self,
        *args: Any,
        latent_channels: int = 64,
        kl_weight: float = 0.01,
        kl_warmup_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.moments = nn.Conv1d(self.width, 2 * latent_channels, kernel_size=1)
        self.from_latent = nn.Conv1d(latent_channels, self.width, kernel_size=1)
        self.kl_weight = kl_weight
        self.kl_warmup_steps = kl_warmup_steps
        self.loss_terms: dict[str, Tensor] = {}
        # Part of the state: a resumed training goes on with the weight that it stopped at.
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def bottleneck(self, x: Tensor) -> Tensor:
        """Map `(B, H, N)` through the latent; leave the KL term in `loss_terms` while training."""
        mean, spread = self.moments(x).chunk(2, dim=1)
        latent, self.loss_terms = mean, {}
        if self.training:
            deviation = functional.softplus(spread)
            latent = mean + deviation * torch.randn_like(deviation)
            self.loss_terms = {"kl": self._weight() * kl_to_normal(mean.float(), deviation.float())}
            self.steps += 1
        decoded: Tensor = self.from_latent(latent)
        return decoded

    def _weight(self) -> Tensor:
        # Made of the buffer on its device, so that no step waits for the GPU.
        reached = self.steps / self.kl_warmup_steps if self.kl_warmup_steps else torch.ones_like(self.steps)
        weight: Tensor = self.kl_weight * reached.clamp(max=1)
        return weight


class EncoderBlock(nn.Module):
    """One level of the way down: a strided convolution, then a pointwise one."""

    def __init__(self, before: int, after: int, kernel_size: int, stride: int, glu: bool, leak_factor: float) -> None:
        super().__init__()
        self.down = nn.Conv1d(before, after, kernel_size, stride, padding=(kernel_size - stride) // 2)
        self.activation = nn.LeakyReLU(leak_factor)
        self.mix = _mixing(after, 1, glu, leak_factor)
        _initialise(self.down)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, before, stride * N)` to `(B, after, N)`."""
        mixed: Tensor = self.mix(self.activation(self.down(x)))
        return mixed


class DecoderBlock(nn.Module):
    """One level of the way up: a convolution over three frames, then a transposed one that undoes the stride."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel_size: int,
        stride: int,
        glu: bool,
        leak_factor: float,
        *,
        is_head: bool,
    ) -> None:
        super().__init__()
        self.mix = _mixing(before, 3, glu, leak_factor)
        self.up = nn.ConvTranspose1d(before, after, kernel_size, stride, padding=(kernel_size - stride) // 2)
        self.activation = nn.Identity() if is_head else nn.LeakyReLU(leak_factor)
        _initialise(self.up, _HEAD_GAIN if is_head else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, before, N)` to `(B, after, stride * N)`."""
        raised: Tensor = self.activation(self.up(self.mix(x)))
        return raised


def root_mean_square(audio: Tensor) -> Tensor:
    """Return the level `(B, 1, 1)` of `(B, C, L)`, over channels and time, with a gradient of 0 at silence."""
    count = audio.shape[-2] * audio.shape[-1]
    norm: Tensor = torch.linalg.vector_norm(audio, dim=(-2, -1), keepdim=True)
    return norm / math.sqrt(count)


def _mixing(width: int, kernel_size: int, glu: bool, leak_factor: float) -> nn.Sequential:
    """Return a convolution that keeps `(B, width, N)`, with its activation."""
    convolution = nn.Conv1d(width, 2 * width if glu else width, kernel_size, padding=kernel_size // 2)
    _initialise(convolution)
    return nn.Sequential(convolution, nn.GLU(dim=1) if glu else nn.LeakyReLU(leak_factor))


def _initialise(convolution: nn.Conv1d | nn.ConvTranspose1d, gain: float = 1.0) -> None:
    """Draw weights that keep the signal's variance through a ReLU-like activation (He et al., 2015, eq. 10).

    With torch's own, smaller weights and no normalization layers, the deepest levels start with hardly any signal.
    """
    fan_in = convolution.in_channels * convolution.kernel_size[0]
    if isinstance(convolution, nn.ConvTranspose1d):
        fan_in //= convolution.stride[0]  # so many inputs reach an output sample
    nn.init.normal_(convolution.weight, std=gain * math.sqrt(2 / fan_in))
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
