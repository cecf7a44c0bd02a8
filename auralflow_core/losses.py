"""The values of `criterion`: what training makes small.

Each loss is called with a `Prediction`. In the formulas M is the mask, X the mixture's magnitudes, Y the target's
and R = X - Y the residual's; means run over every element unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from auralflow_core.errors import ConfigError
from auralflow_core.transforms import STFT

# Under the square root and in divisions: silence (a norm of 0) must keep a finite gradient.
_EPSILON = 1e-8


class Prediction(Protocol):
    """What a loss can look at; each part is computed when it is first asked for.

    Spectrograms are magnitudes `(batch, target, channel, bin, frame)`, audio is `(batch, target, channel, time)`.
    `terms` holds the network's own loss terms by name.
    """

    terms: dict[str, Tensor]

    @property
    def mask(self) -> Tensor: ...  # noqa: D102
    @property
    def mixture_magnitude(self) -> Tensor: ...  # noqa: D102 - target axis of length one
    @property
    def target_magnitude(self) -> Tensor: ...  # noqa: D102
    @property
    def estimate_magnitude(self) -> Tensor: ...  # noqa: D102
    @property
    def estimate_audio(self) -> Tensor: ...  # noqa: D102
    @property
    def target_audio(self) -> Tensor: ...  # noqa: D102


class Criterion(nn.Module):
    """Base of the losses; `needs_mask` and `needs_terms` let an unfit model be refused before training."""

    needs_mask = False
    needs_terms: tuple[str, ...] = ()

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the scalar loss of a batch."""
        raise NotImplementedError


class L1Loss(Criterion):
    """mean |estimate - Y|."""

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the scalar loss of a batch."""
        return (prediction.estimate_magnitude - prediction.target_magnitude).abs().mean()


class L2Loss(Criterion):
    """mean (estimate - Y)^2."""

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the scalar loss of a batch."""
        return (prediction.estimate_magnitude - prediction.target_magnitude).square().mean()


class RMSELoss(Criterion):
    """sqrt(mean (estimate - Y)^2)."""

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the scalar loss of a batch."""
        error = (prediction.estimate_magnitude - prediction.target_magnitude).square().mean()
        return (error + _EPSILON).sqrt()


class MaskLoss(Criterion):
    """mean |M - Y / X|, the ideal ratio clamped to [0, 1] (Wang et al., "On Training Targets", 2014, eq. 3)."""

    needs_mask = True

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the scalar loss of a batch."""
        ideal = prediction.target_magnitude / prediction.mixture_magnitude.clamp_min(_EPSILON)
        return (prediction.mask - ideal.clamp(0, 1)).abs().mean()


class ComponentLoss(Criterion):
    """(1 - alpha - beta) (MY - Y)^2 + alpha (MR)^2 + beta (MR/|MR| - R/|R|)^2, summed parts averaged.

    The first part is what the mask takes from the target, the second what it lets through of the residual, the
    third how unlike the residual that rest sounds (Xu et al., "Components Loss for Neural Networks in Mask-Based
    Speech Enhancement", 2019, eq. 7 to 10). Norms are taken for each item, target and channel.

    Args:
        alpha_constant: Weight of the residual's level, in [0, 1].
        beta_constant: Weight of the residual's shape, in [0, 1]; alpha + beta < 1.
    """

    needs_mask = True

    def __init__(self, alpha_constant: float = 0.2, beta_constant: float = 0.2) -> None:
        super().__init__()
        if alpha_constant + beta_constant >= 1:
            raise ConfigError(
                f"alpha_constant {alpha_constant:g} + beta_constant {beta_constant:g} is not below 1: the target's "
                "own term would get no weight; lower one of them"
            )
        self.alpha, self.beta = alpha_constant, beta_constant

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the scalar loss of a batch."""
        mask, target = prediction.mask, prediction.target_magnitude
        residual = prediction.mixture_magnitude - target
        passed = mask * residual
        distortion = (mask * target - target).square().mean()
        level = passed.square().mean()
        shape = (_unit(passed) - _unit(residual)).square().sum(dim=(-2, -1)).mean()
        return (1 - self.alpha - self.beta) * distortion + self.alpha * level + self.beta * shape


class KLDivergenceLoss(L1Loss):
    """l1; the KL divergence of a variational network is one of its own terms, which every loss gets added.

    The name stands for "reconstruction plus KL" as in variational autoencoders; a network without such a term is
    refused, since it would silently train with l1 alone. `kl_to_normal` is the term's formula.
    """

    needs_terms = ("kl",)


class SISDRLoss(Criterion):
    """-mean SI-SDR in dB, over items, targets and channels."""

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the scalar loss of a batch."""
        return -si_sdr(prediction.estimate_audio, prediction.target_audio).mean()


