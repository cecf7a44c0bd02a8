"""The network of `SpectrogramNetVAE`: the latent is in this file, all around it is SimpleNet's and the LSTM's.

Shapes: B batch, C channel, F' band and N' step, the bins and frames that five poolings leave.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_core.errors import ConfigError
from auralflow_core.losses import kl_to_normal
from auralflow_lstm.network import SpectrogramNetLSTM

# Squared, it is the least variance that `kl_to_normal` tells apart; below it the divergence would have no gradient.
_LEAST_DEVIATION = 1e-4


class SpectrogramNetVAE(SpectrogramNetLSTM):
    """U-Net that estimates soft masks: encoder, Gaussian latent, LSTM layers, decoder.

    The encoder's output becomes mean and deviation of a Gaussian. In training the decoder gets a sample of it, and the
    divergence from N(0, 1) is added to the loss; in evaluation it gets the mean, so that a mixture always
    gives the same mask (Kingma and Welling, "Auto-Encoding Variational Bayes", 2014).

    Args:
        args: Positional arguments of `SpectrogramNetLSTM`.
        kl_weight: Weight of the KL divergence in the loss, at least 0.
        kl_warmup_steps: Training steps over which the weight rises from zero, linearly; 0 is full weight from the
            start (Bowman et al., "Generating Sentences from a Continuous Space", 2016, section 3.1, for the idea).
        kwargs: Keyword arguments of `SpectrogramNetLSTM`.

    Raises:
        ConfigError: `kl_weight` or `kl_warmup_steps` is below 0, or an argument of `SpectrogramNetLSTM` is refused.
    """

    loss_term_names: ClassVar[tuple[str, ...]] = ("kl",)
    bottleneck: VariationalBottleneck

    def __init__(self, *args: Any, kl_weight: float = 0.01, kl_warmup_steps: int = 0, **kwargs: Any) -> None:
        for name, value in {"kl_weight": kl_weight, "kl_warmup_steps": kl_warmup_steps}.items():
            if value < 0:
                raise ConfigError(f"{name}: {value:g} is below 0, which would reward divergence; use 0 or more")
        # Set before the base class's constructor, which calls make_bottleneck.
        self.kl_weight = kl_weight
        self.kl_warmup_steps = kl_warmup_steps
        super().__init__(*args, **kwargs)

    def make_bottleneck(self, channels: int, leak_factor: float) -> nn.Module:
        """Return what stands between encoder and decoder: `(B, channels, F', N')` to `(B, 2 * channels, F', N')`."""
        latent = GaussianLatent(channels, self.kl_weight, self.kl_warmup_steps)
        return VariationalBottleneck(latent, super().make_bottleneck(channels, leak_factor))

    @property
    def loss_terms(self) -> dict[str, Tensor]:
        """The weighted KL divergence of the last forward pass, if it was one in training mode."""
        term = self.bottleneck.latent.loss_term
        return {} if term is None else {"kl": term}


class VariationalBottleneck(nn.Module):
    """A latent, and the layers that read it."""

    def __init__(self, latent: GaussianLatent, recurrent: nn.Module) -> None:
        super().__init__()
        self.latent = latent
        self.recurrent = recurrent

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, F', N')` to `(B, 2 * C, F', N')`."""
        y: Tensor = self.recurrent(self.latent(x))
        return y


class GaussianLatent(nn.Module):
    """A diagonal Gaussian for each cell of an encoded spectrogram; samples in training, gives the mean in evaluation.

    Args:
        channels: Channels C, of the encoder and of the latent.
        kl_weight: Weight of the divergence in `loss_term`.
        kl_warmup_steps: Training passes over which the weight rises to that.

    Attributes:
        loss_term: Weighted divergence of the last pass, a scalar; none after a pass in evaluation mode.
        passes: Number of training passes so far, a scalar; a buffer, so that a resumed warm-up goes on where it was.
    """

    passes: Tensor

    def __init__(self, channels: int, kl_weight: float, kl_warmup_steps: int) -> None:
        super().__init__()
        self.mean = nn.Conv2d(channels, channels, kernel_size=1)
        self.deviation = nn.Conv2d(channels, channels, kernel_size=1)
        self.kl_weight = kl_weight
        self.kl_warmup_steps = kl_warmup_steps
        self.loss_term: Tensor | None = None
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, F', N')` to a latent of the same shape."""
        mean, deviation = self.distribution(x)
        if not self.training:
            self.loss_term = None
            return mean
        self.loss_term = self._weight() * kl_to_normal(mean, deviation)
        self.passes += 1
        return mean + deviation * torch.randn_like(mean)

    def distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of p(z | x), each `(B, C, F', N')`, in float32 at least.

        Half precision has too few digits for the divergence's differences and logarithms.
        """
        mean, raw = self.mean(x), self.deviation(x)
        if mean.dtype in (torch.float16, torch.bfloat16):
            mean, raw = mean.float(), raw.float()
        # softplus rather than exp: an outlier raises the deviation linearly, and cannot overflow.
        return mean, functional.softplus(raw) + _LEAST_DEVIATION

    def _weight(self) -> Tensor | float:
        if self.kl_warmup_steps == 0:
            return self.kl_weight
        return self.kl_weight * (self.passes / self.kl_warmup_steps).clamp(max=1)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to one pass: a tensor inside a graph can neither be copied nor pickled."""
        return {**self.__dict__, "loss_term": None}