class LogL1Loss(Criterion):
    """mean of 10 log10(mean |estimate - target|) in dB of audio, over items and targets.

    A quiet target weighs as much as a loud one (Guso et al., "On Loss Functions and Evaluation Metrics for Music Source
    Separation", 2022, section 2).
    """

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the scalar loss of a batch."""
        error = (prediction.estimate_audio - prediction.target_audio).abs().mean(dim=(-2, -1))
        return 10 * torch.log10(error + _EPSILON).mean()


class ComplexMSELoss(Criterion):
    """mean |E - T|^2 of complex spectra, so that a wrong phase costs as a wrong magnitude does.

    Args:
        num_fft: FFT length in samples; the hop is a quarter of it.
    """

    def __init__(self, num_fft: int = 2048) -> None:
        super().__init__()
        self.stft = _stft(num_fft)

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the scalar loss of a batch."""
        error: Tensor = self.stft(prediction.estimate_audio - prediction.target_audio)
        return torch.view_as_real(error).square().sum(-1).mean()


class MultiResolutionSTFTLoss(Criterion):
    """Spectral convergence |T - E| / |T| plus mean |ln T - ln E| of magnitudes, averaged over FFT lengths.

    (Yamamoto et al., "Parallel WaveGAN", 2020, eq. 4 to 6.) Norms are taken for each item and target; a silent target
    has no convergence, only its logarithms count.

    Args:
        num_ffts: FFT lengths in samples; each hop is a quarter of its length.
    """

    def __init__(self, num_ffts: Sequence[int] = (512, 1024, 2048)) -> None:
        super().__init__()
        if not num_ffts:
            raise ConfigError("num_ffts is empty; name at least one FFT length")
        self.stfts = nn.ModuleList(_stft(num_fft) for num_fft in num_ffts)

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the scalar loss of a batch."""
        losses = [self._at(stft, prediction.estimate_audio, prediction.target_audio) for stft in self.stfts]
        return torch.stack(losses).mean()

    def _at(self, stft: nn.Module, estimate_audio: Tensor, target_audio: Tensor) -> Tensor:
        estimate, target = stft(estimate_audio).abs(), stft(target_audio).abs()
        size = target.square().sum(dim=(-3, -2, -1)).sqrt()  # (batch, target)
        error = ((target - estimate).square().sum(dim=(-3, -2, -1)) + _EPSILON).sqrt()
        convergence = torch.where(size > 0, error / size.clamp_min(_EPSILON), 0.0).mean()
        logarithms = (_log(target) - _log(estimate)).abs().mean()
        return convergence + logarithms


class QuantileLoss(Criterion):
    """Mean squared error of audio over those items of each target that lie within a quantile of it.

    The worst items, whose stems are often labelled wrongly, are left out. An item on the quantile itself counts, so
    that one item alone has a loss.

    Args:
        quantile: The share of items that count, in (0, 1].
    """

    def __init__(self, quantile: float = 0.95) -> None:
        super().__init__()
        if not 0 < quantile <= 1:
            raise ConfigError(f"quantile {quantile:g} is not above 0 and up to 1")
        self.quantile = quantile

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the scalar loss of a batch."""
        errors = (prediction.estimate_audio - prediction.target_audio).square().mean(dim=(-2, -1))  # (batch, target)
        limits = torch.quantile(errors.detach(), self.quantile, dim=0, keepdim=True)
        kept = errors.detach() <= limits
        return (errors * kept).sum() / kept.sum()


class WeightedSum(Criterion):
    """Sum of weight times loss.

    Args:
        terms: Weights and losses.
    """

    def __init__(self, terms: Sequence[tuple[float, Criterion]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in terms]
        self.losses = nn.ModuleList(loss for _, loss in terms)
        self.needs_mask = any(loss.needs_mask for _, loss in terms)
        self.needs_terms = tuple(dict.fromkeys(name for _, loss in terms for name in loss.needs_terms))

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the scalar loss of a batch."""
        return torch.stack(
            [weight * loss(prediction) for weight, loss in zip(self.weights, self.losses, strict=True)]
        ).sum()


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Return the scale-invariant SDR in dB of `(..., time)`, of shape `(...)`.

    10 log10(|a t|^2 / |a t - e|^2) with a = <e, t> / <t, t>, bounded for silence by a small constant
    (Le Roux et al., "SDR - Half-Baked or Well Done?", 2019, eq. 3).
    """
    scale = (estimate * target).sum(-1, keepdim=True) / (target.square().sum(-1, keepdim=True) + _EPSILON)
    projection = scale * target
    signal = projection.square().sum(-1)
    noise = (projection - estimate).square().sum(-1)
    return 10 * torch.log10((signal + _EPSILON) / (noise + _EPSILON))


def kl_to_normal(mean: Tensor, deviation: Tensor) -> Tensor:
    """Return the mean KL divergence of N(mean, deviation^2) from N(0, 1), in nats an element.

    1/2 mean(mu^2 + s^2 - ln s^2 - 1) (Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, appendix B).
    """
    variance = deviation.square()
    return 0.5 * (mean.square() + variance - variance.clamp_min(_EPSILON).log() - 1).mean()


def _stft(num_fft: int) -> STFT:
    return STFT(num_fft, num_fft, max(1, num_fft // 4))


def _log(magnitude: Tensor) -> Tensor:
    # -100 dB: what lies below is heard by nobody and would outweigh the rest.
    return magnitude.clamp_min(1e-5).log()


def _unit(magnitude: Tensor) -> Tensor:
    norm = (magnitude.square().sum(dim=(-2, -1), keepdim=True) + _EPSILON).sqrt()
    return magnitude / norm
